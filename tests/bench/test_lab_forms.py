"""The forms of transposed convolutions, timed layer by layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.running import run
from gan_export.passes import rewrite as tune
from lab import forms

SMALL = ((4, 3, 1, 4, 1, 0, 0), (3, 2, 4, 4, 2, 1, 0), (3, 2, 3, 5, 2, 2, 1))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "LAYERS", SMALL)
    monkeypatch.setattr(tune, "WINDOW_S", 1e-4)


def test_every_form_that_fits_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "forms.json"
    assert run(forms.app, "--batch", "1,3", "--json", target) == 0
    record = json.loads(target.read_text())
    assert [(row["batch"], row["c_in"]) for row in record["layers"]] == [(1, 4), (1, 3), (1, 3), (3, 4), (3, 3), (3, 3)]
    gemm, winograd, five = (row["forms"] for row in record["layers"][:3])
    assert gemm.keys() == {"keep", "gemm"}
    assert winograd.keys() == {"keep", "phases", "subpixel", "winograd"}
    assert five.keys() == {"keep", "phases", "subpixel"}
    assert record["layers"][0]["rule"] == "gemm"
    for row in record["layers"]:
        for numbers in row["forms"].values():
            assert 0 < numbers["ms_low"] <= numbers["ms"] <= numbers["ms_high"]
    shown = capsys.readouterr().out
    assert "4→3 1² k4 s1" in shown
    assert "3→2 4² k4 s2" in shown


@pytest.mark.parametrize("batch", [",", "0", "-1", "1,", "one", "1.5", "2000", "1;8", "٣", "99999999"])
def test_batches_that_are_none(batch: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(forms.app, "--batch", batch) == 2
    assert capsys.readouterr().err.startswith("error: --batch takes whole numbers")


def test_a_record_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(forms.app, "--json", tmp_path / "file" / "f.json") == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_the_usual_layers_can_be_rewritten_and_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert len(set(forms.LAYERS)) == len(forms.LAYERS)
    for c_in, c_out, side, kernel, stride, padding, extra in forms.LAYERS:
        assert min(c_in, c_out, side, kernel, stride) > 0
        assert (side - 1) * stride + kernel - 2 * padding + extra in (4, side * stride)
