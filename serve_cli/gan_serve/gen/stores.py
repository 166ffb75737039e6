"""Where the shards of a job are: a folder, or what fsspec opens by an address (s3://…, gs://…, memory://…).

Each file appears whole or not at all. In a folder by a rename (`gan_core.files.atomic`); elsewhere a shard is made in
the temporary folder and uploaded in one piece, and a shard counts only when its statistics are there, which come last.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from gan_core.errors import GanportError, JobError, MissingPackageError
from gan_core.files.atomic import atomic_path, explain_os_errors, hidden_name, sweep, write_bytes
from gan_serve.gen.outputs import BusyError, require_room
from gan_serve.gen.shards import folder_digest, measure

LOCK = ".ganport-lock"
"""Each job holds the bytes of this file whose numbers are those of its shards, so that two never make the same one."""
WHOLE_LOCK = 1 << 40
"""The byte that is held while `job.json` is compared and written."""


def open_store(out: str) -> Folder:
    """The store that `out` names: a folder's path, or an address. Raises `GanportError` without fsspec's package."""
    kind, address, path = out.partition("://")
    if not address or kind in ("file", "local"):
        return Folder(Path(path or out))
    return Remote(out)


class Folder:
    """A folder of this machine, or one that several share."""

    locks = True
    """Whether jobs there can exclude each other."""
    readers = 1
    """How many shards are looked at together."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def absolute(self) -> Folder:
        """The same place, for processes in other folders."""
        return Folder(self.path.absolute())

    def begin(self) -> None:
        """Makes the folder. Raises `GanportError` where that is not allowed."""
        with explain_os_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> bytes | None:
        """What the file `name` holds, or None where there is none."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return (self.path / name).read_bytes()
        return None

    def write(self, name: str, data: bytes) -> None:
        write_bytes(self.path / name, data)

    def measure(self, name: str, digest: bool = False) -> tuple[int, str]:
        """(size in bytes, sha256 if `digest` asks for it) of a shard; -1 where there is none."""
        path = self.path / name
        if digest and path.exists():
            return measure(path)
        if path.is_dir():
            return sum(entry.stat().st_size for entry in path.iterdir()), ""
        return (path.stat().st_size if path.exists() else -1), ""

    def names(self) -> list[str]:
        """The names of all files and folders there."""
        return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []

    def remove(self, name: str) -> None:
        with explain_os_errors(self.path / name), contextlib.suppress(FileNotFoundError):
            path = self.path / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextlib.contextmanager
    def placing(self, name: str, folder: bool) -> Iterator[Path]:
        """Yields a temporary file or folder; without an exception it becomes the shard `name`."""
        target = self.path / name
        if not folder:
            with atomic_path(target) as temporary:
                yield temporary
            return
        sweep(self.path)
        hidden = target.with_name(hidden_name(name))
        with explain_os_errors(target):
            hidden.mkdir()
            try:
                yield hidden
                if target.exists():
                    shutil.rmtree(target)
                hidden.rename(target)
            except BaseException:
                shutil.rmtree(hidden, ignore_errors=True)
                raise

    def require_room(self, size_bytes: int, what: str) -> None:
        """Raises `GanportError` where the disk has less than that free."""
        require_room(self.path, size_bytes, what)

    @contextlib.contextmanager
    def held(self, first: int, count: int, wait: bool = False) -> Iterator[None]:
        """Within, no other process holds any of these bytes of the lock file; the system lets go of them when it dies.

        Raises `GanportError` where one does, unless `wait` says to wait for it.
        """
        if not self.locks:
            yield
            return
        with explain_os_errors(self.path):
            handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(handle, first, count, wait):
                raise BusyError(self.path)
            yield
        finally:
            os.close(handle)


def _lock(handle: int, first: int, count: int, wait: bool) -> bool:
    """Whether the bytes are held now. Of an open handle, so that two jobs of one process exclude each other, too,
    where the system has such locks (Linux)."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        import msvcrt

        os.lseek(handle, first, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, count)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        import struct

        about = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, first, count, 0)
        if hasattr(fcntl, "F_OFD_SETLK"):
            fcntl.fcntl(handle, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, about)
        else:
            fcntl.lockf(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), count, first)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
            raise
    return True  # also on a file system without locks: shards are whole, and two jobs write the same bytes


class Remote(Folder):
    """A place that fsspec opens. It has no locks: two jobs there would do the same work, with the same result."""

    locks = False
    readers = 32  # each look is a request

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ModuleNotFoundError as error:
            raise MissingPackageError("fsspec", "remote", f"writing to {url}") from error
        try:
            if url.startswith("://"):
                raise ValueError("no protocol, such as s3://")
            self.files, path = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise GanportError(
                f"cannot open {url}: {error}", hint="install the package that fsspec names, such as s3fs for s3://"
            ) from error
        self.url, self.root = url if url.endswith("://") else url.rstrip("/"), path.rstrip("/")

    def __str__(self) -> str:
        return self.url

    def absolute(self) -> Folder:
        return self

    def begin(self) -> None:
        with self._explained():
            self.files.makedirs(self.root, exist_ok=True)

    def read(self, name: str) -> bytes | None:
        with self._explained(), contextlib.suppress(FileNotFoundError):
            return bytes(self.files.cat_file(self._at(name)))
        return None

    def write(self, name: str, data: bytes) -> None:
        with self._explained():
            self.files.pipe_file(self._at(name), data)

    def measure(self, name: str, digest: bool = False) -> tuple[int, str]:
        with self._explained():
            self.files.invalidate_cache()
            try:
                found: dict[str, Any] = self.files.info(self._at(name))
            except FileNotFoundError:
                return -1, ""
            if found["type"] != "directory":
                return int(found["size"]), self._digest(self._at(name)) if digest else ""
            files = sorted(self.files.ls(self._at(name), detail=True), key=lambda file: str(file["name"]))
            size = sum(int(file["size"]) for file in files)
            if not digest:
                return size, ""
            return size, folder_digest((self._digest(f["name"]), str(f["name"]).rpartition("/")[2]) for f in files)

    def names(self) -> list[str]:
        with self._explained(), contextlib.suppress(FileNotFoundError):
            return sorted(str(path).rpartition("/")[2] for path in self.files.ls(self.root, detail=False))
        return []

    def remove(self, name: str) -> None:
        with self._explained(), contextlib.suppress(FileNotFoundError):
            self.files.rm(self._at(name), recursive=True)

    @contextlib.contextmanager
    def placing(self, name: str, folder: bool) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="gan-gen-") as place:
            made = Path(place) / name
            made.mkdir() if folder else made.touch()
            with explain_os_errors(made):
                yield made
            with self._explained():
                if folder:
                    self.files.makedirs(self._at(name), exist_ok=True)
                    for file in sorted(made.iterdir()):
                        self.files.put_file(str(file), self._at(f"{name}/{file.name}"))
                else:
                    self.files.put_file(str(made), self._at(name))

    def require_room(self, size_bytes: int, what: str) -> None:
        """Nobody knows how much room there is."""

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        with self.files.open(path, "rb") as file:
            pieces: IO[bytes] = file
            while piece := pieces.read(1 << 20):
                digest.update(piece)
        return digest.hexdigest()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what a file system raises into a `JobError`."""
        try:
            yield
        except (GanportError, FileNotFoundError):
            raise
        except Exception as error:  # whatever the package of that kind of store raises
            raise JobError(
                f"{self.url}: {type(error).__name__}: {error}",
                hint="check the address and your rights, and run it again",
            ) from error
