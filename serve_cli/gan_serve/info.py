"""`gan-gen --info`: the contract, for people or as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gan_serve.classes import describe_classes
from gan_serve.contract import PREFIX, Contract
from gan_serve.generator import Generator
from gan_serve.plan import shorten
from gan_serve.printable import json_text, printable
from gan_serve.targets import size_text


def info_json(generator: Generator, path: Path) -> dict[str, Any]:
    """Every key of the contract, without its `gan.` prefix, and the file's own name, size and hash."""
    metadata = generator.contract.to_metadata()
    return {
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "sha256": generator.sha256,
        "provider": generator.provider,
        "cpu_nodes": _cpu_nodes(generator),
        **{key.removeprefix(PREFIX): json.loads(text) for key, text in metadata.items()},
    }


def info_text(generator: Generator, path: Path) -> str:
    """The contract as lines `name  value`; what a file does not say is left out."""
    contract = generator.contract
    lines = {
        "file": f"{path} ({size_text(path.stat().st_size)})",
        "sha256": generator.sha256,
        "name": contract.name,
        "image": f"{contract.width}x{contract.height} {'grey' if contract.channels == 1 else 'RGB'}",
        "latent": f"{contract.z_dim} components, {_law(contract)}",
        "classes": describe_classes(contract) if contract.conditional else "none",
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
        "runs on": _runs_on(generator),
    }
    shown = {name: value for name, value in lines.items() if value}
    width = max(map(len, shown))
    listed = {name: [value] if isinstance(value, str) else value for name, value in shown.items()}
    return "\n".join(
        f"{'' if number else name:{width}}  {printable(value)}"
        for name, values in listed.items()
        for number, value in enumerate(values)
    )


def _cpu_nodes(generator: Generator) -> list[str] | None:
    from gan_serve.onnx_generator import OnnxGenerator

    nodes = generator.cpu_nodes() if isinstance(generator, OnnxGenerator) else None
    return None if nodes is None else list(nodes)


def _runs_on(generator: Generator) -> str:
    nodes = _cpu_nodes(generator)
    if not nodes or generator.provider == "cpu":
        return generator.provider
    return f"{generator.provider}, and on the CPU {len(nodes)} nodes: {shorten(', '.join(nodes))}"


def _precision(contract: Contract) -> str:
    stored = "" if contract.store == "fp32" else f", weights saved as {contract.store}"
    kept = f"; in float32: {', '.join(contract.kept_fp32)}" if contract.kept_fp32 else ""
    return contract.precision + stored + kept


def _law(contract: Contract) -> str:
    return "normal N(0, 1)" if contract.latent == "normal" else "uniform U(-1, 1)"


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value if isinstance(value, str) else json_text(value)}" for key, value in values.items())
