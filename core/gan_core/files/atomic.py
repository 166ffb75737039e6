"""Files that are written whole or not at all.

Everything ganport leaves on disk goes through `atomic_path`: the bytes go to a hidden neighbour in the
same folder, are flushed to the disk, and take the final name in one rename. A crash, a kill or a
full disk leaves the old file (or none), never half of the new one.

A symbolic link is followed and stays; a file that is replaced passes its mode on. What is no regular file (a pipe, a
device, /dev/stdout) is written to once everything is there, and never replaced.

A hidden name says who writes: `.STEM.ganport-MACHINE-PID-RANDOM.SUFFIX`. MACHINE is a digest of this start of the
machine and of the namespace that the process number counts in. So the next command that writes in a folder can tell
what a killed one left there, without a lock: on the same machine its process is gone; from another machine it has not
been touched for a week.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import stat
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from gan_core.errors import GanportError

_MAX_LINKS = 40
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self|proc/thread-self)/fd/([0-9]{1,9})")


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str], *, sync: bool = True) -> Iterator[Path]:
    """Yields a temporary path with the target's suffix; on success it becomes `target`.

    `sync` False leaves the flush to the operating system: whole still when the process dies, for the many files of
    a folder. The parent folder is created. On any exception the temporary file is deleted and the target stays as
    it was. A target that is no regular file (`is_stream`) is opened at once, which waits for a pipe's reader, and
    gets the bytes at the end. Raises `GanportError` when the folder cannot be made or written, the target is a folder
    or a disk, or the disk is full; other exceptions from the body pass through.
    """
    target = Path(target)
    with explain_os_errors(target):
        refuse_folder(target)
        with _stream(target) if is_stream(target) else _replaced(follow(target), sync) as temporary:
            yield temporary


@contextlib.contextmanager
def _replaced(target: Path, sync: bool) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    hidden = target.with_name(hidden_name(target.name))
    old = _status(target)
    handle = _create(hidden)
    try:
        try:
            if old is not None:
                _take_over(handle, old)
        finally:
            os.close(handle)
        yield hidden
        if sync:
            with hidden.open("rb+") as written:
                os.fsync(written.fileno())
        if old is not None:
            hidden.chmod(stat.S_IMODE(old.st_mode))
        hidden.replace(target)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    if sync:
        _flush_folder(target.parent)


@contextlib.contextmanager
def _stream(target: Path) -> Iterator[Path]:
    """A temporary file elsewhere; what is in it at the end goes into the pipe or device `target`."""
    import tempfile

    refuse_disk(target)
    descriptor = descriptor_of(target)
    out = os.open(target, os.O_WRONLY | getattr(os, "O_NOCTTY", 0)) if descriptor is None else os.dup(descriptor)
    folder = Path(tempfile.gettempdir())
    sweep(folder)
    hidden = folder / hidden_name(target.name)
    try:
        os.close(_create(hidden, 0o600))
        yield hidden
        if sys.stdout is not None:
            sys.stdout.flush()  # so that what was printed before comes before
        with hidden.open("rb") as written:
            while piece := written.read(1 << 20):
                _write_all(out, piece)
    except BrokenPipeError as error:
        raise GanportError(
            f"cannot write {target}: its reader has gone", hint="keep the other end of the pipe open until the end"
        ) from error
    finally:
        os.close(out)
        hidden.unlink(missing_ok=True)


def write_bytes(target: str | os.PathLike[str], data: bytes, *, sync: bool = True) -> None:
    """Writes `data` to `target`, whole or not at all. Takes `sync` and raises as `atomic_path` does."""
    with atomic_path(target, sync=sync) as temporary:
        temporary.write_bytes(data)


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Writes `text` to `target` as UTF-8, whole or not at all. Raises as `atomic_path` does."""
    write_bytes(target, text.encode("utf-8"))


class WholeFiles:
    """Writes many files into one existing folder, each whole or not at all; from several threads at a time.

    As `write_bytes` with sync False (whole when the process dies; a power cut may take the last ones), but without
    what that looks up for each file anew: a third of its time. What a killed process leaves is hidden, as there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._hidden = os.path.join(self._folder, hidden_name("image"))  # noqa: PTH118 (a Path costs as much as the rename)
        sweep(folder)

    def write(self, name: str, data: bytes) -> None:
        """Writes the file `name` in the folder, over an older one. Raises as `atomic_path` does."""
        target = os.path.join(self._folder, name)  # noqa: PTH118
        temporary = f"{self._hidden}.{name}"
        try:
            old = _status(target, follow_symlinks=False)
            if old is not None and not stat.S_ISREG(old.st_mode) and not stat.S_ISDIR(old.st_mode):
                write_bytes(target, data, sync=False)
                return
            handle = _create(temporary)
            try:
                try:
                    _write_all(handle, data)
                    if old is not None:
                        _take_over(handle, old, finished=True)
                finally:
                    os.close(handle)
                os.replace(temporary, target)  # noqa: PTH105
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)  # noqa: PTH108
                raise
        except OSError:
            with explain_os_errors(Path(target)):
                raise


def follow(target: Path) -> Path:
    """Where writing to `target` goes: its links followed, to something or to nothing. Raises `OSError` for a circle.

    A name of an open descriptor, such as /dev/stdout, ends as /proc/self/fd/1: what that is linked to is another file.
    """
    path = target
    for _ in range(_MAX_LINKS):
        if _DESCRIPTOR.fullmatch(str(path)) or not path.is_symlink():
            return path
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))


def descriptor_of(target: Path) -> int | None:
    """The number of the descriptor of this process that `target` names (1 for /dev/stdout), or None."""
    named = _DESCRIPTOR.fullmatch(str(follow(target)))
    return None if named is None else int(named[1])


def is_stream(target: Path) -> bool:
    """Whether `target` is there and no regular file, nor a folder: a pipe, a device, an open descriptor."""
    about = _status(target)
    if about is None or stat.S_ISDIR(about.st_mode):
        return False
    return not stat.S_ISREG(about.st_mode) or descriptor_of(target) is not None


def refuse_folder(target: Path) -> None:
    """Raises `GanportError` when `target` is a folder."""
    if target.is_dir():
        raise GanportError(f"{target} is a folder, expected a file name", hint=f"name a file in it: {target}/NAME")


def refuse_disk(target: Path) -> None:
    """Raises `GanportError` when `target` is a block device, whose content would be lost."""
    if target.is_block_device():
        raise GanportError(f"{target} is a disk, expected a file name", hint="name a file on it")


@contextlib.contextmanager
def explain_os_errors(target: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write `target` into a `GanportError` with a hint."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise GanportError(
                f"no room to write {target}: {os.strerror(error.errno)}",
                hint="free some disk space, or write elsewhere",
                code="no_room",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise GanportError(
                f"cannot write {target}: {os.strerror(error.errno)}", hint="choose a folder you may write to"
            ) from error
        if error.errno in _NO_PLACE or (error.errno == errno.ENOENT and _is_place_of(error.filename, target)):
            # mkdir says EEXIST of a file that stands where the folder should be.
            reason = os.strerror(errno.ENOTDIR if error.errno == errno.EEXIST else error.errno)
            raise GanportError(f"cannot write {target}: {reason}", hint="choose another path") from error
        raise


_NO_PLACE = (
    errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EBADF,
    errno.EBUSY,
)  # fmt: skip


def _is_place_of(path: object, target: Path) -> bool:
    """Whether what is missing is a folder of `target` or its hidden neighbour, not some file that was to be read."""
    if not isinstance(path, str | os.PathLike):
        return False
    missing = Path(path)
    with contextlib.suppress(OSError):
        target = follow(target)
    return missing in target.parents or (missing.parent == target.parent and missing.name.startswith("."))


def _status(path: str | Path, *, follow_symlinks: bool = True) -> os.stat_result | None:
    """What stands at `path`; None when nothing does, or a circle of links."""
    try:
        return os.stat(path, follow_symlinks=follow_symlinks)  # noqa: PTH116
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _create(path: str | Path, mode: int = 0o666) -> int:
    """A new file, with the permissions that an ordinary one has; its handle. (tempfile, imported, costs 5 ms.)"""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)


def _take_over(handle: int, old: os.stat_result, *, finished: bool = False) -> None:
    """Gives the new file the owner, where that is allowed, and the mode of the old one; writable while unfinished."""
    if not hasattr(os, "fchown"):  # Windows
        return
    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(OSError):
            os.fchown(handle, old.st_uid, old.st_gid)
    os.fchmod(handle, stat.S_IMODE(old.st_mode) | (0 if finished else stat.S_IRUSR | stat.S_IWUSR))


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _flush_folder(folder: Path) -> None:
    """Puts a rename on the disk, on systems where a folder can be flushed."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
