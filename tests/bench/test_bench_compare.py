"""Records read back and compared."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bench.made_records import limit, made_of, plain, result
from gan_bench.compare import check_alike, render_comparison, rows_slower_than_baseline, slower_rows
from gan_bench.record import Result, dumps, read_record
from gan_bench.report import render, with_ratios
from gan_core.errors import GanportError, JobError

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def write(path: Path, values: Any) -> Path:
    path.write_text(dumps(values) if isinstance(values, dict) else json.dumps(values), encoding="utf-8")
    return path


def test_a_record_reads_back(tmp_path: Path) -> None:
    made = made_of(result(), limits=(limit(),))
    assert read_record(write(tmp_path / "new.json", made)) == made


@pytest.mark.parametrize("path", sorted(RESULTS.glob("cpu-*.json")), ids=lambda path: path.name)
def test_every_record_kept_reads(path: Path) -> None:
    assert render(read_record(path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "is other JSON, not a record of gan-bench"),
        ({}, "is other JSON"),
        ({"tool": "lab.cold_start", "schema": 1}, "is a record of lab.cold_start"),
        ({"tool": "gan-bench", "schema": 99}, "has schema 99, this gan-bench reads 2"),
        ({"tool": "gan-bench", "schema": 2}, "lacks 'environment'"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(GanportError, match=message):
        read_record(write(tmp_path / "x.json", values))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"schema": 2, ')
    with pytest.raises(GanportError, match="is not JSON"):
        read_record(tmp_path / "cut.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GanportError, match="is not JSON"):
        read_record(tmp_path / "bytes.json")
    with pytest.raises(GanportError, match="no record at"):
        read_record(tmp_path / "nowhere.json")
    with pytest.raises(GanportError, match="is a folder"):
        read_record(tmp_path)
    with pytest.raises(GanportError, match="is a model by its name") as caught:
        read_record(tmp_path / "g.onnx")
    assert caught.value.hint == f'`model="{tmp_path / "g.onnx"}"`'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ((500.0, 510.0, 520.0), (600.0, 610.0, 620.0), "+20%  faster"),
        ((600.0, 610.0, 620.0), (500.0, 510.0, 520.0), "-16%  slower"),
        ((500.0, 510.0, 520.0), (520.0, 525.0, 530.0), ""),  # under 5 %
        ((400.0, 500.0, 700.0), (450.0, 620.0, 640.0), ""),  # the middle halves overlap
        # one disturbed window each does not hide a change of the others
        ((200.0, 500.0, 505.0, 510.0, 512.0), (300.0, 600.0, 605.0, 610.0, 700.0), "+20%  faster"),
    ],
)
def test_what_is_beyond_noise(old: tuple[float, ...], new: tuple[float, ...], said: str) -> None:
    text = plain(render_comparison(made_of(result(rates=old)), made_of(result(rates=new))))
    assert said in text
    assert ("0 of 1 rows as before" if said else "1 of 1 rows as before within noise") in text
    assert "since 2030-01-02, commit 01234567" in text


def test_an_unstable_row_is_compared_by_its_whole_range() -> None:
    old = result(rates=(200.0, 500.0, 505.0, 510.0, 600.0), stable=False)
    assert "1 of 1 rows as before" in plain(
        render_comparison(made_of(old), made_of(result(rates=(590.0, 600.0, 610.0))))
    )


def test_a_row_that_went_wrong_has_changed() -> None:
    text = plain(render_comparison(made_of(result()), made_of(result(mistake="y"))))
    assert "ok → wrong" in text
    assert "WRONG" in text
    assert "1 of 1 rows as before" in plain(
        render_comparison(made_of(result(failure="x")), made_of(result(failure="z")))
    )


def test_rows_in_one_alone_are_named() -> None:
    text = plain(render_comparison(made_of(result(), result(25)), made_of(result(), result(runtime="eager"))))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[2:-1] == [
        "batch 8", "ganport cpu ×2 570 570", "torch eager cpu ×2 – 570 only now", "batch 25",
        "ganport cpu ×2 570 – only before",
    ]  # fmt: skip
    assert lines[-1].startswith("1 of 1 rows as before")


def test_a_comparison_in_markdown() -> None:
    lines = plain(render_comparison(made_of(result()), made_of(result(rates=(600.0, 700.0, 800.0))), True)).splitlines()
    assert lines[0] == "|  |  | runs on | old images/s | new images/s | change |  |"
    assert lines[2] == "| batch 8 | ganport | cpu ×2 | 570 | 700 | +23% | faster |"


SLOWER = (400.0, 410.0, 420.0)


@pytest.mark.parametrize(
    ("new", "limit", "found"),
    [
        (result(), 0.0, []),
        (result(rates=SLOWER), 0.1, ["ganport, cpu ×2, batch 8 -28%"]),
        (result(rates=SLOWER), 0.3, []),
        (result(rates=(560.0, 565.0, 570.0)), 0.0, []),  # noise
        (result(rates=(700.0, 710.0, 720.0)), 0.0, []),
        (result(mistake="y"), 0.5, ["ganport, cpu ×2, batch 8 wrong"]),
        (result(failure="y"), 0.5, ["ganport, cpu ×2, batch 8 failed"]),
    ],
)
def test_slower_than_before(new: Result, limit: float, found: list[str]) -> None:
    assert slower_rows(made_of(result()), made_of(new, result(25)), limit) == found


def test_nothing_in_common_is_no_success() -> None:
    with pytest.raises(JobError, match="no row can be compared with the record"):
        slower_rows(made_of(result(25)), made_of(result(8)), 0.1)
    with pytest.raises(JobError, match="no row can be compared"):
        slower_rows(made_of(result(failure="y")), made_of(result()), 0.1)
    with pytest.raises(JobError, match="no row can be compared with the baseline ganport"):
        rows_slower_than_baseline(with_ratios(made_of(result()), "ganport"), 0.1)


def test_slower_than_the_baseline() -> None:
    """Of ganport's rows alone: that another is slower than the baseline is nobody's fault."""
    rows = [
        result(rates=SLOWER),
        result(precision="int8"),
        result(runtime="stock"),
        result(runtime="eager", rates=SLOWER),
    ]
    made = with_ratios(made_of(*rows), "stock")
    assert rows_slower_than_baseline(made, 0.1) == ["ganport, cpu ×2, batch 8 -28%"]
    assert rows_slower_than_baseline(made, 0.3) == []


def test_two_files_of_one_precision_are_compared_by_their_names() -> None:
    def named(first: Result, second: Result) -> Any:
        made = made_of(first, second)
        for row, name in zip(made["rows"], ("a", "b"), strict=True):
            row["name"] = name
        return made

    old = named(result(), result(rates=(100.0, 101.0, 102.0)))
    assert slower_rows(old, named(result(), result(rates=(100.0, 101.0, 102.0))), 0.1) == []
    assert slower_rows(old, named(result(), result(rates=(50.0, 51.0, 52.0))), 0.1) == ["b, cpu ×2, batch 8 -50%"]


def changed(**changes: Any) -> Any:
    made = copy.deepcopy(made_of(result()))
    for path, value in changes.items():
        *above, last = path.split("__")
        place = made
        for key in above:
            place = place[key]
        place[last] = value
    return made


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (changed(environment__hardware__cpu="Abacus 10"), "machines: Abacus 9, 2 cores, and now Abacus 10, 2 cores"),
        (changed(environment__hardware__cores_usable=1), "machines"),
        (changed(environment__hardware__gpus=["Big GPU, 8 GB"]), "machines"),
        (changed(generator__image=[3, 96, 96]), "generators"),
        (changed(generator__checkpoint_sha256="bb" * 32), "checkpoints: sha256 aaaaaaaa, and now bbbbbbbb"),
    ],
)
def test_what_cannot_be_compared_is_refused_or_said(other: Any, what: str) -> None:
    with pytest.raises(GanportError, match=f"the records are of different {what}") as caught:
        check_alike(made_of(result()), other, across=False)
    assert "`across=True`" in caught.value.hint
    check_alike(made_of(result()), other, across=True)
    assert plain(render_comparison(made_of(result()), other)).startswith(f"different {what.split(':')[0]}: ")


def test_instruction_sets_are_compared_where_both_records_know_them() -> None:
    narrow, wide = (changed(environment__hardware__vectors=sets) for sets in (["avx2"], ["avx2", "avx512f"]))
    check_alike(made_of(result()), wide, across=False)
    check_alike(wide, wide, across=False)
    with pytest.raises(GanportError, match="Abacus 9 with AVX2, 2 cores, and now Abacus 9 with AVX-512, 2 cores"):
        check_alike(narrow, wide, across=False)


def test_an_unknown_checkpoint_is_no_difference() -> None:
    check_alike(made_of(result()), changed(generator__checkpoint_sha256=None), across=False)
