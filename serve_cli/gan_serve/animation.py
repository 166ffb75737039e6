"""Animations: WebP and GIF by Pillow, MP4 by ffmpeg (the `[video]` extra). All loop but MP4, which cannot say so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gan_serve.atomic import atomic_path
from gan_serve.errors import GanportError, JobError, MissingPackageError
from gan_serve.images import to_pil
from gan_serve.plan import Plan
from gan_serve.progress import Progress

U8 = npt.NDArray[np.uint8]

FRAMES_PER_S = 25
MAX_HELD_BYTES = 1 << 31
"""The most pixels that an encoder which takes all frames at once is given."""


def write_animation(path: Path, plan: Plan, batches: Iterable[U8]) -> None:
    """All images of the plan as frames, 25 a second: .webp (lossless), .gif (256 colours) or .mp4 (H.264).

    Raises `MissingPackageError` for .mp4 without the `[video]` extra, `GanportError` for more frames than fit
    into memory (.webp, .gif), `JobError` when ffmpeg fails.
    """
    suffix = path.suffix.lower()
    c, h, w = plan.contract.image
    if suffix == ".mp4":
        _require_ffmpeg()
    elif plan.n * c * h * w > MAX_HELD_BYTES:
        raise GanportError(
            f"{plan.n} frames of {w}x{h} do not fit into one {suffix}", hint="fewer --frames, or write an .mp4"
        )
    with atomic_path(path) as temporary, Progress(plan.n, "drawing") as progress:
        frames = _frames(batches, progress)
        if suffix == ".mp4":
            _write_mp4(temporary, frames, (h, w))
            return
        first, *rest = (to_pil(frame) for frame in frames)
        settings = {"lossless": True} if suffix == ".webp" else {"optimize": False}
        first.save(
            temporary,
            "WEBP" if suffix == ".webp" else "GIF",
            save_all=True,
            append_images=rest,
            duration=1000 // FRAMES_PER_S,
            loop=0,
            **settings,
        )


def _frames(batches: Iterable[U8], progress: Progress) -> Iterator[U8]:
    for pixels_NHWC in batches:
        yield from pixels_NHWC
        progress.update(len(pixels_NHWC))


def _require_ffmpeg() -> None:
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("imageio_ffmpeg", "video", "writing .mp4") from error


def _write_mp4(path: Path, frames: Iterator[U8], size: tuple[int, int]) -> None:
    """H.264 at near-lossless quality. Odd sides grow by one repeated pixel: 4:2:0 video has none."""
    import imageio_ffmpeg

    height, width = size
    odd = ((0, height % 2), (0, width % 2), (0, 0))
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (width + width % 2, height + height % 2),
        pix_fmt_in="rgb24",
        fps=FRAMES_PER_S,
        codec="libx264",
        output_params=["-crf", "12"],
        macro_block_size=1,
        ffmpeg_log_level="error",
    )
    try:
        writer.send(None)
        for frame in frames:
            padded = np.pad(np.broadcast_to(frame, (height, width, 3)), odd, mode="edge")
            writer.send(np.ascontiguousarray(padded))
        writer.close()
    except OSError as error:
        raise JobError(f"ffmpeg could not write {path.suffix}: {error}", hint="is the disk full?") from error
