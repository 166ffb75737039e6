"""How fast each recipe of a record trains, measured by itself: short windows of all of them, in turn.

The images/s of a row's own training depend on what ran beside it in those hours. Here every recipe of a data set gets a
process of its own (`lab.loops.worker`), all but one stand still, and each round takes a window of each
(`lab.loops.taking_turns`), after steps that do not count. Nothing is reported, drawn or saved meanwhile.

images/s are those drawn in updates of G, which budgets are counted in: five steps of D for one of G show what they
cost.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_bench.environment import load_average
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_serve.terminal import console
from lab.loops.messages import Train
from lab.loops.taking_turns import Loop, take_turns
from lab.recipes.variants import Data

WINDOWS = 3
WINDOW_S = 2.0


def recipes_of(rows: list[Json], data: Data) -> dict[str, Json]:
    """Variant → recipe, of the rows of `data` that were trained. Raises `GanportError` where there are none."""
    found = {row["variant"]: row["recipe"] for row in rows if row["data"] == data.text and row["status"] == "ok"}
    if not found:
        known = sorted({row["data"] for row in rows if row["status"] == "ok"})
        raise GanportError(
            f"--speed: the record holds no trained recipe on {data.text}",
            hint=f"it has {', '.join(known)}" if known else "train some: name --preset",
        )
    return found


def measure(
    rows: list[Json], data: Data, windows: int, window_s: float, device: str, root: Path | None, environment: Json
) -> Json:
    """One pass over the recipes that `rows` hold on `data`: the JSON of a speed. Completes `environment`.

    Raises `GanportError` for other images than the rows were trained on, `JobError` when a recipe fails to train.
    """
    from gan_trainer.devices import describe, resolve

    recipes = recipes_of(rows, data)
    on = resolve(device)
    check_images(rows, data, root)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as folder, ExitStack() as stack:
        common = Train("steps", data.name, str(on), Path(folder), root=root)
        loops = [Loop(variant, replace(common, recipe=recipe)) for variant, recipe in recipes.items()]
        for loop in loops:
            stack.enter_context(loop)
        take_turns(loops, windows, window_s)
        measured = [{"variant": loop.name, "recipe": recipes[loop.name], **loop.to_json()} for loop in loops]
        threads = loops[0].ready.threads
    environment |= {"took_s": round(time.monotonic() - began, 1), "load_average_1m_end": load_average()}
    return {
        "data": data.text, "device": describe(on), "threads": threads, "windows": windows, "window_s": window_s,
        "rows": measured,
    }  # fmt: skip


def check_images(rows: list[Json], data: Data, root: Path | None) -> Any:
    """The data set, decoded. Raises `GanportError` when rows of the same name were trained on other images."""
    from gan_trainer.data import open_dataset

    known = [row for row in rows if row["data"] == data.text and row["status"] == "ok"]
    size, channels = data.size, None
    if known:
        of_rows = known[0]["evaluation"]["data"]
        size, channels = of_rows["size"], of_rows["channels"]
    dataset = open_dataset(data.name, size=size, channels=channels, root=root)
    for row in known:
        fingerprint = row["evaluation"]["data"]["fingerprint"]
        if fingerprint != dataset.fingerprint:
            raise GanportError(
                f"{data.text} holds other images than {row['variant']} was trained on: their digest is "
                f"{dataset.fingerprint[:12]}…, the record's {fingerprint[:12]}…",
                hint="name the same folder, or begin another record",
            )
    console.note(f"{data.text}: {len(dataset):,} images of {dataset.size}x{dataset.size}")
    return dataset
