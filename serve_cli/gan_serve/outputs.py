"""Output files checked before the work: minutes of it must not end at a folder that nobody may write to."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gan_serve.atomic import explain_os_errors
from gan_serve.errors import GanportError


def check_outputs(inputs: Mapping[str, Path | None], outputs: Mapping[str, Path | None]) -> None:
    """Checks every output given (option → path) against the inputs and each other, and that it could be written.

    None is an option that was not given. Raises `GanportError` naming the options; makes no folder and leaves
    nothing behind.
    """
    taken = {path.resolve(): option for option, path in inputs.items() if path is not None}
    for option, path in outputs.items():
        if path is None:
            continue
        other = taken.setdefault(path.resolve(), option)
        if other != option:
            raise GanportError(f"{option} and {other} name the same file, {path}", hint="choose another name")
        check_writable(path)


def check_writable(target: Path) -> None:
    """Raises `GanportError` when a file could not be written at `target`. Leaves nothing behind, makes no folders."""
    if target.is_dir():
        raise GanportError(f"{target} is a folder, expected a file name", hint=f"name a file in it: {target}/NAME")
    with explain_os_errors(target):
        folder = target.parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        try:
            handle, name = tempfile.mkstemp(prefix=".ganport-", dir=folder)
        except FileNotFoundError as error:  # a folder of the kernel's, such as /proc
            raise GanportError(
                f"cannot write {target}: no file can be made in {folder}", hint="write elsewhere"
            ) from error
        os.close(handle)
        Path(name).unlink()
