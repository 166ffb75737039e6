"""One PNG per image, in a folder: threads encode and write while the next batches are drawn.

Memory stays flat: at most a few batches wait. Each file is written whole; a run that is stopped leaves the files that
it finished, and running it again writes them again (a file says in its text which model and seed it is).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gan_core import png
from gan_core.cores import usable_cores
from gan_core.files.atomic import WholeFiles, explain_os_errors
from gan_serve.gen.plan import Plan
from gan_serve.gen.targets import require_room
from gan_serve.runtime.generator import in_order
from gan_serve.terminal.progress import Progress

U8 = npt.NDArray[np.uint8]

_FILES_PER_TASK = 16


def write_folder(folder: Path, plan: Plan, batches: Iterable[U8], text: dict[str, str]) -> None:
    """Writes `plan.stem(i)`.png for every image; each carries `text` and what the plan says of it.

    Raises `GanportError` when the folder cannot be made or written, the disk is full, or, as the first images
    show, would be long before the end.
    """
    with explain_os_errors(folder):
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    files = WholeFiles(folder)
    common = png.text_chunks(text)

    def encode(start: int, pixels_NHWC: U8) -> list[bytes]:
        chunks = [common + png.text_chunks(plan.text(start + offset)) for offset in range(len(pixels_NHWC))]
        return png.encode_batch(pixels_NHWC, chunks)

    def write(part: tuple[int, U8]) -> int:
        start, pixels_NHWC = part
        encoded = encode(start, pixels_NHWC)
        for index, data in enumerate(encoded, start):
            files.write(f"{plan.stem(index)}.png", data)
        return len(encoded)

    def parts() -> Iterator[tuple[int, U8]]:
        for start, pixels_NHWC in _numbered(batches):
            if start == 0:  # before any file is written
                sizes = [len(data) for data in encode(0, pixels_NHWC[:4])]
                require_room(folder, plan.n * sum(sizes) // len(sizes), f"{plan.n} images")
            yield start, pixels_NHWC

    try:
        written = in_order(write, parts(), usable_cores())
        with Progress(plan.n, "drawing") as progress, contextlib.closing(written):
            for done in written:
                progress.update(done)
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _numbered(batches: Iterable[U8]) -> Iterator[tuple[int, U8]]:
    """Parts of at most `_FILES_PER_TASK` images, each with the number of its first."""
    start = 0
    for pixels_NHWC in batches:
        for offset in range(0, len(pixels_NHWC), _FILES_PER_TASK):
            part = pixels_NHWC[offset : offset + _FILES_PER_TASK]
            yield start, part
            start += len(part)
