"""How often forensics is right: generators drawn at random, drafted from their tensors alone, investigated, compared.

python -m lab.forensics_accuracy --n 200 --seed 0 --json benchmarks/results/forensics-accuracy.json
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files import atomic
from gan_core.files.outputs import check_outputs
from gan_serve.terminal import console
from lab import shared

NAME = "python -m lab.forensics_accuracy"
FIELDS = ("latent", "activation", "eps", "upsample", "merge", "structure")

HELP = """How often forensics is right: random generators, drafted from their tensors alone, investigated, compared.

A choice is a latent law, an activation with its slope, an eps, a structure (strides, paddings, upsampling) …. "near" is
another name for almost the same network, such as ReLU and LeakyReLU 0.01. docs/forensics.md has the method and the
numbers.

\b
Examples:
  python -m lab.forensics_accuracy --n 20
  python -m lab.forensics_accuracy --n 200 --seed 0 --json forensics-accuracy.json
  python -m lab.forensics_accuracy --n 5 --seed 40 --samples 512
"""

app = console.new_app(HELP)


@app.command(help=HELP)
def main_command(
    n: Annotated[int, typer.Option(help="Number of generators.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the first; the others follow.", min=0)] = 0,
    samples: Annotated[int, typer.Option(help="Latents that forensics may run.", min=16)] = 2048,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the record here.")] = None,
) -> None:
    """Draw N generators, investigate each, and print how often each kind of choice was found."""
    check_outputs({}, {"--json": json_path})
    rows: list[Json] = []
    with console.progress(n, "generators") as bar:
        for number in range(seed, seed + n):
            rows.append(examine(number, samples))
            bar.update(1)
            missed = [s["field"] for s in rows[-1]["choices"] if s["traced"] and s["verdict"] == "wrong"]
            if missed or rows[-1]["error"]:
                console.note(f"{number}: {rows[-1]['error'] or 'missed ' + ', '.join(missed)}")
    record = summarise(rows) | {"protocol": _protocol(n, seed, samples)}
    if json_path is not None:
        words = ["--n", str(n), "--seed", str(seed), "--samples", str(samples), "--json", str(json_path)]
        around = shared.look_around("forensics_accuracy", words=words, warns=False)
        record = {"kind": "forensics-accuracy", "environment": around} | record
        atomic.write_text(json_path, _dump(record | {"generators": rows}))
        console.note(f"record: {json_path}")
    console.show(table(record))


def examine(number: int, samples: int) -> Json:
    """One generator: what was drawn, what was found. `error` says why it could not be investigated, or is empty."""
    from gan_export.forensics import investigate
    from gan_export.understanding.understand import draft_candidates
    from lab.forensics_accuracy.random_generators import random_generator
    from lab.forensics_accuracy.scoring import score, strides, structure, units

    drawn = random_generator(number)
    row: Json = {"seed": number, "kind": drawn.kind, "structure": strides(drawn.spec), "error": "", "choices": []}
    try:
        drafts = draft_candidates(drawn.state_dict)
        draft = investigate(drafts, samples=samples)
    except GanportError as error:
        return row | {"error": str(error)}
    row["drafted"] = any(structure(other.spec) == structure(drawn.spec) for other in drafts)
    row["candidates"] = len(drafts)
    row["fit"] = draft.fit
    if len(units(draft.spec)) != len(units(drawn.spec)):
        return row | {"error": "the draft has other layers"}
    row["choices"] = [
        {
            "field": s.field,
            "truth": _label(s.truth),
            "found": _label(s.found),
            "verdict": s.verdict,
            "evidence": s.evidence,
            "traced": s.traced,
        }
        for s in score(draft, drawn.spec)
    ]
    return row


def identified(row: Json) -> bool:
    """Whether every choice that leaves a trace was found, near-identical values counting as found."""
    return not row["error"] and all(c["verdict"] != "wrong" for c in row["choices"] if c["traced"])


def summarise(rows: list[Json]) -> Json:
    """Counts over all generators: re-identified, per field, confusion, calibration, and what leaves no trace."""
    choices = [choice for row in rows for choice in row["choices"]]
    traced = [choice for choice in choices if choice["traced"]]
    untraced = [choice for choice in choices if not choice["traced"] and choice["field"] != "structure"]
    ends = [choice for choice in choices if not choice["traced"] and choice["field"] == "structure"]
    good = sum(map(identified, rows))
    exact = sum(not r["error"] and all(c["verdict"] == "right" for c in r["choices"] if c["traced"]) for r in rows)
    return {
        "summary": {
            "generators": len(rows),
            "identified": good,
            "identified_share": round(good / len(rows), 4),
            "identified_exactly": exact,
            "not_drafted": sum(bool(row["error"]) or not row.get("drafted", False) for row in rows),
            "structure_wrong_behind_the_last_batch_norm": len(ends),
            "untraced_choices": len(untraced),
            "untraced_reported_none": sum(choice["evidence"] == "none" for choice in untraced),
        },
        "fields": {field: _counts(c for c in traced if c["field"] == field) for field in FIELDS},
        "calibration": {
            evidence: _counts(c for c in traced if c["evidence"] == evidence)
            for evidence in ("proved", "strong", "weak", "none")
        },
        "confusion": {
            field: _confusion([c for c in traced if c["field"] == field])
            for field in ("activation", "eps", "latent", "structure")
        },
    }


def table(record: Json) -> str:
    """The record's summary as text."""
    summary = record["summary"]
    header = ("choice", "traced", "right", "near", "wrong")
    rows = [(field, *(str(c[k]) for k in ("all", "right", "near", "wrong"))) for field, c in record["fields"].items()]
    evidence = [(k, *(str(c[v]) for v in ("all", "right", "near", "wrong"))) for k, c in record["calibration"].items()]
    share = f"{summary['identified']} of {summary['generators']} generators re-identified"
    apart = f"{summary['untraced_reported_none']} of {summary['untraced_choices']} untraced choices reported as none"
    numbers = range(1, 5)
    return "\n\n".join(
        (
            f"{share} ({summary['identified_exactly']} to the letter); {apart}",
            console.table(header, rows, right=numbers),
            console.table(("evidence", *header[1:]), evidence, right=numbers),
        )
    )


def _counts(choices: Iterable[Json]) -> Json:
    verdicts = Counter(choice["verdict"] for choice in choices)
    return {"all": verdicts.total()} | {verdict: verdicts[verdict] for verdict in ("right", "near", "wrong")}


def _confusion(choices: list[Json]) -> Json:
    """{truth: {found: count}}, the diagonal included."""
    found: dict[str, Counter[str]] = {}
    for choice in choices:
        found.setdefault(choice["truth"], Counter())[choice["found"]] += 1
    return {truth: dict(counts.most_common()) for truth, counts in sorted(found.items())}


def _label(value: Any) -> str:
    if isinstance(value, dict):
        if "mode" in value:
            return str(value["mode"])
        slope = value.get("slope")
        return str(value["name"]) if slope is None or value["name"] == "elu" else f"{value['name']} {slope:g}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _protocol(n: int, seed: int, samples: int) -> Json:
    from gan_export.forensics import evidence, statistics
    from lab.forensics_accuracy import random_generators as drawn

    return {
        "n": n,
        "seed": seed,
        "samples": samples,
        "batches": drawn.BATCHES,
        "batch_size": drawn.BATCH_SIZE,
        "weight_step": drawn.LEARNING_RATE,
        "kinds": list(drawn.KINDS),
        "activations": dict(zip(map(_named, drawn.ACTIVATIONS), drawn.ACTIVATION_ODDS, strict=True)),
        "eps": dict(zip(map(str, drawn.EPS), drawn.EPS_ODDS, strict=True)),
        "thresholds": {"good": statistics.GOOD, "clear": evidence.CLEAR, "paired": evidence.PAIRED},
    }


def _named(activation: tuple[str, float | None]) -> str:
    return _label({"name": activation[0], "slope": activation[1]})


def _dump(record: Json) -> str:
    """JSON with one generator a line."""
    rows = ",\n    ".join(json.dumps(row) for row in record["generators"])
    head = json.dumps({k: v for k, v in record.items() if k != "generators"}, indent=2)
    return f'{head[:-2]},\n  "generators": [\n    {rows}\n  ]\n}}\n'
