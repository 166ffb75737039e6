"""One file of many images: a grid (PNG, JPEG, WebP, or PNG on stdout), or an array (.npy, .npz).

Each takes a plan and its batches, opens the file before the first image is drawn (so that a folder that cannot be
written shows at once) and leaves it whole or not at all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from gan_core.errors import GanportError
from gan_core.files.atomic import atomic_path
from gan_core.images import Canvas, encode_png, to_pil
from gan_serve.gen.plan import Plan
from gan_serve.gen.targets import require_room
from gan_serve.terminal.progress import Progress
from gan_serve.terminal.streams import explain_stdout, refuse_closed_stdout

U8 = npt.NDArray[np.uint8]

MAX_SIDE = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}
"""The longest side, in pixels, that the format can say."""


def write_picture(path: Path, plan: Plan, batches: Iterable[U8], cols: int | None, text: dict[str, str]) -> None:
    """One grid of all images as `path`'s suffix says: PNG with `text`, JPEG at quality 95 without chroma
    subsampling, WebP lossless.

    Raises `GanportError` for a grid that is too large (for the format), before anything is drawn.
    """
    canvas = Canvas(plan.n, plan.contract.image, cols or plan.cols)
    most = MAX_SIDE.get(path.suffix.lower())
    height, width, _ = canvas.picture_HWC.shape
    if most is not None and max(height, width) > most:
        raise GanportError(
            f"a grid of {width}x{height} pixels, {path.suffix} holds at most {most} a side",
            hint="write a .png, or choose --cols so that the grid is squarer",
        )
    with atomic_path(path) as temporary:
        _fill(canvas, plan, batches)
        if path.suffix.lower() == ".webp":
            to_pil(canvas.picture_HWC).save(temporary, "WEBP", lossless=True)
        elif path.suffix.lower() in (".jpg", ".jpeg"):
            to_pil(canvas.picture_HWC).save(temporary, "JPEG", quality=95, subsampling=0)
        else:  # a pipe or a device may have any name
            temporary.write_bytes(encode_png(canvas.picture_HWC, text))


def write_stdout(plan: Plan, batches: Iterable[U8], cols: int | None, text: dict[str, str]) -> None:
    """One grid of all images as PNG on stdout, and nothing else. Raises `GanportError` when that is a terminal."""
    refuse_closed_stdout()
    if sys.stdout.isatty():
        raise GanportError("a PNG on a terminal is unreadable", hint="pipe it, as in: gan-gen … --out - | display")
    canvas = Canvas(plan.n, plan.contract.image, cols or plan.cols)
    _fill(canvas, plan, batches)
    with explain_stdout():
        sys.stdout.buffer.write(encode_png(canvas.picture_HWC, text))
        sys.stdout.buffer.flush()


def write_array(path: Path, plan: Plan, batches: Iterable[U8]) -> None:
    """All images as uint8 (n, H, W, C): alone in a .npy; in a .npz as `pixels`, with the plan's `seeds` (int64) and
    `labels` (int64) beside it where there are any. Not compressed.

    The images stream into the file: memory stays flat. Raises `GanportError` when the disk is too small for them.
    """
    c, h, w = plan.contract.image
    require_room(path, plan.n * h * w * c, f"{plan.n} images")
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".npy":
            with temporary.open("wb") as file:
                _stream_npy(file, plan, batches)
            return
        import zipfile

        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("pixels.npy", "w", force_zip64=True) as file:
                _stream_npy(file, plan, batches)
            seeds = None if plan.seeds is None else plan.seeds.array(0, plan.n)
            columns = {"labels": plan.labels(0, plan.n), "seeds": seeds}
            for name, column in columns.items():
                if column is not None:
                    with archive.open(f"{name}.npy", "w") as file:
                        np.lib.format.write_array(file, column, allow_pickle=False)


def _stream_npy(file: IO[bytes], plan: Plan, batches: Iterable[U8]) -> None:
    c, h, w = plan.contract.image
    header = {"descr": "|u1", "fortran_order": False, "shape": (plan.n, h, w, c)}
    np.lib.format.write_array_header_2_0(file, header)
    with Progress(plan.n, "drawing") as progress:
        for pixels_NHWC in batches:
            file.write(np.ascontiguousarray(pixels_NHWC).data)
            progress.update(len(pixels_NHWC))


def _fill(canvas: Canvas, plan: Plan, batches: Iterable[U8]) -> None:
    with Progress(plan.n, "drawing") as progress:
        for pixels_NHWC in batches:
            canvas.add(pixels_NHWC)
            progress.update(len(pixels_NHWC))
