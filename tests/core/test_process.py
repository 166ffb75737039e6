"""How many cores may be used; threads that wait give their core back, and freed memory is kept, unless the user
wants otherwise.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gan_core import process
from gan_core.process import _UNLIMITED, _quota, rest_idle_threads, usable_cores


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_what_the_user_set_stays(given: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", dict(given))
    rest_idle_threads()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_at_least_one_core() -> None:
    assert usable_cores() >= 1


V2 = "35 30 0:31 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
HYBRID = "34 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
MEMORY = "36 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
IN_DOCKER = "33 31 0:30 /docker/ab12 /sys/fs/cgroup/cpu rw shared:7 master:3 - cgroup cgroup rw,cpu"
SPACE = r"35 30 0:31 / /my\040groups rw - cgroup2 cgroup2 rw"

CASES = {
    "nothing is known": (None, [], {}, _UNLIMITED),
    "no limit": ("0::/a", [V2], {"a/cpu.max": "max 100000"}, _UNLIMITED),
    "the group's own": ("0::/a", [V2], {"a/cpu.max": "200000 100000"}, 2),
    "a part of a core counts": ("0::/a", [V2], {"a/cpu.max": "150000 100000"}, 2),
    "less than one is one": ("0::/a", [V2], {"a/cpu.max": "1000 100000"}, 1),
    "the root of a container": ("0::/", [V2], {"cpu.max": "300000 100000"}, 3),
    "a group above is tighter": (
        "0::/a/b/c", [V2],
        {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000", "a/b/c/cpu.max": "400000 100000"}, 1,
    ),
    "a group below is tighter": ("0::/a/b", [V2], {"a/cpu.max": "400000 100000", "a/b/cpu.max": "150000 50000"}, 3),
    "another group's is not ours": ("0::/a", [V2], {"b/cpu.max": "1000 1000", "ab/cpu.max": "1000 1000"}, _UNLIMITED),
    "a colon in a name": ("0::/a:b", [V2], {"a:b/cpu.max": "200000 100000"}, 2),
    "a space in a path": ("0::/a", [SPACE], {"/my groups/a/cpu.max": "200000 100000"}, 2),
    "version 1": (
        "4:memory:/m\n2:cpu,cpuacct:/a", [MEMORY, V1],
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 3,
    ),
    "version 1 without a limit": (
        "2:cpu,cpuacct:/a", [V1],
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, _UNLIMITED,
    ),
    "version 1, above": (
        "2:cpu,cpuacct:/a/b", [V1],
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "100000", "cpu,cpuacct/a/cpu.cfs_period_us": "50000"}, 2,
    ),
    "version 1 in a container": (
        "1:cpu:/docker/ab12", [IN_DOCKER], {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4
    ),
    "a group inside a container": (
        "1:cpu:/docker/ab12/in", [IN_DOCKER],
        {"cpu/in/cpu.cfs_quota_us": "100000", "cpu/in/cpu.cfs_period_us": "100000"}, 1,
    ),
    "a group outside of the container": (
        "1:cpu:/../other", [IN_DOCKER], {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2
    ),
    "both versions at a time": (
        "1:cpu,cpuacct:/a\n0::/b", [V1, HYBRID],
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "500000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
         "unified/b/cpu.max": "300000 100000"}, 3,
    ),
    "lines that say nothing": ("nonsense", ["a - b", "", V2], {"cpu.max": "200000 100000"}, _UNLIMITED),
    "no numbers": ("0::/a/b", [V2], {"a/b/cpu.max": "many few", "a/cpu.max": "200000 100000"}, 2),
    "empty": ("0::/a", [V2], {"a/cpu.max": ""}, _UNLIMITED),
    "a period of nothing": ("0::/a", [V2], {"a/cpu.max": "100000 0"}, _UNLIMITED),
}  # fmt: skip


@pytest.mark.parametrize(("groups", "mounts", "files", "expected"), CASES.values(), ids=CASES)
def test_the_tightest_quota_counts(
    groups: str | None, mounts: list[str], files: dict[str, str], expected: int, tmp_path: Path
) -> None:
    proc = tmp_path / "proc/self"
    proc.mkdir(parents=True)
    if groups is not None:
        (proc / "cgroup").write_text(f"12:pids:/p\n{groups}\n")
        (proc / "mountinfo").write_text("\n".join(["22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw", *mounts, ""]))
    for name, text in files.items():
        file = tmp_path / (name[1:] if name.startswith("/") else f"sys/fs/cgroup/{name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    assert _quota(tmp_path) == expected


def test_the_quota_bounds_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(process, "_siblings", str)
    monkeypatch.setattr(process, "_quota", lambda: 3)
    assert usable_cores() == 3


@pytest.mark.parametrize(
    ("allowed", "siblings", "quota", "expected"),
    [
        ({0, 1, 2, 3}, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}, _UNLIMITED, 2),
        ({0, 2}, {0: "0,2", 2: "0,2"}, _UNLIMITED, 1),
        ({0, 1, 2, 3}, {cpu: str(cpu) for cpu in range(4)}, 3, 3),
        ({0, 1, 2}, {}, _UNLIMITED, 3),
    ],
)
def test_threads_of_one_core_count_once(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    allowed: set[int],
    siblings: dict[int, str],
    quota: int,
    expected: int,
) -> None:
    for cpu, text in siblings.items():
        (tmp_path / str(cpu)).write_text(text + "\n")
    monkeypatch.setattr(process, "_TOPOLOGY", f"{tmp_path}/{{}}")
    monkeypatch.setattr(process, "_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    assert usable_cores() == expected


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
@pytest.mark.parametrize(("variable", "kept"), [(None, "True"), ("MALLOC_ARENA_MAX", "False")])
def test_freed_memory_is_kept_unless_the_user_set_otherwise(variable: str | None, kept: str) -> None:
    """In a process of its own: the setting is the whole process's."""
    program = """
import ctypes, resource
from gan_core.process import keep_freed_memory
print(keep_freed_memory())
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def faults():
    for _ in range(5):
        block = libc.malloc(ctypes.c_size_t(64 << 20))
        ctypes.memset(block, 1, 64 << 20)
        libc.free(ctypes.c_void_p(block))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
print(faults() - before)
"""
    environment = {"PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path)} | ({variable: "2"} if variable else {})
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    answer, faults = done.stdout.split()
    assert answer == kept
    if kept == "True":
        assert int(faults) < 1000, "five times 64 MiB were taken from the kernel anew"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert not process.keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        def __getattr__(self, name: str) -> object:
            raise AttributeError(name)

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Musl())
    assert not process.keep_freed_memory()
