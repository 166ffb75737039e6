"""The record of `lab.recipes`: rows that were trained, speeds that were measured, and on what each was.

environments[]   the block of docs/benchmarks.md, one for every command that added something
rows[]           a training and what it draws; `environment` is the number of its block (from 0)
speeds[]         one pass for each data set and device, see `lab.recipes.training`; `environment` as above
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from gan_bench.record import dumps
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files.atomic import write_text
from gan_core.files.model_file import check_file
from lab.recipes.variants import name_of
from lab.training_command import WATCHING

TOOL = "lab.recipes"
TOOLS = (TOOL, "gan_bench.recipes")
"""The second is the name in records from the time when the command was in the wheel."""
SCHEMA = 2
KEY = ("data", "variant", "budget_steps", "seed")
"""What makes a row: no two of a record have the same."""
NEEDED = {
    "failed": (*KEY, "status", "error", "recipe"),
    "ok": (*KEY, "status", "recipe", "distance", "floor", "features", "evaluation", "noticed"),
}


def empty() -> Json:
    """A record without rows."""
    return {"schema": SCHEMA, "tool": TOOL, "environments": [], "rows": [], "speeds": []}


def read(file: Path) -> Json:
    """The record in `file`, every recipe by its name of today: a preset may have changed since.

    Raises `GanportError` for anything else.
    """
    if file.exists():
        check_file(file, "record", in_folder=lambda folder: f"name the file in it: {folder}/record.json")
    try:
        made = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise GanportError(f"no record at {file}", hint="name --data and --preset to make one") from None
    except OSError as error:
        raise GanportError(f"cannot read {file}: {error.strerror}", hint="name a record") from error
    except ValueError:
        made = None
    if not isinstance(made, dict) or not isinstance(made.get("rows"), list) or made.get("tool", TOOL) not in TOOLS:
        raise GanportError(f"{file} is not a record of {TOOL}", hint="name another file")
    if made.get("schema") != SCHEMA:
        raise GanportError(
            f"{file} is not a record of {TOOL} with schema {SCHEMA}: it has {made.get('schema')!r}",
            hint="a newer ganport may read it; else name another file",
        )
    made["tool"] = TOOL
    _check(made, file)
    for row in (*made["rows"], *(row for speed in made["speeds"] for row in speed["rows"])):
        row["variant"] = name_of(row["recipe"]) or row["variant"]
    return made


def read_or_empty(file: Path) -> Json:
    """`read`, or a record without rows where there is no file."""
    return read(file) if file.exists() else empty()


def add(file: Path, part: str, made: Json, environment: Json) -> Json:
    """Puts a row ("rows") or a pass ("speeds") into the record in `file`, in the place of an older one. Returns it.

    The file is read again for it, so that what another command has added meanwhile stays.
    """
    record = read_or_empty(file)
    _put(record, part, made, environment)
    write_text(file, dumps(record))
    return record


def find(record: Json, key: Json) -> Json | None:
    """The row of `key`, or None."""
    return next((row for row in record["rows"] if same(row, key)), None)


def same(row: Json, other: Json, names: Iterable[str] = KEY) -> bool:
    return all(row[name] == other[name] for name in names)


def join(records: Iterable[tuple[Path, Json]]) -> Json:
    """Records as one. A row in several must be the same in all; of speeds of the same the newest stays.

    Raises `GanportError` otherwise, naming the file.
    """
    joined = empty()
    for file, record in records:
        for row in record["rows"]:
            held = find(joined, row)
            if held is not None and held | {"environment": 0} != row | {"environment": 0}:
                raise GanportError(
                    f"{file} and a file before it hold different rows of {row['variant']} on {row['data']}, "
                    f"{row['budget_steps']} updates of G, seed {row['seed']}",
                    hint="print the records one by one",
                )
            if held is None:
                _put(joined, "rows", row, record["environments"][row["environment"]])
        for speed in record["speeds"]:
            environment = record["environments"][speed["environment"]]
            older = [joined["environments"][held["environment"]]["date"] for held in joined["speeds"]
                     if same(held, speed, ("data", "device"))]  # fmt: skip
            if not older or older[0] < environment["date"]:
                _put(joined, "speeds", speed, environment)
    check_recipes(joined["rows"])
    return joined


def check_recipes(rows: Iterable[Json]) -> None:
    """Raises `GanportError` when one name on one data set means two recipes.

    A preset has changed in between, or a recipe has fields that are not today's, so that it keeps its name of then.
    """
    first: dict[tuple[str, str], Json] = {}
    for row in rows:
        held = first.setdefault((row["data"], row["variant"]), row["recipe"])
        for name in sorted((held.keys() | row["recipe"].keys()) - WATCHING):
            one, other = held.get(name), row["recipe"].get(name)
            if one != other:
                raise GanportError(
                    f"the record holds {row['variant']} on {row['data']} with {name} {one}, now it is {other}: "
                    "the preset has changed",
                    hint="begin another record",
                )


def _put(record: Json, part: str, made: Json, environment: Json) -> None:
    names = KEY if part == "rows" else ("data", "device")
    if environment not in record["environments"]:
        record["environments"].append(environment)
    kept = [old for old in record[part] if not same(old, made, names)]
    record[part] = [*kept, made | {"environment": record["environments"].index(environment)}]


def _check(record: Json, file: Path) -> None:
    """Raises `GanportError` for a record that lacks something."""
    try:
        blocks = record["environments"]
        for row in record["rows"]:
            for name in NEEDED[row["status"]]:
                row[name]
            blocks[row["environment"]]["date"]
        for speed in record["speeds"]:
            for name in ("data", "device", "threads", "windows", "window_s"):
                speed[name]
            for row in speed["rows"]:
                for name in ("variant", "recipe", "images_per_s", "images_per_s_windows"):
                    row[name]
            blocks[speed["environment"]]["date"]
    except (KeyError, IndexError, TypeError) as error:
        raise GanportError(f"{file} is damaged: it lacks {error}", hint="it was cut short or edited") from None
