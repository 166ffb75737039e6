"""Records, the table and the picture, from results made by hand."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_bench import plot
from gan_bench.parity import Parity
from gan_bench.records import Result, Settings, dumps, record
from gan_bench.report import notes, number, render
from gan_bench.rows import Row
from gan_serve.errors import GanportError, MissingPackageError

needs_matplotlib = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="draws with matplotlib")

ENVIRONMENT: dict[str, Any] = {
    "date": "2030-01-02T03:04:05+00:00",
    "command": "gan-bench",
    "hardware": {"cpu": "Abacus 9", "cores": 4, "cores_usable": 2, "memory_bytes": 1, "gpus": []},
    "versions": {"python": "3", "ganport": "0", "numpy": "2", "os": "x"},
    "load_average_1m": 0.0,
    "cpu_busy_fraction": 0.0,
}
MODEL: dict[str, Any] = {
    "name": "dcgan-64", "precision": "fp32", "image": [3, 64, 48], "runtime": {"name": "onnxruntime", "version": "1"},
}  # fmt: skip
SETTINGS = Settings(window_s=1.0, max_rounds=12, quick=False, timeout_s=300, min_calls_per_window=34)


def result(batch: int = 8, provider: str = "cpu", calls: int = 120, **changes: Any) -> Result:
    made = Result(
        Row(provider, None, batch),
        opened={"provider": provider, "threads": 2, "import_ms": 60.04321, "session_create_ms": 41.0},
        first_run_ms=12.3,
        parity=Parity(1, 100, 1000),
        windows=[
            {"round": n, "calls": calls // 3, "images_per_s": rate} for n, rate in enumerate((540.0, 570.0, 580.0))
        ],
        latencies_ns=[14_000_000 + 1000 * n for n in range(calls)],
        peak_rss_bytes=80 * 2**20,
        stable=True,
    )
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def made_of(*results: Result) -> dict[str, Any]:
    return record(copy.deepcopy(ENVIRONMENT), dict(MODEL), SETTINGS, list(results))


def test_a_row_as_json() -> None:
    values = result().to_json()
    windows, parity = values.pop("windows"), values.pop("parity")
    assert values == {
        "provider_requested": "cpu", "provider": "cpu", "threads_requested": None, "threads": 2, "batch": 8,
        "status": "ok", "reason": None, "import_ms": 60.04, "session_create_ms": 41.0, "first_run_ms": 12.3,
        "images_per_s": 570.0, "images_per_s_low": 540.0, "images_per_s_high": 580.0,
        "latency_p50_ms": 14.06, "latency_p95_ms": 14.11, "latency_p99_ms": 14.12, "latency_calls": 120,
        "peak_rss_bytes": 80 * 2**20,
    }  # fmt: skip
    assert parity == {"pixels_max_lsb": 1, "psnr_db": 58.13, "pixels_compared": 1000}
    assert [window["round"] for window in windows] == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"failure": "killed"}, "failed", "killed"),
        ({"mistake": "off"}, "wrong", "off"),
        ({"failure": "killed", "mistake": "off"}, "failed", "killed"),
        ({"stable": False}, "unstable", None),
    ],
)
def test_status(changes: dict[str, Any], status: str, reason: str | None) -> None:
    values = result(**changes).to_json()
    assert (values["status"], values["reason"]) == (status, reason)
    assert (values["images_per_s"] is None) is (status in ("failed", "wrong"))
    assert (values["latency_p50_ms"] is None) is (status in ("failed", "wrong"))


def test_a_row_that_never_opened() -> None:
    values = Result(Row("cuda", 4, 1), failure="no answer").to_json()
    assert values["provider"] is None
    assert values["threads"] == 4
    assert values["parity"] is None
    assert values["peak_rss_bytes"] is None


def test_record_is_strict_json() -> None:
    made = made_of(result(), Result(Row("cpu", None, 1), failure="x"))
    assert json.loads(dumps(made)) == made
    assert made["schema"] == 1
    assert made["settings"]["agreement"] == 0.1
    with pytest.raises(ValueError, match="JSON compliant"):
        dumps({"a": float("nan")})


def test_table() -> None:
    text = render(made_of(result(), result(25, failure="x"), result(64, mistake="y"), result(1, stable=False)))
    head, header, rule, fine, failed, wrong, unstable = text.splitlines()
    assert head == "dcgan-64 fp32, 48×64×3 on Abacus 9, 2 cores, onnxruntime 1"
    assert " ".join(header.split()) == (
        "provider threads batch images/s low–high p50 ms p95 ms p99 ms first ms session ms peak MiB max LSB note"
    )
    assert set(rule) == {"─", " "}
    assert fine.split() == ["cpu", "2", "8", "570", "540–580", "14.1", "14.1", "14.1", "12.3", "41.0", "80", "1"]
    assert failed.split()[:5] == ["cpu", "2", "25", "FAILED", "–"]
    assert wrong.split()[:8] == ["cpu", "2", "64", "WRONG", "–", "–", "–", "–"]
    assert unstable.split()[-1] == "unstable"
    assert "note" not in render(made_of(result())), "no column of empty notes"


def test_notes() -> None:
    assert notes(made_of(result())) == []
    said = notes(made_of(result(failure="killed by SIGKILL"), result(1, stable=False), result(2, calls=30)))
    assert said[0] == "cpu, threads auto, batch 8: failed: killed by SIGKILL"
    assert "after 12 rounds" in said[1]
    assert "too few to tell" in said[2]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0.01234, "0.012"), (0.1234, "0.12"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"),
        (12345.6, "12,346"), (0.0, "0.000"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@needs_matplotlib
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_picture_is_a_picture(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"speed{suffix}"
    plot.draw(made_of(result(1), result(8), result(25, stable=False), result(64, mistake="y")), target)
    if suffix == ".png":
        with Image.open(target) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert pixels.shape[0] >= 600
        assert pixels.shape[1] >= 1200
        assert (pixels == np.array([0, 0x72, 0xB2])).all(axis=-1).sum() > 5000, "bars in the first colour"
        assert (pixels == np.array([0xB0, 0, 0x20])).all(axis=-1).any(), "the wrong row's mark"
        assert (pixels[:4] == 255).all(), "nothing is cut off at the edge"
        assert (pixels[-4:] == 255).all()
        assert (pixels[:, :4] == 255).all()
        assert (pixels[:, -4:] == 255).all()
    else:
        assert target.read_bytes()[:5] in (b"<?xml", b"%PDF-")
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@needs_matplotlib
@pytest.mark.parametrize(
    "results",
    [
        [result(8)],
        [result(8, failure="x")],
        [result(8, mistake="x"), result(16, failure="x")],
        [result(batch, provider) for provider in "abcdefghi" for batch in (1, 8, 25, 64)],
        [result(8, calls=3, windows=[{"round": 0, "calls": 3, "images_per_s": 0.02}])],
    ],
    ids=["one", "failed", "none measured", "many", "slow"],
)
def test_pictures_of_odd_records(tmp_path: Path, results: list[Result]) -> None:
    plot.draw(made_of(*results), tmp_path / "speed.png")
    with Image.open(tmp_path / "speed.png") as image:
        image.verify()


@pytest.mark.parametrize("name", ["speed", "speed.jpg", "speed.txt", "png"])
def test_a_picture_of_another_kind_is_refused(name: str) -> None:
    with pytest.raises(GanportError, match=r"--plot takes a file name ending in \.png, \.svg, \.pdf"):
        plot.check_plot(Path(name))


def test_a_picture_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match="--plot needs matplotlib") as caught:
        plot.check_plot(Path("speed.png"))
    assert "ganport[plot]" in caught.value.hint
