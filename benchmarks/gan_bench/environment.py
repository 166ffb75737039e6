"""What a number depends on besides the code: the machine, the versions, the commit, and how busy it all was.

Every record of this project carries this block (docs/benchmarks.md lists the keys). No host or user names.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import gan_core
from gan_core.fields import Json
from gan_core.process import usable_cores

BUSY = 0.15
"""Above this share of the machine's CPU time taken by others before the start, numbers are not to be trusted."""
BUSY_SAMPLE_S = 0.5
ENVIRONMENT_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")

VECTOR_SETS = {
    "asimd": "NEON", "sve": "SVE", "avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16", "amx_tile": "AMX",
}  # fmt: skip
"""Linux's names of the vector instructions that matter here, narrowest first, and their makers'."""


def describe(command: str) -> Json:
    """The environment block as JSON values. `command` is what the user typed. Takes half a second to look around."""
    busy = cpu_busy_fraction(BUSY_SAMPLE_S)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "hardware": hardware(),
        "versions": {
            "python": platform.python_version(),
            "ganport": gan_core.__version__,
            "numpy": np.__version__,
            "os": f"{platform.system()} {platform.release()}",
        },
        "variables": {name: os.environ[name] for name in ENVIRONMENT_VARIABLES if name in os.environ},
        "commit": commit(),
        "load_average_1m": load_average(),
        "cpu_busy_fraction": busy,
    }


def hardware() -> Json:
    """The machine itself."""
    return {
        "cpu": cpu_name(),
        "vectors": vector_sets(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "cores_usable": usable_cores(),
        "memory_bytes": memory_bytes(),
        "gpus": gpus(),
    }


def busy_note(environment: Json) -> str:
    """One sentence when the machine had other work at the start, else the empty string."""
    busy = environment["cpu_busy_fraction"]
    if busy is not None:
        return f"the machine is {busy:.0%} busy with other work; expect lower numbers" if busy > BUSY else ""
    load, cores = environment["load_average_1m"], environment["hardware"]["cores"] or 1
    if load is not None and load > BUSY * cores * 2:
        return f"the load average is {load:.1f} on {cores} cores; expect lower numbers"
    return ""


def cpu_busy_fraction(seconds: float) -> float | None:
    """The share of all cores' time spent on any work during the next `seconds`, while this process sleeps.

    Read from /proc/stat; None where there is none. The load average is slower to tell: it remembers a minute.
    """
    before = _cpu_times()
    if before is None:
        return None
    time.sleep(seconds)
    after = _cpu_times()
    if after is None or after[1] == before[1]:
        return None
    return round(1 - (after[0] - before[0]) / (after[1] - before[1]), 3)


def load_average() -> float | None:
    """The one-minute load average; None where the system keeps none."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def memory_bytes() -> int | None:
    """The machine's memory, or the container's limit where that is less."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):
        return total


def cpu_name() -> str:
    """The CPU's model name."""
    if name := _cpu_info("model name"):
        return name
    if sys.platform == "darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.machine()
    return platform.processor() or platform.machine()


def vector_sets() -> list[str]:
    """Which of `VECTOR_SETS` the CPU has, narrowest first, as Linux tells; else empty. Its name does not always say."""
    flags = set(_cpu_info("flags", "Features").split())
    return [flag for flag in VECTOR_SETS if flag in flags]


def _cpu_info(*names: str) -> str:
    """What Linux says of the CPU in the first line that begins with one of `names`; "" elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(names):
                return line.partition(":")[2].strip()
    return ""


def gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU, as nvidia-smi tells; empty without one."""
    query = "--query-gpu=name,memory.total,driver_version"
    listed = _output(["nvidia-smi", query, "--format=csv,noheader"])
    return [line.strip() for line in listed.splitlines() if line.strip()]


def gpu_memory_used() -> int | None:
    """Bytes in use on all NVIDIA GPUs together, by whatever process, as nvidia-smi tells; None without one."""
    listed = _output(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]).split()
    if not listed or not all(value.isdigit() for value in listed):
        return None
    return sum(map(int, listed)) * 2**20


def commit(root: Path | None = None) -> str | None:
    """The git commit of the ganport checkout this code runs from, "-dirty" when edited; None when installed."""
    root = root or Path(__file__).resolve().parents[2]
    if not ((root / ".git").exists() and (root / "pyproject.toml").is_file()):
        return None
    head = _output(["git", "-C", str(root), "rev-parse", "HEAD"])
    if not head:
        return None
    edited = _output(["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"])
    return head + ("-dirty" if edited else "")


def _cpu_times() -> tuple[int, int] | None:
    """(idle, all) clock ticks of all cores since boot."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
        ticks = [int(value) for value in first[1:9]]  # user nice system idle iowait irq softirq steal
        return ticks[3] + ticks[4], sum(ticks)
    except (OSError, ValueError, IndexError):
        return None


def _output(command: list[str]) -> str:
    """A command's stdout without the final newline; the empty string when it is absent or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return finished.stdout.strip()
