"""What a process needs to know of itself and may set: cores, idle threads, freed memory, output, and signals.

Libraries in C++ may turn the KeyboardInterrupt that Python raises into an error of their own, or lose it. Whether a
signal came is therefore also remembered.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_UNLIMITED = 1 << 16


def usable_cores() -> int:
    """Physical cores among the CPUs this process is allowed (affinity, cgroup quota); at least 1.

    Two hardware threads of one core count once: matrix products gain nothing from the second. Where the operating
    system does not show its topology, every CPU counts.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
    else:
        allowed = list(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota(), len(allowed)))


def _siblings(cpu: int) -> str:
    """A name for the core that `cpu` is a thread of."""
    try:
        return Path(_TOPOLOGY.format(cpu)).read_text().strip()
    except OSError:
        return str(cpu)


def _quota(root: Path = Path("/")) -> int:
    """Whole CPUs' worth of time, rounded up, that the tightest of this process's control groups allows.

    Of both versions of cgroups, and of every group that contains the process's own: the kernel holds it to all. `root`
    is the folder that holds proc and the mounts. https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    tightest = _UNLIMITED
    with contextlib.suppress(ValueError):  # lines of another form than is known
        for folder in _cpu_groups(root):
            with contextlib.suppress(OSError, ValueError):
                quota, period = _limit(folder)
                if quota > 0 and period > 0:
                    tightest = min(tightest, -(-quota // period))
    return tightest


def _limit(folder: Path) -> tuple[int, int]:
    """Microseconds of CPU time in each period of so many; a quota of -1 is none."""
    if (folder / "cpu.max").exists():  # version 2: "max 100000"
        quota, period = (folder / "cpu.max").read_text().split()
        return (-1 if quota == "max" else int(quota)), int(period)
    return int((folder / "cpu.cfs_quota_us").read_text()), int((folder / "cpu.cfs_period_us").read_text())


def _cpu_groups(root: Path) -> Iterator[Path]:
    """The folders of the control groups that share out CPU time to this process, from the outermost seen to its own."""
    groups = {}
    for line in _lines(root / "proc/self/cgroup"):  # 4:cpu,cpuacct:/a/b, and for version 2: 0::/a/b
        _, controllers, group = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), group))
    for line in _lines(root / "proc/self/mountinfo"):  # see proc_pid_mountinfo(5)
        mount, _, filesystem = line.partition(" - ")
        (_, _, _, top, point, *_), (kind, _, options) = mount.split(" "), filesystem.split(" ", 2)
        name = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if name not in groups or (name == "cpu" and "cpu" not in options.split(",")):
            continue
        folder = root / _plain(point).lstrip("/")
        yield folder
        inside = _inside(groups[name], _plain(top))
        for part in inside:
            folder /= part
            yield folder


def _inside(group: str, top: str) -> list[str]:
    """The path of a group below a mount that shows the groups from `top` on; [] where it lies elsewhere, as it may for
    a container.
    """
    parts, above = ([part for part in path.split("/") if part] for path in (group, top))
    below = parts[: len(above)] == above and ".." not in parts
    return parts[len(above) :] if below else []


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="surrogateescape").splitlines()
    except OSError:  # no Linux
        return []


def _plain(path: str) -> str:
    r"""A path of mountinfo, which writes a space as \040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def rest_idle_threads() -> None:
    """Lets torch's threads sleep soon when they wait for each other; call it before torch is imported.

    GNU OpenMP's threads spin for milliseconds at every barrier. On a machine with any other work that burns the very
    cores that the awaited thread needs, and a training step takes several times as long. What the user has set in
    OMP_WAIT_POLICY or GOMP_SPINCOUNT stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
TOP_PAD_BYTES = 64 << 20
NEVER_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Has glibc's malloc keep what is freed. Returns whether it does now.

    A training step frees and allocates the same few hundred megabytes of activations. glibc takes each large block
    fresh from the kernel and hands it back, so the kernel zeroes every page of them anew, step after step. The process
    keeps its highest use until it ends. What the user has set in a MALLOC_* variable stays; other systems and C
    libraries are left alone. Meant for a command, not for a library: the setting is the whole process's.
    """
    import ctypes  # which a command that trains nothing need not wait for

    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 (not there: another C library, whose numbers would mean something else)
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER_BYTES), (M_TOP_PAD, TOP_PAD_BYTES))
    return all(mallopt(option, value) == 1 for option, value in settings)


_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
_received: list[int] = []


@contextlib.contextmanager
def handled(*, ending: bool = True) -> Iterator[None]:
    """Within, the first of the signals raises KeyboardInterrupt; at the end the process dies of SIGTERM and SIGHUP.

    `ending` False leaves those two as they are. A signal that is ignored (nohup, a shell's background job) or that
    somebody else handles stays so. Outside the main thread, where Python takes no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {signal.SIGINT: signal.default_int_handler} | dict.fromkeys(_ENDING if ending else (), signal.SIG_DFL)
    before: dict[int, Any] = {}
    _received.clear()
    try:
        for number, handler in usual.items():
            if signal.getsignal(number) == handler:
                before[number] = signal.signal(number, _receive)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if fatal := by_signal():
            _received.clear()
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os.kill(os.getpid(), fatal)


def by_signal() -> int:
    """The number of the signal, SIGTERM or SIGHUP, that the command ends by; 0 for none."""
    return next((number for number in _received if number in _ENDING), 0)


def is_interruption(error: BaseException | None) -> bool:
    """Whether `error` (None: no error so far) comes of a signal, or came after one."""
    return bool(_received) or any(isinstance(cause, KeyboardInterrupt) for cause in causes(error))


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Within, code of others is called: whatever it makes of a KeyboardInterrupt, at the end it is one again."""
    try:
        yield
    except Exception as error:
        if is_interruption(error):
            raise KeyboardInterrupt from error
        raise
    if _received:
        raise KeyboardInterrupt


def causes(error: BaseException | None) -> list[BaseException]:
    """`error`, what it was raised from or in the handling of, and so on."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _receive(number: int, _frame: FrameType | None) -> None:
    first = not _received
    _received.append(number)
    if first or number == signal.SIGINT:  # a second SIGTERM or SIGHUP must not break the taking down
        raise KeyboardInterrupt


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops Python's stdout, stderr, warnings and log records below ERROR for as long as it lasts.

    What went wrong is told by the exception that ends the block, never by what was printed in it. Ctrl-C ends it as
    KeyboardInterrupt, also where the library makes another error of it or goes on.
    """
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    sink = io.StringIO()
    try:
        with kept(), warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
