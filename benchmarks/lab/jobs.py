"""gan-gen's jobs in shards: their speed and memory, the same shards in parts and on Ray, and Ray's own writer.

    python -m lab.jobs --n 1000,10000,100000 --bench cpu.json --ray 2 --json FILE
    python -m lab.jobs --n 1000,10000,100000 --eval fashion-mnist --runs 1 --json FILE

Each run is a fresh process, timed from its start to its end. For each --n a job in tar shards by one command; for the
last also four commands with `--shard` one after the other, and with --ray `--engine ray` and Ray Data's own WebDataset
writer, with as many actors. The sha256 of all shards must be the same in all ways but the last, which has its own.
--bench is a record of gan-bench with this model, for the share of its best row.

With --eval it makes each job unmeasured, and measures `gan-train eval` of its shards, by each kind of features.
"""

from __future__ import annotations

import json as json_module
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_core.files.model_file import file_provenance, sha256_of
from gan_serve.runtime.runtimes import check_runnable, default_model
from gan_serve.terminal import console
from lab import shared
from lab.processes import Command, gan_gen, gan_train, run_once, script, share, table

MAX_N = 10**9
PARTS = 4
FEATURES = ("swd", "classifier")

app = console.new_app("Time gan-gen's jobs in shards.")


@app.command()
def main_command(
    n: Annotated[str, typer.Option("--n", metavar="N,N,…", help="Numbers of images.")] = "1000,10000",
    model: Annotated[Path | None, typer.Option(metavar="FILE", help="[default: ganport's own]")] = None,
    bench: Annotated[Path | None, typer.Option(metavar="FILE", help="A record of gan-bench with this model.")] = None,
    ray: Annotated[int, typer.Option(metavar="N", help="Also on a local Ray cluster, with N actors.")] = 0,
    data: Annotated[
        str | None, typer.Option("--eval", metavar="DATA", help="Instead gan-train eval of the jobs, on labelled data.")
    ] = None,
    runs: shared.Runs = 3,
    json: shared.RecordFile = None,
) -> None:
    """Time gan-gen's jobs in shards.

    \b
    Example:
      python -m lab.jobs --n 1000,10000,100000 --ray 2 --json jobs.json
    """
    counts = shared.whole_numbers(n, "--n", MAX_N, "such as 1000,10000")
    shared.check_numbers({"--runs": (runs, 1, shared.MAX_RUNS), "--ray": (ray, 0, 1000)})
    if ray:
        shared.require("a Ray cluster", ("ray",), "ray")
    if data is not None and (ray or bench is not None):
        raise GanportError("--eval measures gan-train eval alone", hint="leave --ray and --bench out")
    file = check_runnable(model or default_model())
    best = None if bench is None else best_row(bench, sha256_of(file))
    target = shared.record_target(json, {"--model": model, "--bench": bench})
    made = shared.new_record("jobs", packages=("onnxruntime", "ray", "pyarrow", "torch"))
    made |= {"model": file_provenance(file), "format": "tar", "runs": runs}
    rows: list[Json] = []
    if data is not None:
        with tempfile.TemporaryDirectory(prefix="gan-bench-") as place:
            rows = evaluated(file, counts, data, Path(place), runs)
        shares = {
            name: share([row for row in rows if row["features"] == name][-1], rows[number], "peak_rss_bytes")
            for number, name in enumerate(FEATURES)
        }
        made |= {"data": data, "rows": rows, "peak_rss_share": shares}
        shared.hand_over(made, table("images", [(row["name"], row) for row in rows], rates=True), json, target)
        return
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as place:
        for count in counts:
            rows.append(measured(f"{count}", [job(file, count, Path(place))], count, runs))
        parts = [job(file, counts[-1], Path(place), "--shard", f"{part}/{PARTS}") for part in range(PARTS)]
        finish = Command("finish", [*gan_gen(), "--quiet", "--finish", "--out", str(parts[0].out)], parts[0].out)
        rows.append(measured(f"{PARTS} parts in turn", [*parts, finish], counts[-1], runs))
        if ray:
            options = ("--engine", "ray", "--workers", str(ray))
            rows.append(
                measured(f"Ray, {ray} actors", [job(file, counts[-1], Path(place), *options)], counts[-1], runs)
            )
            out = Path(place) / "theirs"
            theirs = [*script("write_with_ray.py"), str(file), str(out), str(counts[-1]), str(ray)]
            rows.append(measured(f"Ray's own writer, {ray} actors", [Command("ray", theirs, out)], counts[-1], runs))
    check_same(rows[len(counts) - 1 :])
    made["rows"] = rows
    made["peak_rss_share"] = share(rows[len(counts) - 1], rows[0], "peak_rss_bytes")
    if best is not None:
        made |= {"bench_images_per_s": best, "share_of_bench": round(rows[len(counts) - 1]["images_per_s"] / best, 4)}
    shared.hand_over(made, table("images", [(row["name"], row) for row in rows], rates=True), json, target)


def job(model: Path, n: int, place: Path, *options: str) -> Command:
    """gan-gen's command of a job, into the one folder of all."""
    out = place / "shards"
    given = ["--quiet", "--model", str(model), "--n", str(n), "--out", str(out), "--format", "tar", *options]
    return Command("gan-gen", [*gan_gen(), *given], out)


def measured(name: str, commands: list[Command], n: int, runs: int) -> Json:
    """A row of the record: the commands one after the other, `runs` times, each time into an empty folder."""
    whole = Command(name, [], commands[0].out)
    shards: list[str] = []
    for _ in range(runs):
        shutil.rmtree(whole.out, ignore_errors=True)
        took = [run_once(Command(each.name, each.arguments, whole.out / "none")) for each in commands]
        whole.walls_s.append(sum(wall for wall, _ in took))
        peaks = [peak for _, peak in took if peak is not None]
        whole.peaks_bytes.append(max(peaks, default=None))
        shards = [sha256_of(path) for path in sorted(whole.out.glob("*.tar"))]
    row = whole.to_json()
    return {"name": name, "images": n} | row | {"images_per_s": round(n / row["wall_s"], 1), "sha256": shards}


def evaluated(
    model: Path, counts: list[int], data: str, place: Path, runs: int, features: tuple[str, ...] = FEATURES
) -> list[Json]:
    """Rows of the record: gan-train eval of a job of each number of images, by each kind of features. A first run, not
    measured, puts the data and the classifier into their cache."""
    rows: list[Json] = []
    for n in counts:
        made = job(model, n, place)
        run_once(made)
        for name in features:
            given = ["eval", str(made.out), "--data", data, "--features", name]
            command = Command(f"{n} by {name}", [*gan_train(), *given], place / "none")
            for number in range(runs + (n == counts[0])):
                wall_s, peak = run_once(command)
                if number or n != counts[0]:
                    command.walls_s.append(wall_s)
                    command.peaks_bytes.append(peak)
            row = command.to_json()
            row |= {"images_per_s": round(n / row["wall_s"], 1)}
            rows.append({"name": command.name, "images": n, "features": name} | row)
    return rows


def check_same(rows: list[Json]) -> None:
    """Raises `JobError` where the shards of a way differ; Ray's own writer makes others."""
    for row in rows:
        if row["sha256"] != rows[0]["sha256"] and not row["name"].startswith("Ray's own"):
            raise JobError(
                f"{row['name']}: other shards than by one command", hint="docs/scale.md says what decides them"
            )


def best_row(path: Path, sha256: str) -> float:
    """The images/s of gan-bench's best row for the model. Raises `GanportError` for a record of another one."""
    try:
        record = json_module.loads(path.read_text("utf-8"))
        files = {model["sha256"] for model in record["models"]}
        rates = [
            row["images_per_s"] for row in record["rows"] if row["runtime"] == "ganport" and row["precision"] == "fp32"
        ]
        if sha256 not in files:
            raise GanportError(f"{path} is a record of another model", hint="gan-bench FILE --json makes one")
        return float(max(rates))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GanportError(
            f"{path} is no record of gan-bench: {error}", hint="gan-bench FILE --json makes one"
        ) from error


if __name__ == "__main__":
    console.run(app, "python -m lab.jobs")
