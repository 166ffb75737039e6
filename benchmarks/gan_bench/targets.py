"""Output files checked before the work: a benchmark of ten minutes must not end at a folder nobody may write to."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from gan_serve.atomic import explain_os_errors
from gan_serve.errors import GanportError


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
            handle, name = tempfile.mkstemp(prefix=".gan-bench-", dir=folder)
        except FileNotFoundError as error:  # a folder that holds no ordinary files, such as /proc
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM)) from error
        os.close(handle)
        Path(name).unlink()


def check_outputs(inputs: dict[str, Path], targets: dict[str, Path | None]) -> None:
    """Checks every output given (option → path). Raises as `check_writable`, and for one that is named twice."""
    taken = {path.resolve(): option for option, path in inputs.items()}
    for option, target in targets.items():
        if target is None:
            continue
        other = taken.setdefault(target.resolve(), option)
        if other != option:
            raise GanportError(f"{option} and {other} name the same file, {target}", hint="choose another name")
        check_writable(target)
