"""The report of a proof: as rows, as JSON, as an error."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from gan_core.errors import GanportError
from gan_export.proof import Check, Report

REPORT = Report(
    "g.onnx",
    (
        Check("structure", "inputs", True, "z", "z"),
        Check("parity", "image values", False, 0.25, "<= 0.0001", "max |Δ|", "seed 7"),
        Check("meaning", "NaN or Inf", False, math.inf),
        Check("meaning", "flat images", True, 0, "< 25", "", "look", warning=True),
    ),
    "PyTorch",
)


def test_report_as_rows() -> None:
    sections, names, marks, *rest = zip(*REPORT.rows(), strict=True)
    assert sections == ("structure", "parity", "meaning", "")
    assert names == ("inputs", "image values", "NaN or Inf", "flat images")
    assert marks == ("ok", "FAIL", "FAIL", "warn")
    assert [column[1] for column in rest] == ["0.25 max |Δ|", "<= 0.0001", "seed 7"]
    assert REPORT.verdict() == "not proved: 2 of 4 checks fail (image values, NaN or Inf)"


def test_report_as_json(tmp_path: Path) -> None:
    REPORT.write(tmp_path / "r.json")
    values = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert values["ok"] is False
    assert values["checks"][1] == {
        "section": "parity",
        "name": "image values",
        "ok": False,
        "value": 0.25,
        "unit": "max |Δ|",
        "limit": "<= 0.0001",
        "detail": "seed 7",
        "warning": False,
    }
    assert values["checks"][2]["value"] == "inf"


def test_report_as_an_error() -> None:
    error = REPORT.error("nothing was written")
    assert error.exit_code == 1
    assert str(error) == (
        "g.onnx is not proved: parity: image values: 0.25 max |Δ|, expected <= 0.0001 (seed 7); 1 more check fails"
    )
    assert error.hint.endswith("nothing was written")


def test_report_of_success() -> None:
    good = dataclasses.replace(REPORT, checks=(REPORT.checks[0], REPORT.checks[3]))
    assert good.ok
    assert good.verdict() == "proved against PyTorch: 2 of 2 checks hold; look at: flat images"
    assert dataclasses.replace(good, against="", checks=good.checks[:1]).verdict() == "proved: 1 of 1 checks hold"
    with pytest.raises(KeyError):
        good.check("image values")
    with pytest.raises(GanportError):
        good.write("/")
