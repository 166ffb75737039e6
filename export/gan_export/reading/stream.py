"""Bytes as a file that never gives, or allocates, more than there is."""

from __future__ import annotations

import io
from typing import IO, cast

from gan_core.errors import GanportError
from gan_core.files.archive import HINT


class Stream:
    """A memoryview as a file for `pickletools` and `tarfile`."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.position = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self.data) if size < 0 else min(len(self.data), self.position + size)
        block = self.data[self.position : end].tobytes()
        self.position = end
        return block

    def readline(self, size: int | None = -1) -> bytes:  # noqa: ARG002
        parts = []
        while block := self.read(256):
            head, newline, _ = block.partition(b"\n")
            parts.append(head + newline)
            if newline:
                self.position -= len(block) - len(head) - 1
                break
        return b"".join(parts)

    def tell(self) -> int:
        return self.position

    def as_file(self) -> IO[bytes]:
        """Itself: all that `pickletools` and `tarfile` use of a file is here."""
        return cast("IO[bytes]", self)

    def take(self, size: int) -> memoryview:
        """The next `size` bytes, not copied. Raises `GanportError` when there are fewer."""
        left = len(self.data) - self.position
        if not 0 <= size <= left:
            raise GanportError(
                f"it claims {size:,} bytes of numbers, the file has {left:,} left: cut short or forged", hint=HINT
            )
        block = self.data[self.position : self.position + size]
        self.position += size
        return block

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: len(self.data)}[whence]
        self.position = max(0, base + offset)
        return self.position
