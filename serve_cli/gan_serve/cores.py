"""How many cores this process may really use."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_QUOTAS = ("/sys/fs/cgroup/cpu.max",)


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


def _quota() -> int:
    """Whole CPUs' worth of time that the container may use, rounded up (cgroup v2's cpu.max: "max 100000")."""
    for file in _QUOTAS:
        with contextlib.suppress(OSError, ValueError):
            quota, period = Path(file).read_text().split()
            if quota != "max":
                return max(1, -(-int(quota) // int(period)))
    return 1 << 16


def rest_idle_threads() -> None:
    """Lets torch's threads sleep soon when they wait for each other; call it before torch is imported.

    GNU OpenMP's threads spin for milliseconds at every barrier. On a machine with any other work that burns the very
    cores that the awaited thread needs, and a training step takes several times as long. What the user has set in
    OMP_WAIT_POLICY or GOMP_SPINCOUNT stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
