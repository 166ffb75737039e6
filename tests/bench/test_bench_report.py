"""Records, the table and the picture, from results made by hand."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.made_records import OPENED, limit, made_of, plain, result
from gan_bench import plot
from gan_bench.parity import Difference
from gan_bench.record import Result, dumps
from gan_bench.report import CSV_FIELDS, as_csv, notes, number, render, with_ratios
from gan_bench.rows import Row
from gan_core.errors import GanportError, MissingPackageError
from gan_core.installation import install

needs_matplotlib = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="draws with matplotlib")


def test_a_row_as_json() -> None:
    values = result().to_json()
    windows, parity = values.pop("windows"), values.pop("parity")
    assert values == {
        "task": "pixels", "runtime": "ganport", "model": None, "engine": "onnxruntime", "engine_version": "1",
        "details": {}, "precision": "fp32", "tf32": False, "provider_requested": "cpu", "provider": "cpu",
        "cpu_nodes": 0, "threads_requested": None, "threads": 2, "batch": 8, "status": "ok", "reason": None,
        "import_ms": 60.04, "session_create_ms": 41.0, "first_run_ms": 12.3, "shared_process": False,
        "images_per_s": 570.0, "images_per_s_low": 540.0, "images_per_s_high": 580.0,
        "limit_images_per_s": None, "limit_fraction": None, "limited_by": None,
        "latency_p50_ms": 14.06, "latency_p95_ms": 14.11, "latency_p99_ms": 14.12, "latency_calls": 120,
        "peak_rss_bytes": 80 * 2**20, "peak_device_bytes": None,
    }  # fmt: skip
    assert parity == {"pixels_max_lsb": 1, "psnr_db": 58.13, "pixels_compared": 1000, "image_max_abs": 2e-6}
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
    nan = result(parity=Difference(255, 1, 1, float("inf")), mistake="NaN")
    made = made_of(result(), Result(Row("cpu", None, 1), failure="x"), nan, limits=(limit(),))
    assert json.loads(dumps(made)) == made
    assert made["schema"] == 2
    assert made["settings"]["agreement"] == 0.1
    assert made["generator"]["flops_per_image"] == 200_000_000
    assert "spec" not in made["generator"]
    assert made["reference"] == {"runtime": "eager", "model": "g.pt", "provider": "cpu"}, "no temporary file"
    with pytest.raises(ValueError, match="JSON compliant"):
        dumps({"a": float("nan")})


def test_table() -> None:
    rows = [result(), result(runtime="compile", rates=(600.0, 610.0, 620.0)), result(runtime="eager", mistake="y")]
    text = plain(render(made_of(*rows, result(25, failure="x"), result(1, stable=False), limits=(limit(),))))
    head, limits, header, rule, *lines = text.splitlines()
    assert head == "dcgan-64, 48×64×3, 0.20 GFLOP an image on Abacus 9, 2 cores, onnxruntime 1"
    assert limits == "limit cpu ×2 fp32: 150 GFLOP/s (numpy, 1536²), copy 20.0 GB/s"
    assert " ".join(header.split()) == "runs on images/s low–high limit p50 ms p99 ms 1st ms open ms MiB LSB"
    assert set(rule) == {"─", " "}
    ours, compiled, wrong, failed, unstable = (line.split() for line in lines if not line.startswith("batch"))
    assert [line for line in lines if line.startswith("batch")] == ["batch 8", "batch 25", "batch 1"]
    assert ours == ["ganport", "cpu", "×2", "570", "540–580", "0.76", "14.1", "14.1", "12.3", "101", "80", "1"]
    assert compiled[0] == "torch.compile"
    assert compiled[-1] == "best"
    assert wrong[:6] == ["✗", "torch", "eager", "cpu", "×2", "WRONG"]
    assert wrong[6:10] == ["–", "–", "–", "–"]
    assert failed[:5] == ["ganport", "cpu", "×2", "FAILED", "–"]
    assert unstable[-1] == "unstable"


@pytest.mark.parametrize("width", [80, 60])
def test_a_table_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    rates = (11_111.0, 22_222.0, 33_333.0)
    long = [
        result(8, "openvino", rates=rates, runtime=name, precision="fp16", stable=False, first_run_ms=12_345.0)
        for name in ("ganport", "channels-last", "a runtime with a name that goes on and on")
    ]
    text = plain(render(made_of(*long, limits=(limit(),))))
    head, *rows = [line for line in text.splitlines()[2:] if not line.startswith("batch")]
    assert max(map(len, rows)) <= width
    assert "images/s" in head
    assert "22,220" in text
    assert "a runtim" in text
    assert "not shown at this width: " in text


def test_ratios_to_a_row_of_choice() -> None:
    rows = [result(), result(precision="int8", rates=(1140.0, 1140.0)), result(runtime="eager", rates=(285.0, 285.0))]
    made = with_ratios(made_of(*rows, result(25), result(8, failure="x")), " Torch EAGER")
    assert [row["ratio"] for row in made["rows"]] == [2.0, 4.0, 1.0, None, None]
    assert made["baseline"] == "Torch EAGER"
    assert " 4.00×" in render(made)
    assert "ratio" not in plain(render(made_of(result())))
    assert [row["ratio"] for row in with_ratios(made_of(*rows), "ganport")["rows"]] == [1.0, 2.0, 0.5]
    assert [row["ratio"] for row in with_ratios(made_of(*rows), "ganport INT8")["rows"]] == [0.5, 1.0, 0.25]


def test_a_ratio_is_to_the_row_of_the_same_place() -> None:
    rows = [result(rates=(100.0 * n,) * 3, runtime=name) for name in ("ganport", "stock") for n in (1, 2)]
    for each, n in zip(rows, (1, 2, 1, 2), strict=True):
        each.opened = replace(OPENED, threads=n)
    assert [row["ratio"] for row in with_ratios(made_of(*rows), "stock")["rows"]] == [1.0, 1.0, 1.0, 1.0]


def test_a_baseline_that_is_not_there() -> None:
    with pytest.raises(GanportError, match="no row is called 'openvino', which `baseline` names") as caught:
        with_ratios(made_of(result(), result(25), result(runtime="eager")), "openvino")
    assert caught.value.hint == "here are ganport, torch eager"


def test_markdown() -> None:
    text = plain(render(made_of(result(), result(runtime="a|b", rates=(9.0, 9.0, 9.0))), True))
    lines = text.splitlines()
    assert lines[0].startswith("dcgan-64, 48×64×3")
    assert lines[1] == ""
    assert lines[2].startswith("|  |  | runs on | images/s | low–high |")
    assert set(lines[3]) == set("|:- ")
    assert lines[4].startswith("| batch 8 | ganport | cpu ×2 | 570 | 540–580 |")
    assert lines[4].endswith("| 1 | best |")
    assert lines[5].startswith("| batch 8 | a\\|b | cpu ×2 | 9.00 |")
    assert {line.count(" | ") for line in lines[2:]} == {lines[2].count(" | ")}


def test_csv() -> None:
    made = with_ratios(made_of(result(), result(25, mistake="y, and\nmore")), "ganport")
    first, second = csv.DictReader(io.StringIO(as_csv(made)))
    assert tuple(first) == CSV_FIELDS
    assert (first["name"], first["images_per_s"], first["ratio"]) == ("ganport", "570.0", "1.0")
    assert first["pixels_max_lsb"] == "1"
    assert (second["status"], second["images_per_s"], second["ratio"]) == ("wrong", "", "")
    assert second["reason"].startswith("y, and")


def test_gpu_memory_has_a_column_where_there_is_some() -> None:
    assert "GPU MiB" not in plain(render(made_of(result())))
    text = plain(render(made_of(result(8, "cuda", peak_device_bytes=700 * 2**20), result())))
    head, _, _, row, other = text.splitlines()[1:]
    assert "GPU MiB" in head
    assert row[: head.index("GPU MiB") + len("GPU MiB")].endswith("    700")
    assert other[: head.index("GPU MiB") + len("GPU MiB")].endswith("      –")


def test_lower_precisions_show_what_they_are_held_to() -> None:
    rows = [result(precision="int8", parity=Difference(20, 10**5, 10**5)), result(row={"tf32": True}), result()]
    endings = [
        line.removesuffix("best").split()
        for line in plain(render(made_of(*rows))).splitlines()
        if line.startswith(" ganport")
    ]
    assert [words[-2:] for words in endings] == [["48", "dB"], ["58", "dB"], ["80", "1"]]


def test_the_best_is_marked_only_beside_another() -> None:
    assert "best" not in plain(render(made_of(result(), result(25), result(25, runtime="eager", stable=False))))


def test_notes() -> None:
    assert notes(made_of(result())) == []
    rows = [result(failure="killed by SIGKILL"), result(1, stable=False), result(2, calls=30)]
    rows.append(result(4, "cuda"))
    rows[-1].opened = replace(OPENED, provider="cuda", cpu_nodes=3)
    said = notes(made_of(*rows, limits=(limit(failure="no device"),), work=None))
    assert said[0] == "ganport, cpu ×2, batch 8: failed: killed by SIGKILL"
    assert said[1] == "ganport, cuda, batch 4: 3 nodes fell to the CPU"
    assert "after 12 rounds" in said[2]
    assert "too few to tell" in said[3]
    assert said[4] == "limit of cpu: no device"
    assert said[5].startswith("no limits: the files carry no spec")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0.01234, "0.012"), (0.1234, "0.12"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"),
        (12345.6, "12,346"), (0.0, "0.000"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.slow
@needs_matplotlib
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_picture_is_a_picture(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"speed{suffix}"
    rows = [result(1), result(1, runtime="eager"), result(8, stable=False), result(25, mistake="y")]
    plot.draw(made_of(*rows, limits=(limit(),)), target)
    if suffix == ".png":
        with Image.open(target) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert pixels.shape[1] >= 1600
        assert coloured(pixels, plot.OURS_COLOURS["fp32"]) > 5000, "ganport's bar"
        assert coloured(pixels, plot.OTHERS_COLOUR) > 5000, "the other's"
        assert coloured(pixels, plot.ALARM) > 20, "the wrong row's mark"
        assert (pixels[:4] == 255).all(), "nothing is cut off at the edge"
        assert (pixels[-4:] == 255).all()
        assert (pixels[:, :4] == 255).all()
        assert (pixels[:, -4:] == 255).all()
    else:
        assert target.read_bytes()[:5] in (b"<?xml", b"%PDF-")
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def coloured(pixels: np.ndarray, colour: str) -> int:
    """How many pixels have exactly this colour, "#RRGGBB"."""
    return int((pixels == np.array(list(bytes.fromhex(colour[1:])))).all(axis=-1).sum())


def upright_lines(path: Path) -> list[int]:
    """The columns of pixels in the right half of a picture that hold a faint line, dashed or not."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    faint = (pixels == np.array(list(bytes.fromhex(plot.FAINT[1:])))).all(axis=-1).sum(axis=0)
    return [int(at) for at in np.flatnonzero(faint > 40) if at > len(faint) // 2]


@pytest.mark.slow
@needs_matplotlib
def test_the_limit_is_a_line(tmp_path: Path) -> None:
    rows = [result(1), result(1, runtime="eager")]
    plot.draw(made_of(*rows, limits=(limit(gflop_per_s=[180.0]),)), tmp_path / "x.png")
    assert 1 <= len(upright_lines(tmp_path / "x.png")) <= 4
    for far_or_none in [(limit(gflop_per_s=[1800.0]),), ()]:
        plot.draw(made_of(*rows, limits=far_or_none), tmp_path / "y.png")
        assert upright_lines(tmp_path / "y.png") == []


@pytest.mark.slow
@needs_matplotlib
def test_no_number_meets_a_bar_a_line_or_another_panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save = Figure.savefig

    def saved(figure: Figure, *args: Any, **more: Any) -> None:
        drawn.append(figure)
        save(figure, *args, **more)

    monkeypatch.setattr(Figure, "savefig", saved)
    fast = (123_456.0, 130_000.0, 140_000.0)
    rows = [result(batch, rates=rates) for batch, rates in ((1, fast), (8, fast), (25, (5.0, 6.0, 7.0)), (64, fast))]
    rows += [result(batch, runtime="eager", failure="x") for batch in (1, 8, 25, 64)]
    plot.draw(made_of(*rows, limits=(limit(gflop_per_s=[29_000.0]),)), tmp_path / "x.png")
    drawn[0].canvas.draw()
    panels = drawn[0].axes
    assert len(panels) == 4
    for panel, following in zip(panels, [*panels[1:], None], strict=True):
        boxes = [text.get_window_extent() for text in panel.texts]
        assert len(boxes) == 2
        assert min(box.x0 for box in boxes) > panel.bbox.x1
        assert max(box.x1 for box in boxes) < (drawn[0].bbox.x1 if following is None else following.bbox.x0)


@needs_matplotlib
def test_a_wrong_row_has_no_bar(tmp_path: Path) -> None:
    plot.draw(made_of(result(8, mistake="y")), tmp_path / "speed.png")
    with Image.open(tmp_path / "speed.png") as image:
        assert coloured(np.asarray(image.convert("RGB")), plot.OURS_COLOURS["fp32"]) == 0


@pytest.mark.slow
@needs_matplotlib
@pytest.mark.parametrize(
    "results",
    [
        [result(8)],
        [result(8, failure="x")],
        [result(8, mistake="x"), result(16, failure="x")],
        [result(batch, provider) for provider in "abcdefghi" for batch in (1, 8, 25, 64)],
        [result(8, calls=3, windows=[{"round": 0, "calls": 3, "images_per_s": 0.02}])],
        [result(8), result(256, row={"task": "png"}), result(8, runtime="unheard of", precision="fp8")],
    ],
    ids=["one", "failed", "none measured", "many", "slow", "mixed"],
)
def test_pictures_of_odd_records(tmp_path: Path, results: list[Result]) -> None:
    plot.draw(made_of(*results), tmp_path / "speed.png")
    with Image.open(tmp_path / "speed.png") as image:
        image.verify()


@pytest.mark.parametrize("name", ["speed", "speed.jpg", "speed.txt", "png"])
def test_a_picture_of_another_kind_is_refused(name: str) -> None:
    with pytest.raises(GanportError, match=r"`plot` takes a file name ending in \.png, \.svg, \.pdf"):
        plot.check_plot(Path(name))


def test_a_picture_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match="`plot` needs matplotlib") as caught:
        plot.check_plot(Path("speed.png"))
    assert caught.value.hint == install("plot")
