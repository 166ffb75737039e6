"""Where an export goes, checked before the work: minutes of exporting must not end at a folder nobody may write to."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from gan_serve.atomic import explain_os_errors
from gan_serve.errors import GanportError


def resolve_out(ckpt: Path, out: Path | None, suffix: str) -> Path:
    """The file to write: `out`, or the checkpoint's name with `suffix`, beside it.

    Raises `GanportError` for a name that does not end in `suffix`.
    """
    if out is None:
        return ckpt.with_suffix(suffix)
    if out.is_dir():
        raise GanportError(f"{out} is a folder, expected a file name", hint=f"--out {out / ckpt.stem}{suffix}")
    if out.suffix.lower() != suffix:
        raise GanportError(
            f"--out must end in {suffix}, got {out.name or repr(str(out))}",
            hint=f"--out {out.with_suffix(suffix)}" if out.name else f"--out NAME{suffix}",
        )
    return out


def check_outputs(inputs: dict[str, Path | None], outputs: dict[str, Path | None]) -> None:
    """Checks every output given (option → path) against the inputs and each other, and that it could be written.

    Raises `GanportError` naming the options; makes no folder and leaves nothing behind.
    """
    taken = {path.resolve(): option for option, path in inputs.items() if path is not None}
    for option, path in outputs.items():
        if path is None:
            continue
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise GanportError(f"{option} and {other} name the same file, {path}", hint="choose another name")
        _check_writable(path)


def _check_writable(target: Path) -> None:
    if target.is_dir():
        raise GanportError(f"{target} is a folder, expected a file name", hint=f"name a file in it: {target}/NAME")
    with explain_os_errors(target):
        folder = target.parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        try:
            handle, name = tempfile.mkstemp(prefix=".gan-export-", dir=folder)
        except FileNotFoundError as error:  # a folder of the kernel's, such as /proc
            raise GanportError(
                f"cannot write {target}: no file can be made in {folder}", hint="write elsewhere"
            ) from error
        os.close(handle)
        Path(name).unlink()
