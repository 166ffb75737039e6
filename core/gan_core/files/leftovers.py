"""The names of files that are not whole yet, and the end of those whose writer is dead.

A hidden name says who writes: `.STEM.ganport-MACHINE-PID-RANDOM.SUFFIX`. MACHINE is a digest of this start of the
machine and of the namespace that the process number counts in. So the next command that writes in a folder can tell
what a killed one left there, without a lock: on the same machine its process is gone; from another machine it has not
been touched for a week.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
import time
import zlib
from pathlib import Path

NAME = re.compile(r"\..*\.ganport-([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}(\..*)?", re.DOTALL)
FOREIGN_AGE_S = 7 * 24 * 3600.0
"""After so long without a change, what another machine or container was writing is given up."""

_UNKNOWN = "00000000"
_MAX_NAME_BYTES = 255
_MAX_SUFFIX_BYTES = 32
_swept: set[str] = set()


def hidden_name(name: str) -> str:
    """A hidden file name of this process for a file that is to be called `name`, with its suffix; never too long."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    if len(os.fsencode(suffix)) > _MAX_SUFFIX_BYTES:
        suffix = ""
    end = f".ganport-{_machine()}-{os.getpid()}-{os.urandom(4).hex()}{suffix}"
    room = _MAX_NAME_BYTES - 1 - len(os.fsencode(end))
    return f".{os.fsencode(stem)[:room].decode(errors='ignore')}{end}"


def sweep(folder: str | os.PathLike[str]) -> None:
    """Deletes what dead processes left in `folder`, the first time that this process asks. Says and raises nothing."""
    folder = os.fspath(folder)
    if folder in _swept:
        return
    _swept.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name.startswith(".") and is_leftover(entry.path):
                    if entry.is_dir(follow_symlinks=False):
                        import shutil

                        shutil.rmtree(entry.path)
                    else:
                        os.unlink(entry.path)  # noqa: PTH108


def is_leftover(path: str) -> bool:
    """Whether `path` is a file or a folder under a hidden name of ours that nobody writes any more."""
    named = NAME.fullmatch(os.path.basename(path))  # noqa: PTH119
    if named is None:
        return False
    about = os.lstat(path)
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
        return False
    if named[1] == _machine() != _UNKNOWN:
        return not _alive(int(named[2]))
    return time.time() - about.st_mtime > FOREIGN_AGE_S


@functools.cache
def _machine() -> str:
    """8 hex digits, other ones after a restart and in another container; `_UNKNOWN` where the system does not say."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text()
        return f"{zlib.crc32((start + os.readlink('/proc/self/ns/pid')).encode()):08x}"  # noqa: PTH115
    except OSError:
        return _UNKNOWN


def _alive(pid: int) -> bool:
    """Whether a process of that number runs here. One that has ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:1] not in ([b"Z"], [b"X"])
    except OSError:
        return True
