"""What a file says of itself (`--info`), and whether it still draws its golden set (`--selftest`).

For `--info` its text is read and nothing is loaded or run; a file that says nothing of itself is tried, within limits.
Where a provider is named the model is opened on it, to say which nodes it leaves to the CPU.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_core.contract import PREFIX, Contract
from gan_core.errors import ProofError
from gan_core.files import archive, metadata
from gan_core.files.model_file import sha256_of
from gan_core.interface import describe_classes
from gan_core.latents import LAW_WORDS
from gan_core.limits import limits_for
from gan_core.printable import bytes_text, json_text, printable, shorten
from gan_core.said import OnnxAnswers, check_unsaid
from gan_serve.runtime import check_ours, runtimes
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.golden import GoldenResult, check_golden
from gan_serve.runtime.runtimes import check_runnable
from gan_serve.terminal import console
from gan_serve.terminal.layout import filled
from gan_serve.terminal.layout import width as terminal_width


@dataclass(frozen=True)
class Described:
    """What a file says of itself, or a trial of a stranger's ONNX file: its contract, its digest."""

    contract: Contract
    sha256: str
    provider: str = ""


def describe(path: Path, answers: OnnxAnswers = OnnxAnswers()) -> Described:
    """Reads the file's text; a file that says nothing of itself but for `answers` is tried (`runtime.probe`).

    Raises `GanportError` for a file that is missing or no generator.
    """
    path = check_runnable(path)
    where, sha256 = str(path), sha256_of(path)
    if path.suffix.lower() != ".onnx":
        check_unsaid(answers, where)
        return Described(archive.read_contract(path), sha256)
    text = metadata.read_onnx_text(where)
    metadata.check_external(text.external, where)
    contract = Contract.from_metadata(text.metadata, where=where)
    if contract is None:
        from gan_serve.runtime.probe import probe

        return Described(probe(where, answers, where).contract(answers), sha256)
    check_unsaid(answers, where)
    check_ours(contract, text.inputs, text.outputs, where)
    return Described(contract, sha256)


def info_json(generator: Generator | Described, path: Path) -> dict[str, Any]:
    """Every key of the contract, without its `gan.` prefix, and the file's own name, size and hash.

    `provider` and `cpu_nodes` are null where none was named.
    """
    keys = {key.removeprefix(PREFIX): json.loads(text) for key, text in generator.contract.to_metadata().items()}
    return {
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "sha256": generator.sha256,
        "provider": generator.provider or None,
        "cpu_nodes": _cpu_nodes(generator),
        **keys,
    }


def info_text(generator: Generator | Described, path: Path) -> str:
    """The contract as lines `name  value`; what a file does not say is left out."""
    lines: dict[str, str | tuple[str, ...]] = {
        "file": f"{path} ({bytes_text(path.stat().st_size)})",
        "sha256": generator.sha256,
        **_contract_lines(generator.contract),
        "runs on": _runs_on(generator),
    }
    shown = {name: value for name, value in lines.items() if value}
    width = max(map(len, shown))
    listed = {name: [value] if isinstance(value, str) else value for name, value in shown.items()}
    return "\n".join(
        filled(printable(value), terminal_width(), f"{'' if number else name:{width}}  ", " " * (width + 2))
        for name, values in listed.items()
        for number, value in enumerate(values)
    )


def _contract_lines(contract: Contract) -> dict[str, str | tuple[str, ...]]:
    return {
        "name": contract.name,
        "image": contract.interface.picture,
        **_inputs(contract),
        "styles": _styles(contract),
        "optional": ", ".join(contract.interface.options),
        "classes": describe_classes(contract.interface) if contract.interface.conditional else "none",
        "precision": _precision(contract),
        "weights": contract.weights,
        "source": _pairs(contract.source),
        "training": _pairs(contract.training),
        "exporter": _pairs(contract.exporter),
        "passes": ", ".join(contract.passes),
        "proof": _pairs(contract.parity),
        "golden set": f"{len(contract.golden)} images (check them with --selftest)" if contract.golden else "none",
        "assumed": contract.assumptions,
        "answered": contract.answers,
        "doubted": contract.doubts,
    }


def _inputs(contract: Contract) -> dict[str, str]:
    interface = contract.interface
    if interface.input is None:
        return {"latent": f"{interface.z_dim} components, {_law(contract)}"}
    halo = interface.input.halo
    return {"takes": interface.taken, "tiles": "no" if halo is None else f"with a halo of {halo} pixels"}


def _cpu_nodes(generator: Generator | Described) -> list[str] | None:
    if isinstance(generator, Described):
        return None
    from gan_serve.runtime.onnx_generator import OnnxGenerator

    nodes = generator.cpu_nodes() if isinstance(generator, OnnxGenerator) else None
    return None if nodes is None else list(nodes)


def _runs_on(generator: Generator | Described) -> str:
    nodes = _cpu_nodes(generator)
    if not nodes or generator.provider == "cpu":
        return generator.provider
    return f"{generator.provider}, and on the CPU {len(nodes)} nodes: {shorten(', '.join(nodes))}"


def _precision(contract: Contract) -> str:
    stored = "" if contract.store == "fp32" else f", weights saved as {contract.store}"
    kept = f"; in float32: {', '.join(contract.kept_fp32)}" if contract.kept_fp32 else ""
    return contract.precision + stored + kept


def _styles(contract: Contract) -> str:
    styles = contract.interface.styles
    return "" if styles is None else f"{styles.num_ws} of {styles.w_dim} numbers (--truncation-psi, --mix)"


def _law(contract: Contract) -> str:
    law = contract.interface.latent
    return f"{law.removesuffix('01')} {LAW_WORDS[law]}"


def _pairs(values: dict[str, Any]) -> str:
    """Values for people: of an object in them its name, where it has one. JSON has all of it."""
    shown = []
    for key, value in values.items():
        if isinstance(value, dict):
            value = value.get("name") or " ".join(f"{name} {each}" for name, each in value.items())
        value = f"{value:.4g}" if isinstance(value, float) else value
        shown.append(f"{key} {value if isinstance(value, str) else json_text(value)}")
    return ", ".join(shown)


def run_selftest(generator: Generator, where: str) -> tuple[str, dict[str, Any], ProofError | None]:
    """The table to show, the same as JSON, and the error to end with when an image or the graph's digest differs.

    Raises `GanportError` when the file carries no golden set, `ContractError` when that is damaged.
    """
    results = check_golden(generator)
    allowed = str(limits_for(generator.held_to))
    failed = [result for result in results if not result.ok]
    own = runtimes.DEFAULT_GRAPH_SHA256 if where == str(runtimes.DEFAULT_MODEL) else ""
    expected, found = generator.contract.graph_sha256 or own, generator.graph_sha256()
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
    columns = [*(console.Column(name, right=True) for name in ("seed", "class", "max LSB", "PSNR dB"))]
    return console.table([*columns, console.Column("", state=True)], rows)


def _as_json(result: GoldenResult) -> dict[str, Any]:
    psnr = None if math.isinf(result.psnr_db) else round(result.psnr_db, 2)
    return vars(result) | {"psnr_db": psnr}


def _decibels(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.1f}"
