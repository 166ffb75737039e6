"""What a source of pictures is, and decoding one in threads, in order, in little memory."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from gan_core.images import U8
from gan_serve.terminal import console
from gan_trainer.data.transforms import BrokenImageError, prepare

I64 = npt.NDArray[np.int64]

CHUNK = 32
"""Pictures a worker decodes in one go: enough to make the hand-over cheap, 1.5 MB at 128x128 RGB."""

BAR_AFTER_S = 1.0


class Source(Protocol):
    """Pictures in a fixed order, with or without classes."""

    name: str
    """For people, and for the cache's file names."""
    place: str
    """Where the pictures come from: two states of one source share it."""
    natural_size: int
    """The size of a data set that was asked for without one."""
    unreadable: tuple[tuple[str, str], ...]
    """(name, reason) of what is known to be lost before any decoding."""
    notes: tuple[str, ...]
    """Lines for people about what the source leaves out, and where its classes come from."""

    def __len__(self) -> int: ...
    def identity(self) -> str:
        """A hex digest that changes whenever the pixels or labels could; cheap next to decoding."""

    def natural_channels(self) -> int:
        """1 (grey) or 3 (RGB)."""

    def load(self) -> tuple[I64 | None, tuple[str, ...]]:
        """Reads what `image` needs; returns the class index of every item and the classes' names, or (None, ())."""

    def image(self, index: int) -> Image.Image:
        """Item `index`. Called from several threads. Raises `BrokenImageError`."""

    def item_name(self, index: int) -> str: ...


@dataclass(frozen=True)
class Chunk:
    """Some consecutive items: the pixels of those that are usable, their indices, and (name, reason) of the others."""

    pixels_NHWC: U8  # noqa: N815
    kept: list[int]
    broken: list[tuple[str, str]]
    items: int


Arrays = tuple[U8, I64 | None, tuple[str, ...]]
"""Pixels (N, H, W) grey or (N, H, W, 3) RGB, labels (N,), class names."""


class ArraySource:
    """Pictures that come as one array, as a `Source`. `read` is called once, when they are needed.

    `length` and `channels` must be known without reading; `size` is the natural one.
    """

    def __init__(
        self, name: str, place: str, identity: str, read: Callable[[], Arrays], *, length: int, channels: int, size: int
    ) -> None:
        self.name, self.place, self.natural_size = name, place, size
        self.unreadable: tuple[tuple[str, str], ...] = ()
        self.notes: tuple[str, ...] = ()
        self._identity, self._read, self._length, self._channels = identity, read, length, channels
        self._pixels: U8 | None = None

    def __len__(self) -> int:
        return self._length if self._pixels is None else len(self._pixels)

    def identity(self) -> str:
        return self._identity

    def natural_channels(self) -> int:
        return self._channels

    def load(self) -> tuple[I64 | None, tuple[str, ...]]:
        self._pixels, labels, class_names = self._read()
        return labels, class_names

    def image(self, index: int) -> Image.Image:
        assert self._pixels is not None, "load() comes first"
        return Image.fromarray(self._pixels[index])

    def item_name(self, index: int) -> str:
        return f"image {index}"


def decode(source: Source, size: int, channels: int) -> Iterator[Chunk]:
    """All items of `source` as chunks of pixels (n, size, size, channels), in order.

    A pool of threads works a few chunks ahead, so memory does not grow with the source: Pillow lets go of
    Python's lock while it decodes and resizes. Call `source.load()` before, and be inside `quiet_pillow`.
    """
    workers = min(8, os.cpu_count() or 1)
    ahead: deque[Future[Chunk]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for start in range(0, len(source), CHUNK):
                ahead.append(pool.submit(_decode_chunk, source, range(start, start + CHUNK), size, channels))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def with_progress(chunks: Iterable[Chunk], total: int, label: str) -> Iterator[Chunk]:
    """Passes `chunks` on, with a progress bar over `total` items once it has taken a second."""
    started = time.monotonic()
    done = 0
    with contextlib.ExitStack() as stack:
        bar = None
        for chunk in chunks:
            yield chunk
            done += chunk.items
            if bar is not None:
                bar.update(chunk.items)
            elif time.monotonic() - started > BAR_AFTER_S:
                bar = stack.enter_context(console.progress(total, label))
                bar.update(done)


def _decode_chunk(source: Source, indices: range, size: int, channels: int) -> Chunk:
    indices = range(indices.start, min(indices.stop, len(source)))
    pixels_NHWC = np.empty((len(indices), size, size, channels), np.uint8)
    kept: list[int] = []
    broken: list[tuple[str, str]] = []
    for index in indices:
        try:
            pixels_NHWC[len(kept)] = prepare(source.image(index), size, channels)
        except BrokenImageError as error:
            broken.append((source.item_name(index), str(error)))
        except (ValueError, OSError, MemoryError) as error:  # a mode that Pillow cannot convert
            broken.append((source.item_name(index), f"cannot be converted: {error}"))
        else:
            kept.append(index)
    return Chunk(pixels_NHWC[: len(kept)], kept, broken, len(indices))
