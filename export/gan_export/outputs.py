"""Where an export goes by default, and what its name must end in."""

from __future__ import annotations

from pathlib import Path

from gan_core.errors import GanportError
from gan_core.files.outputs import check_outputs

__all__ = ["check_outputs", "resolve_out"]


def resolve_out(ckpt: Path, out: Path | None, suffix: str, tag: str = "") -> Path:
    """The file to write: `out`, or the checkpoint's name with `tag` and `suffix`, beside it.

    Raises `GanportError` for a name that does not end in `suffix`.
    """
    if out is None:
        named = ckpt if ckpt.name else ckpt / "g"  # "." and "/": folders, refused where the checkpoint is read
        return named.with_suffix(tag + suffix)
    if out.is_dir():
        raise GanportError(f"{out} is a folder, expected a file name", hint=f"--out {out / ckpt.stem}{suffix}")
    if out.suffix.lower() != suffix:
        raise GanportError(
            f"--out must end in {suffix}, got {out.name or repr(str(out))}",
            hint=f"--out {out.with_suffix(suffix)}" if out.name else f"--out NAME{suffix}",
        )
    return out
