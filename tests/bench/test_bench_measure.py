"""Whole benchmarks of tiny models: what a row holds, and what happens when its process comes to grief."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import processes
from bench.processes import needs_proc
from bench.running import without_processes
from gan_bench.measure import Stages, measure
from gan_bench.process import WorkerError, WorkerProcess
from gan_bench.questions import Open
from gan_bench.record import Result, Settings
from gan_bench.rows import Selection
from gan_core.errors import GanportError, JobError

pytestmark = [pytest.mark.slow, needs_proc]

OPEN = Open("ganport", Path("g.onnx"), "cpu", None)
SETTINGS = Settings(
    window_s=0.02, max_rounds=3, quick=True, timeout_s=60, min_calls_per_window=34, roofline=False
)  # fmt: skip

SABOTAGE = '''
"""A worker whose provider's name says how it fails."""
import os, signal, sys, time
from dataclasses import replace
import numpy as np
from gan_bench import parity, questions, worker

class Sabotaged(worker.Worker):
    def open(self, asked):
        self.plan = plan = asked.provider
        self.windows = 0
        if plan == "die-at-open":
            os.kill(os.getpid(), signal.SIGKILL)
        if plan == "hang-at-open":
            time.sleep(600)
        if plan == "shout":
            os.write(1, b"a native library says hello\\n")
        opened = super().open(replace(asked, provider="cpu"))
        if plan == "other-pixels":
            self.wrap(lambda pixels: pixels ^ 128)
        if plan == "floats":
            self.wrap(lambda pixels: pixels.astype(np.float32))
        return replace(opened, provider="cuda") if plan == "on-a-gpu" else opened

    def wrap(self, change):
        run = self.generator.run_pixels
        self.generator.run_pixels = lambda z, label=None: change(run(z, label))

    def prepare(self, asked):
        if self.plan == "exit-at-prepare":
            print("out of luck", file=sys.stderr)
            sys.stderr.flush()
            os._exit(7)
        if self.plan == "raise-at-prepare":
            raise RuntimeError("no such kernel")
        return super().prepare(asked)

    def take_window(self, asked):
        self.windows += 1
        if self.windows == 2:
            if self.plan == "die-later":
                os.kill(os.getpid(), signal.SIGSEGV)
            if self.plan == "hang-later":
                time.sleep(600)
            if self.plan == "garbage-later":
                return Unprintable()
            if self.plan == "other-answer-later":
                return None
            if self.plan == "drift-later":
                self.wrap(lambda pixels: pixels ^ 128)
        return super().take_window(asked)

worker.Worker = Sabotaged
worker.main()
'''


@pytest.fixture
def sabotage(tmp_path: Path) -> list[str]:
    script = tmp_path / "sabotage.py"
    script.write_text(SABOTAGE, encoding="utf-8")
    return [sys.executable, "-P", str(script)]


def measure_with(model: Path, providers: list[str], command: list[str], timeout_s: int = 60) -> list[Result]:
    settings = replace(SETTINGS, timeout_s=timeout_s, min_calls_per_window=5)
    return measure(Selection((model,), tuple(providers), (1,), (2,)), settings, command=command).results


def test_memory_on_a_gpu_is_what_a_row_has_taken(
    model: Path, sabotage: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a row's own process, and in a process for several batches what all of them took so far."""
    used = iter([100, 700, 700, 750])
    monkeypatch.setattr("gan_bench.measure.gpu_memory_used", lambda: next(used))
    settings = replace(SETTINGS, min_calls_per_window=5, share_process=True)
    made = measure(Selection((model,), ("on-a-gpu", "cpu"), (1,), (1, 2)), settings, command=sabotage)
    assert [result.peak_device_bytes for result in made.results] == [600, 650, None, None]
    assert next(used, None) is None, "nobody looks for a row on the CPU"


class Ticks(Stages):
    """Counts what is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.steps = 0

    def begin(self, label: str, steps: int) -> None:
        self.stages.append((label, steps))
        self.steps = 0

    def step(self) -> None:
        self.steps += 1


def test_rows_of_a_tiny_model(model: Path) -> None:
    ticks = Ticks()
    chosen = Selection((model,), ("cpu", "auto"), (1,), (1, 25))
    made = measure(chosen, SETTINGS, stages=ticks)
    (about,), results = made.models, made.results
    assert about["name"] == made.generator["name"] == "tiny"
    assert about["image"] == [1, 8, 8]
    assert about["file"] == "g.onnx"
    assert made.reference.runtime == "ganport"
    assert made.limits == []
    assert about["size_bytes"] == model.stat().st_size
    assert about["runtime"]["name"] == "onnxruntime"
    assert len(about["sha256"]) == 64
    assert ticks.stages == [("starting", 4), ("measuring", 12)]
    assert ticks.steps == 12
    assert [(row.provider, row.batch) for row in chosen.rows()] == [
        ("cpu", 1), ("cpu", 25), ("auto", 1), ("auto", 25)
    ]  # fmt: skip
    for row, result in zip(chosen.rows(), results, strict=True):
        values = result.to_json()
        assert values["status"] in ("ok", "unstable")
        assert values["reason"] is None
        assert values["provider_requested"] == row.provider
        assert values["provider"] == "cpu"
        assert values["batch"] == row.batch
        assert values["threads_requested"] == row.threads
        assert values["threads"] >= 1
        assert values["images_per_s_low"] <= values["images_per_s"] <= values["images_per_s_high"]
        assert values["latency_p50_ms"] <= values["latency_p95_ms"] <= values["latency_p99_ms"]
        assert values["latency_calls"] == sum(window["calls"] for window in values["windows"]) >= 3 * 34
        assert [window["round"] for window in values["windows"]] == [0, 1, 2]
        assert min(values["import_ms"], values["session_create_ms"], values["first_run_ms"]) > 0
        assert values["peak_rss_bytes"] > 10 * 2**20
        assert values["parity"]["pixels_max_lsb"] == 0
        assert values["parity"]["psnr_db"] is None
        assert values["parity"]["image_max_abs"] < 1e-6
        assert values["model"] == "g.onnx"
        assert values["engine"] == "onnxruntime"
        # Time that no call accounts for is no more than the loop around them: rate × latency ≈ batch.
        mean_s = sum(result.latencies_ns) / len(result.latencies_ns) / 1e9
        calls_per_s = [window["images_per_s"] / row.batch for window in result.windows]
        assert min(calls_per_s) <= 1 / mean_s * 1.001
        assert max(calls_per_s) >= 1 / mean_s * 0.999


def test_a_conditional_model(make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    without_processes(monkeypatch)
    made = measure(Selection((make_model(n_classes=3),), ("cpu",), (1,), (8,)), SETTINGS)
    (result,) = made.results
    assert made.generator["n_classes"] == 3
    assert result.status in ("ok", "unstable")


def test_an_image_that_depends_on_its_neighbours_is_wrong(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_processes(monkeypatch)
    chosen = Selection((make_model(mixes_batch=True),), ("cpu",), (1,), (1, 8))
    alone, among = measure(chosen, SETTINGS).results
    assert alone.status in ("ok", "unstable")
    values = among.to_json()
    assert values["status"] == "wrong"
    assert "pixels differ from the CPU provider's" in values["reason"]
    assert values["parity"]["pixels_max_lsb"] > 1
    assert values["images_per_s"] is values["latency_p50_ms"] is None
    assert values["windows"] == []


def test_a_batch_that_the_graph_does_not_take_fails_its_row_alone(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_processes(monkeypatch)
    good, bad = measure(Selection((make_model(max_batch=1),), ("cpu",), (1,), (1, 8)), SETTINGS).results
    assert good.status in ("ok", "unstable")
    assert bad.status == "failed"
    assert "batch of 8" in bad.failure


FAILURES = {
    "die-at-open": ("failed", "killed by SIGKILL"),
    "exit-at-prepare": ("failed", "exit code 7: out of luck"),
    "raise-at-prepare": ("failed", "RuntimeError: no such kernel"),
    "die-later": ("failed", "killed by SIGSEGV"),
    "garbage-later": ("failed", "NameError"),
    "other-answer-later": ("failed", "TakeWindow: expected Window or Refused or Failed, got"),
    "other-pixels": ("wrong", "by up to 128 LSB"),
    "drift-later": ("wrong", "by up to 128 LSB"),
    "floats": ("failed", "expected pixels uint8"),
}


def test_rows_that_fail_leave_the_others(model: Path, sabotage: list[str]) -> None:
    before, *failing, after = measure_with(model, ["cpu", *FAILURES, "cpu-again"], sabotage)
    for result, (plan, (status, reason)) in zip(failing, FAILURES.items(), strict=True):
        assert result.status == status, plan
        values = result.to_json()
        assert reason in values["reason"]
        assert values["images_per_s"] is None
        assert values["windows"] == []
    for other in (before, after):
        assert other.status in ("ok", "unstable")
        assert len(other.windows) == 3
    assert processes.children() == []


@pytest.mark.parametrize(("plan", "reason"), [("die-later", "killed by SIGSEGV"), ("hang-later", "no answer to")])
def test_rows_that_share_a_process_fail_together(model: Path, sabotage: list[str], plan: str, reason: str) -> None:
    settings = replace(SETTINGS, timeout_s=5, min_calls_per_window=5, share_process=True)
    results = measure(Selection((model,), (plan, "cpu"), (1,), (1, 2)), settings, command=sabotage).results
    assert [result.status for result in results[:2]] == ["failed", "failed"]
    assert all(reason in result.failure for result in results[:2])
    assert all(result.status in ("ok", "unstable") for result in results[2:])
    assert processes.children() == []


def test_a_row_that_hangs_is_given_up(model: Path, sabotage: list[str]) -> None:
    hanging, other = measure_with(model, ["hang-at-open", "cpu"], sabotage, timeout_s=5)
    assert hanging.status == "failed"
    assert "no answer to" in hanging.failure
    assert other.status in ("ok", "unstable")
    assert processes.children() == []


def test_what_a_library_prints_does_not_disturb_the_answers(model: Path, sabotage: list[str]) -> None:
    (result,) = measure_with(model, ["shout"], sabotage)
    assert result.status in ("ok", "unstable")


@pytest.mark.parametrize(
    ("provider", "message"), [("gpu", "`provider` must be auto or one of"), ("cuda", "provider cuda is not")]
)
def test_a_provider_that_cannot_run_is_refused_before_anything_is_measured(
    model: Path, provider: str, message: str
) -> None:
    ticks = Ticks()
    with pytest.raises(GanportError, match=message) as caught:
        measure(Selection((model,), ("cpu", provider), (1,)), SETTINGS, stages=ticks)
    assert caught.value.exit_code == 2
    assert ticks.stages == [("starting", 2)]
    assert processes.children() == []


def test_a_file_that_is_no_generator_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    path.write_text('{"not": "a model"}', encoding="utf-8")
    with pytest.raises(GanportError, match="is JSON, expected an ONNX model"):
        measure(Selection((path,)), SETTINGS)


def test_a_model_without_a_reference_is_a_failed_job(make_model: Callable[..., Path]) -> None:
    with pytest.raises(JobError, match="does not run on the CPU provider, which is the reference"):
        measure(Selection((make_model(max_batch=0),)), SETTINGS)
    assert processes.children() == []


def test_an_answer_that_is_no_message() -> None:
    script = "import sys; sys.stdin.readline(); print('hello', flush=True); sys.stdin.readline()"
    with (
        WorkerProcess([sys.executable, "-c", script]) as worker,
        pytest.raises(WorkerError, match="expected Opened or Refused or Failed, got something else: 'hello'"),
    ):
        worker.ask(OPEN, 20)


def test_a_worker_that_is_gone_before_the_question() -> None:
    with WorkerProcess([sys.executable, "-c", "raise SystemExit('cannot start')"]) as worker:
        processes.wait_until(lambda: processes.ended(worker.pid))
        with pytest.raises(WorkerError, match="ended with exit code 1: cannot start"):
            worker.ask(OPEN, 20)
