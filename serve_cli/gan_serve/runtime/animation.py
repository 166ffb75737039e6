"""Animations: WebP and GIF by Pillow, MP4 by ffmpeg (the `[video]` extra). All loop but MP4, which cannot say so."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sized
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from gan_core.arrays import U8
from gan_core.errors import GanportError, JobError, MissingPackageError
from gan_core.files.atomic import atomic_path
from gan_core.grids import auto_scale, check_scale, enlarged
from gan_core.images import ANIMATIONS, to_pil

FRAMES_PER_S = 25
SEEN_ALONE = 256
"""The side that small frames are enlarged to."""
WEBP_EFFORT = 1
"""Of 0 … 6. With 0, a walk of 32x32 images, enlarged, was 2.4 times as large; 4 made it hardly smaller than 1."""
MAX_HELD_BYTES = 1 << 31
"""The most pixels that an encoder which takes all frames at once is given."""


def write_animation(
    path: str | os.PathLike[str], frames_NHWC: Iterable[U8], n: int | None = None, scale: int | None = None
) -> None:
    """Frames uint8 (H, W, C), 25 a second: .webp (lossless), .gif (256 colours) or .mp4 (H.264).

    n      how many; None: the length of `frames_NHWC`
    scale  how many times as large, each pixel a square; None: frames up to 64x64 are enlarged to be seen
    Raises `MissingPackageError` for .mp4 without the `[video]` extra, `GanportError` for another suffix, no frames and
    more frames than fit into memory (.webp, .gif), `JobError` when ffmpeg fails.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in ANIMATIONS:
        raise GanportError(f"an animation is a .webp, .gif or .mp4, got {path.name}", hint="name it walk.webp")
    if scale is not None:
        check_scale(scale)
    ffmpeg = _find_ffmpeg() if suffix == ".mp4" else ""
    frames = iter(frames_NHWC)
    with atomic_path(path) as temporary:
        first = next(frames, None)
        if first is None:
            raise GanportError("an animation needs at least 1 frame, got none", hint="make some first")
        height, width, channels = first.shape
        if scale is None:
            scale = auto_scale(1, (channels, height, width), side=SEEN_ALONE)
        frames = (enlarged(frame, scale) for frame in chain([first], frames))
        height, width = height * scale, width * scale
        if ffmpeg:
            _write_mp4(ffmpeg, temporary, frames, (height, width))
            return
        held = len(frames_NHWC) if n is None and isinstance(frames_NHWC, Sized) else n or 0
        if held * height * width * channels > MAX_HELD_BYTES:
            raise GanportError(
                f"{held} frames of {width}x{height} do not fit into one {suffix}",
                hint="fewer `frames`, a smaller `scale`, or write an .mp4",
            )
        write_frames(temporary, frames, "WEBP" if suffix == ".webp" else "GIF")


def write_frames(file: Path | IO[bytes], frames: Iterable[U8], kind: str) -> None:
    """At least one frame, as `write_animation`, of the size that they have; `kind` is "WEBP" or "GIF"."""
    settings = {"lossless": True, "method": WEBP_EFFORT} if kind == "WEBP" else {"optimize": False}
    shown, *rest = map(to_pil, frames)
    shown.save(file, kind, save_all=True, append_images=rest, duration=1000 // FRAMES_PER_S, loop=0, **settings)


def _find_ffmpeg() -> str:
    """The path of the ffmpeg that comes with imageio-ffmpeg (or that it finds)."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise MissingPackageError("imageio_ffmpeg", "video", "writing .mp4") from error
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise MissingPackageError("ffmpeg", "video", "writing .mp4") from error


def _write_mp4(ffmpeg: str, path: Path, frames: Iterator[U8], size: tuple[int, int]) -> None:
    """H.264 at a quality where nothing shows. Odd sides grow by one repeated pixel: 4:2:0 video has none."""
    import subprocess

    height, width = size
    odd = ((0, height % 2), (0, width % 2), (0, 0))
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width + width % 2}x{height + height % 2}"]
    coding = ["-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = [ffmpeg, "-v", "error", *source, "-r", str(FRAMES_PER_S), "-i", "-", *coding, "-y", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            for frame in frames:
                padded = np.pad(np.broadcast_to(frame, (height, width, 3)), odd, mode="edge")
                process.stdin.write(padded.tobytes())
            process.stdin.close()
        except BrokenPipeError:  # it ended early; why, it says on stderr
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        except BaseException:
            process.kill()
            raise
        complaint = process.stderr.read().decode(errors="replace").strip()
    if process.returncode != 0:
        last = (complaint.splitlines() or [f"exit code {process.returncode}"])[-1]
        raise JobError(f"ffmpeg could not write the video: {last}", hint="is the disk full? .webp needs no ffmpeg")
