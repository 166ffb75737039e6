"""One PNG per image, in a folder: threads encode and write while the next batch is drawn.

Memory stays flat: at most a few batches wait. Each file is written whole; a run that is stopped leaves the files that
it finished, and running it again writes them again (a file says in its text which model and seed it is).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gan_serve.atomic import explain_os_errors, write_bytes
from gan_serve.cores import usable_cores
from gan_serve.images import encode_png
from gan_serve.plan import Plan
from gan_serve.progress import Progress
from gan_serve.targets import require_room

U8 = npt.NDArray[np.uint8]

_FILES_PER_TASK = 16
_WAITING_PER_THREAD = 4


def write_folder(folder: Path, plan: Plan, batches: Iterable[U8], text: dict[str, str]) -> None:
    """Writes `plan.stem(i)`.png for every image; each carries `text` and what the plan says of it.

    Raises `GanportError` when the folder cannot be made or written, the disk is full, or, as the first images
    show, would be long before the end.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    with explain_os_errors(folder):
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    threads = usable_cores()
    waiting: deque[Future[None]] = deque()
    done = 0
    pool = ThreadPoolExecutor(threads, thread_name_prefix="png")
    try:
        with Progress(plan.n, "drawing") as progress:
            for pixels_NHWC in batches:
                if done == 0:
                    _require_room(folder, plan, pixels_NHWC, text)
                for offset in range(0, len(pixels_NHWC), _FILES_PER_TASK):
                    part = pixels_NHWC[offset : offset + _FILES_PER_TASK]
                    waiting.append(pool.submit(_write, folder, plan, done + offset, part, text))
                while len(waiting) > threads * _WAITING_PER_THREAD:
                    waiting.popleft().result()
                done += len(pixels_NHWC)
                progress.update(len(pixels_NHWC))
            while waiting:
                waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _write(folder: Path, plan: Plan, start: int, pixels_NHWC: U8, text: dict[str, str]) -> None:
    for index, pixels_HWC in enumerate(pixels_NHWC, start):
        file = folder / f"{plan.stem(index)}.png"
        write_bytes(file, encode_png(pixels_HWC, text | plan.text(index)), sync=False)


def _require_room(folder: Path, plan: Plan, pixels_NHWC: U8, text: dict[str, str]) -> None:
    """Refuses a run that cannot end well: all files at the size of the first ones."""
    sizes = [len(encode_png(pixels_HWC, text | plan.text(index))) for index, pixels_HWC in enumerate(pixels_NHWC[:4])]
    require_room(folder, plan.n * sum(sizes) // len(sizes), f"{plan.n} images")
