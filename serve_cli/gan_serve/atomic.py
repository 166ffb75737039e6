"""Files that are written whole or not at all.

Everything ganport leaves on disk goes through `atomic_path`: the bytes go to a hidden neighbour in the
same folder, are flushed to the disk, and take the final name in one rename. A crash, a kill or a
full disk leaves the old file (or none), never half of the new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from gan_serve.errors import GanportError


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str], *, sync: bool = True) -> Iterator[Path]:
    """Yields a temporary path with the target's suffix; on success it becomes `target`.

    `sync` False leaves the flush to the operating system: whole still when the process dies, for the many files of
    a folder. The parent folder is created. On any exception the temporary file is deleted and the target stays as
    it was. Raises `GanportError` when the folder cannot be made or written, the target is a folder, or the disk is
    full; other exceptions from the body pass through.
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        with explain_os_errors(target):
            if target.is_dir():
                raise GanportError(
                    f"{target} is a folder, expected a file name", hint=f"name a file in it: {target}/NAME"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            hidden = target.with_name(f".{target.stem}.{_token()}{target.suffix}")
            os.close(_create(hidden))
            temporary = hidden
            yield temporary
            if sync:
                with temporary.open("rb+") as written:
                    os.fsync(written.fileno())
            temporary.replace(target)
            temporary = None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(target: str | os.PathLike[str], data: bytes, *, sync: bool = True) -> None:
    """Writes `data` to `target`, whole or not at all. Takes `sync` and raises as `atomic_path` does."""
    with atomic_path(target, sync=sync) as temporary:
        temporary.write_bytes(data)


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Writes `text` to `target` as UTF-8, whole or not at all. Raises as `atomic_path` does."""
    write_bytes(target, text.encode("utf-8"))


class WholeFiles:
    """Writes many files into one existing folder, each whole or not at all; from several threads at a time.

    As `write_bytes` with sync False (whole when the process dies; a power cut may take the last ones), but without
    what that looks up for each file anew: a third of its time. What a killed process leaves is hidden, as there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._token = _token()

    def write(self, name: str, data: bytes) -> None:
        """Writes the file `name` in the folder, over an older one. Raises as `atomic_path` does."""
        target = os.path.join(self._folder, name)  # noqa: PTH118 (a Path costs as much as the rename)
        temporary = os.path.join(self._folder, f".{self._token}.{name}")  # noqa: PTH118
        try:
            handle = _create(temporary)
            try:
                try:
                    rest = memoryview(data)
                    while rest:
                        rest = rest[os.write(handle, rest) :]
                finally:
                    os.close(handle)
                os.replace(temporary, target)  # noqa: PTH105
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)  # noqa: PTH108
                raise
        except OSError:
            with explain_os_errors(Path(target)):
                raise


@contextlib.contextmanager
def explain_os_errors(target: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write `target` into a `GanportError` with a hint."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise GanportError(
                f"no room to write {target}: {os.strerror(error.errno)}",
                hint="free some disk space, or write elsewhere",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise GanportError(
                f"cannot write {target}: {os.strerror(error.errno)}", hint="choose a folder you may write to"
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EISDIR):
            # mkdir says EEXIST of a file that stands where the folder should be.
            reason = os.strerror(errno.ENOTDIR if error.errno == errno.EEXIST else error.errno)
            raise GanportError(f"cannot write {target}: {reason}", hint="choose another path") from error
        if error.errno == errno.ENOENT and _is_place_of(error.filename, target):
            raise GanportError(
                f"cannot write {target}: {os.strerror(error.errno)}", hint="choose another path"
            ) from error
        raise


def _is_place_of(path: object, target: Path) -> bool:
    """Whether what is missing is a folder of `target` or its hidden neighbour, not some file that was to be read."""
    if not isinstance(path, str | os.PathLike):
        return False
    missing = Path(path)
    return missing in target.parents or (missing.parent == target.parent and missing.name.startswith("."))


def _create(path: str | Path) -> int:
    """A new file, with the permissions that an ordinary one has; its handle. (tempfile, imported, costs 5 ms.)"""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _token() -> str:
    """What keeps the hidden files of two writers apart."""
    return os.urandom(4).hex()
