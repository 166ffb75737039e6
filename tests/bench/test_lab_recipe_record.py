"""The record of recipes read, added to, joined; and its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gan_core.errors import GanportError
from gan_core.fields import Json
from lab.recipes import record as recipe_record
from lab.recipes.table import tables

AROUND = {"date": "2026-01-02T00:00:00", "command": "one", "cpu_busy_fraction": 0.0, "hardware": {"cpu": "A CPU"}}
OTHER = AROUND | {"date": "2026-01-03T00:00:00", "command": "two"}


def row(variant: str = "default", distance: float | None = 2.0, **changes: Any) -> Json:
    """A row; a distance of None is a training that failed."""
    made: Json = {"data": "d", "variant": variant, "budget_steps": 9, "seed": 0, "recipe": {"lr_d": 1, "size": 32}}
    n, images = changes.pop("n", 100), changes.pop("fingerprint", "f")
    if distance is None:
        return made | {"status": "failed", "error": "it diverged | at once"} | changes
    return made | {
        "status": "ok", "distance": distance, "floor": 0.1, "features": "x 1", "noticed": [],
        "evaluation": {"n": n, "data": {"fingerprint": images}},
    } | changes  # fmt: skip


def speed(device: str = "cpu", data: str = "d", **windows: list[float]) -> Json:
    rows = [{"variant": name, "recipe": {}, "images_per_s": 1.0, "images_per_s_windows": values}
            for name, values in windows.items()]  # fmt: skip
    return {"data": data, "device": device, "threads": 2, "windows": 3, "window_s": 2.0, "rows": rows}


def record(*rows: Json, speeds: tuple[Json, ...] = (), environment: Json = AROUND) -> Json:
    made = recipe_record.empty() | {"environments": [environment]}
    made["rows"] = [{**one, "environment": 0} for one in rows]
    made["speeds"] = [{**one, "environment": 0} for one in speeds]
    return made


@pytest.mark.parametrize("name", ["digits", "fashion-mnist", "emoji", "emoji-upsampling"])
def test_the_records_in_the_repository_read(name: str) -> None:
    file = Path(__file__).parents[2] / "benchmarks" / "results" / f"recipes-{name}.json"
    assert "| `default` |" in tables(recipe_record.join([(file, recipe_record.read(file))]))


def test_what_another_command_adds_stays(tmp_path: Path) -> None:
    """Two commands at once on one file: each reads it again before it writes."""
    file = tmp_path / "r.json"
    recipe_record.add(file, "rows", row(seed=0), AROUND)
    recipe_record.add(file, "rows", row(seed=1), OTHER)
    recipe_record.add(file, "speeds", speed(default=[1.0]), OTHER)
    recipe_record.add(file, "rows", row(seed=0, distance=9.0), AROUND)
    made = recipe_record.read(file)
    assert [(one["seed"], one["distance"], one["environment"]) for one in made["rows"]] == [(1, 2.0, 1), (0, 9.0, 0)]
    assert made["speeds"][0]["environment"] == 1
    assert len(made["environments"]) == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda made: made["rows"][0].pop("distance"), "is damaged: it lacks 'distance'"),
        (lambda made: made["rows"][0].pop("seed"), "lacks 'seed'"),
        (lambda made: made["rows"][0].update(status="good"), "lacks 'good'"),
        (lambda made: made["rows"][0].update(environment=7), "is damaged"),
        (lambda made: made["rows"].append("row"), "is damaged"),
        (lambda made: made["speeds"][0].pop("windows"), "lacks 'windows'"),
        (lambda made: made["speeds"][0]["rows"][0].pop("images_per_s_windows"), "lacks 'images_per_s_windows'"),
        (lambda made: made.pop("speeds"), "lacks 'speeds'"),
        (lambda made: made.update(schema=3), "with schema 2: it has 3"),
        (lambda made: made.update(rows={}), "is not a record of"),
        (lambda made: made.update(tool="gan-bench"), "is not a record of"),
    ],
)
def test_damaged_records(damage: Any, message: str, tmp_path: Path) -> None:
    made = record(row(), speeds=(speed(default=[1.0]),))
    file = tmp_path / "r.json"
    file.write_text(json.dumps(made))
    assert recipe_record.read(file) == made
    damage(made)
    file.write_text(json.dumps(made))
    with pytest.raises(GanportError, match=message):
        recipe_record.read(file)


def test_no_record(tmp_path: Path) -> None:
    with pytest.raises(GanportError, match="no record at"):
        recipe_record.read(tmp_path / "absent.json")
    with pytest.raises(GanportError, match="is a folder, expected a record"):
        recipe_record.read(tmp_path)
    assert recipe_record.read_or_empty(tmp_path / "absent.json") == recipe_record.empty()


def test_records_are_joined() -> None:
    one = record(row(seed=0), row("b", seed=0), speeds=(speed(default=[1.0]),))
    two = record(row(seed=1), row(seed=0), speeds=(speed(default=[5.0]), speed("gpu")), environment=OTHER)
    for order in ((one, two), (two, one)):
        joined = recipe_record.join([(Path("x"), each) for each in order])
        assert sorted((each["variant"], each["seed"]) for each in joined["rows"]) == [
            ("b", 0), ("default", 0), ("default", 1),
        ]  # fmt: skip
        newest = next(each for each in joined["speeds"] if each["device"] == "cpu")
        assert newest["rows"][0]["images_per_s_windows"] == [5.0]
        assert joined["environments"][newest["environment"]] == OTHER
        assert len(joined["speeds"]) == 2
    with pytest.raises(GanportError, match="second and a file before it hold different rows of default on d, 9 upd"):
        recipe_record.join([(Path("first"), one), (Path("second"), record(row(distance=3.0)))])
    changed = record(row(seed=5, recipe={"lr_d": 2, "size": 64}))
    with pytest.raises(GanportError, match="default on d with lr_d 1, now it is 2: the preset has changed"):
        recipe_record.join([(Path("first"), one), (Path("second"), changed)])


def test_a_table_of_seeds() -> None:
    rows = [row("one", 3.0), row("lucky", 1.0), row("lucky", 9.0, seed=1), row("lucky", 4.0, seed=2, noticed=["slow"])]
    rows += [row("half", None), row("half", 2.5, seed=1, noticed=["collapse"]), row("bad", None)]
    lines = tables(record(*rows)).splitlines()
    assert lines[0] == "### d, 9 updates of G"
    assert "seeds 0, 1, 2 (median, and range); real images are at 0.1." in lines[2]
    assert "not measured yet" in lines[3]
    assert lines[5:] == [
        "| recipe | distance | seeds | noticed |",
        "|---|---:|---:|---|",
        "| `half` | 2.5 | 1 of 2 | collapse, it diverged \\| at once |",
        "| `one` | 3 | 1 |  |",
        "| `lucky` | 4 (1–9) | 3 | slow |",
        "| `bad` | failed | 0 of 1 | it diverged \\| at once |",
    ]


def test_a_table_of_speeds() -> None:
    """The ratio is of windows beside each other: the machine was twice as fast in the second round."""
    rows = [row("default", 3.0), row("twice", 1.0), row("later", 2.0)]
    pass_ = speed(default=[1000.0, 2000.0, 1050.0], twice=[2000.0, 4000.0, 2100.0])
    text = tables(record(*rows, speeds=(pass_, speed(data="else", default=[7.0]))))
    assert "3 windows of 2 s in turn (median, and range), on cpu with 2 threads, A CPU, 2026-01-02." in text
    assert "| recipe | distance | seeds | images/s | × default | noticed |" in text
    assert "| `twice` | 1 | 1 | 2,100 (2,000–4,000) | 2.00 |  |" in text
    assert "| `default` | 3 | 1 | 1,050 (1,000–2,000) | 1.00 |  |" in text
    assert "| `later` | 2 | 1 |  |  |  |" in text, "trained after the pass"
    assert "not measured yet" not in text


def test_speeds_of_two_devices_and_without_a_baseline() -> None:
    text = tables(record(row("a"), speeds=(speed(a=[10.0]), speed("GPU X", a=[99.0]))))
    assert "| recipe | distance | seeds | images/s, cpu with 2 threads | images/s, GPU X | noticed |" in text
    assert "| `a` | 2 | 1 | 10 | 99 |  |" in text


def test_a_busy_machine_is_said() -> None:
    busy = AROUND | {"cpu_busy_fraction": 0.5}
    text = tables(record(row(), speeds=(speed(default=[1.0]),), environment=busy))
    assert "not to be quoted: the machine is 50% busy" in text


@pytest.mark.parametrize(
    "changes", [{"features": "y 2"}, {"n": 5}, {"fingerprint": "g"}, {"budget_steps": 10}, {"data": "e"}]
)
def test_what_cannot_be_compared_has_tables_of_its_own(changes: Json) -> None:
    text = tables(record(row("a", 2.0), row("b", 1.0), row("c", 0.5, **changes), row("b", None, seed=1)))
    first, second = text.split("\n\n### ")
    assert first.index("`b`") < first.index("`a`")
    assert "1 of 2" in first
    assert "`c`" not in first
    assert "`c`" in second


def test_no_rows() -> None:
    assert tables(recipe_record.empty()) == ""
    assert "| `a` | failed | 0 of 1 |" in tables(record(row("a", None)))
