"""`gan-gen --selftest`: the golden set drawn again, compared, shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gan_core.errors import ProofError
from gan_core.limits import limits_for
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.golden import GoldenResult, check_golden
from gan_serve.terminal import console


def run_selftest(generator: Generator, where: str) -> tuple[str, dict[str, Any], ProofError | None]:
    """The table to show, the same as JSON, and the error to end with when an image or the graph's digest differs.

    Raises `GanportError` when the file carries no golden set, `ContractError` when that is damaged.
    """
    results = check_golden(generator)
    allowed = str(limits_for(generator.held_to))
    failed = [result for result in results if not result.ok]
    expected, found = generator.contract.graph_sha256, generator.graph_sha256()
    changed = bool(expected and found and expected != found)
    error = None
    if changed:
        error = ProofError(
            f"the graph is not the one that was exported: its sha256 is {found}, the contract's is {expected}",
            hint="the file was changed after its export; export it again",
        )
    if failed:
        worst = max(failed, key=lambda result: (result.max_lsb, -result.psnr_db))
        error = ProofError(
            f"{len(failed)} of {len(results)} golden images differ: seed {worst.seed} by {worst.max_lsb} LSB, "
            f"{_decibels(worst.psnr_db)} dB, allowed is {allowed}",
            hint="the file was changed after its export, or this provider computes wrongly; try --provider cpu",
        )
    record = {
        "model": where,
        "sha256": generator.sha256,
        "provider": generator.provider,
        "precision": generator.contract.precision,
        "allowed": allowed,
        "graph": "changed" if changed else "as exported" if expected and found else "no digest",
        "ok": not failed and not changed,
        "images": [_as_json(result) for result in results],
    }
    return _table(results), record, error


def _table(results: Sequence[GoldenResult]) -> str:
    rows = [
        [
            str(result.seed),
            "-" if result.label is None else str(result.label),
            str(result.max_lsb),
            _decibels(result.psnr_db),
            "ok" if result.ok else "FAILED",
        ]
        for result in results
    ]
    return console.table(["seed", "class", "max LSB", "PSNR dB", ""], rows, right=(0, 1, 2, 3))


def _as_json(result: GoldenResult) -> dict[str, Any]:
    psnr = None if math.isinf(result.psnr_db) else round(result.psnr_db, 2)
    return vars(result) | {"psnr_db": psnr}


def _decibels(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.1f}"
