"""Files written whole or not at all, and readers of archives and models that run nothing in them.

Here outputs are checked before the work: minutes of it must not end at a folder that nobody may write to.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from gan_core.errors import GanportError
from gan_core.files.atomic import explain_os_errors, follow, hidden_name, is_stream, refuse_disk, refuse_folder


def check_outputs(inputs: Mapping[str, Path | None], outputs: Mapping[str, Path | None]) -> None:
    """Checks every output given (option → path) against the inputs and each other, and that it could be written.

    None is an option that was not given. Several may go to one pipe or device. Raises
    `GanportError` naming the options; makes no folder and leaves nothing behind.
    """
    taken = {os.path.realpath(path): option for option, path in inputs.items() if path is not None}
    for option, path in outputs.items():
        if path is None:
            continue
        check_writable(path)
        other = option if is_stream(path) else taken.setdefault(os.path.realpath(path), option)
        if other != option:
            raise GanportError(f"{option} and {other} name the same file, {path}", hint="choose another name")


def check_writable(target: Path) -> None:
    """Raises `GanportError` when a file could not be written at `target`. Leaves nothing behind, makes no folders."""
    with explain_os_errors(target):
        refuse_folder(target)
        refuse_disk(target)
        if is_stream(target):
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        folder = follow(target).parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        try:
            hidden = folder / hidden_name(target.name)
            hidden.touch(exist_ok=False)
        except FileNotFoundError as error:  # a folder of the kernel's, such as /proc
            raise GanportError(
                f"cannot write {target}: no file can be made in {folder}", hint="write elsewhere"
            ) from error
        hidden.unlink()
