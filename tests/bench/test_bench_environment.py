"""What a record says of the machine, with the machine's files replaced where the answer must be known."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from gan_bench import environment, worker


def test_block() -> None:
    block = environment.describe("gan-bench --model g.onnx")
    assert json.loads(json.dumps(block, allow_nan=False)) == block
    assert block["command"] == "gan-bench --model g.onnx"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", block["date"])
    assert block["hardware"]["cpu"]
    assert 1 <= block["hardware"]["cores_usable"] <= block["hardware"]["cores"]
    assert block["hardware"]["memory_bytes"] > 2**28
    assert set(block["hardware"]["vectors"]) <= set(environment.VECTOR_SETS)
    assert set(block["versions"]) == {"python", "ganport", "numpy", "os"}
    assert isinstance(block["hardware"]["gpus"], list)


def test_block_names_no_host_and_no_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("SECRET", "hunter2")
    block = environment.describe("x")
    assert block["variables"]["OMP_NUM_THREADS"] == "3"
    text = json.dumps(block)
    assert "hunter2" not in text
    assert os.uname().nodename not in (block["hardware"]["cpu"], block["versions"]["os"])


@pytest.mark.parametrize(
    ("busy", "load", "cores", "expected"),
    [
        (0.0, 9.0, 2, ""),
        (0.15, None, 2, ""),
        (0.5, None, 2, "the machine is 50% busy with other work; expect lower numbers"),
        (None, 0.5, 2, ""),
        (None, 1.5, 2, "the load average is 1.5 on 2 cores; expect lower numbers"),
        (None, None, None, ""),
    ],
)
def test_busy_note(busy: float | None, load: float | None, cores: int | None, expected: str) -> None:
    block = {"cpu_busy_fraction": busy, "load_average_1m": load, "hardware": {"cores": cores}}
    assert environment.busy_note(block) == expected


def test_busy_fraction_is_what_the_counters_say(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(100, 1000), (160, 1100)])  # (idle, all): 60 of 100 ticks idle
    monkeypatch.setattr(environment, "_cpu_times", lambda: next(readings))
    assert environment.cpu_busy_fraction(0) == pytest.approx(0.4)
    monkeypatch.setattr(environment, "_cpu_times", lambda: None)
    assert environment.cpu_busy_fraction(0) is None
    monkeypatch.setattr(environment, "_cpu_times", lambda: (1, 2))
    assert environment.cpu_busy_fraction(0) is None, "no time passed"


def test_commit_is_of_a_checkout_only(tmp_path: Path) -> None:
    assert environment.commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert environment.commit(tmp_path) is None, "some other project's checkout around an installation"
    (tmp_path / "pyproject.toml").write_text("")
    assert environment.commit(tmp_path) is None, "no commit yet"
    subprocess.run([*git, "add", "pyproject.toml"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    head = environment.commit(tmp_path)
    assert head is not None
    assert re.fullmatch("[0-9a-f]{40}", head)
    (tmp_path / "pyproject.toml").write_text("edited")
    assert environment.commit(tmp_path) == f"{head}-dirty"


def test_absent_and_failing_commands_say_nothing() -> None:
    assert environment._output(["no-such-command-anywhere"]) == ""
    assert environment._output(["git", "no-such-verb"]) == ""


def test_peak_memory_is_vmhwm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t  999 kB\nVmHWM:\t   123 kB\nVmRSS:\t 100 kB\n")
    monkeypatch.setattr(worker, "STATUS", status)
    assert worker.peak_rss_bytes() == 123 * 1024


def test_peak_memory_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STATUS", tmp_path / "absent")
    peak = worker.peak_rss_bytes()
    assert peak is not None
    assert 2**20 < peak < 2**40


@pytest.mark.parametrize(("platform", "expected"), [("linux", 5 * 1024), ("darwin", 5), ("freebsd14", 5 * 1024)])
def test_units_of_maxrss(monkeypatch: pytest.MonkeyPatch, platform: str, expected: int) -> None:
    monkeypatch.setattr("sys.platform", platform)
    assert worker.maxrss_bytes(5) == expected


@pytest.mark.skipif(os.name == "nt", reason="the fake is a shell script")
@pytest.mark.parametrize(
    ("printed", "expected"),
    [("1024", 1024 * 2**20), ("10\\n20", 30 * 2**20), ("[N/A]", None), ("", None), ("1024; exit 1", None)],
)
def test_gpu_memory_in_use(printed: str, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed, _, more = printed.partition("; ")
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{printed}'\n{more}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert environment.gpu_memory_used() == expected


def test_no_gpu_has_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.gpu_memory_used() is None
