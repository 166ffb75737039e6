"""The checkpoint, read once: what the peers' processes open afterwards is plain and quick to load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import torch

from gan_bench.peers.torch_peers import plain_contract
from gan_bench.questions import Checkpoint, Unpacked
from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.process import quiet
from gan_export.answers import Answers
from gan_export.identify import identify, source_of
from gan_export.onnx_export import dynamic_shapes
from gan_export.reading import read_checkpoint
from gan_export.source import Source, check_checkpoint, example_inputs, export_module
from gan_trainer.networks.generator import GeneratorCheckpoint, save_generator

MODULE, STOCK = "g.pt", "stock.onnx"


def unpack(ckpt: Path, folder: Path, contract: Contract | None, *, stock: bool) -> Unpacked:
    """Writes `g.pt` (a checkpoint of ours) and, if asked, `stock.onnx` to `folder`.

    contract  of the exported file that is measured beside: which of the checkpoint's generators it holds and the spec
              it was exported with are read from it, so that both draw the same. None: as `gan-export --accept`
    Raises `GanportError` for a file that holds no generator.
    """
    ckpt = check_checkpoint(ckpt)
    notes: list[str] = []
    source = _source(ckpt, folder, contract, notes)
    save_generator(module_checkpoint(source), folder / MODULE)
    if stock:
        export_stock(source, folder / STOCK)
    about = Checkpoint(
        name=source.name,
        z_dim=source.interface.z_dim,
        n_classes=source.interface.n_classes,
        image=source.interface.image,
        weights=source.weights,
        spec=None if source.spec is None else source.spec.to_json(),
        **{key: source.provenance[key] for key in ("file", "sha256", "size_bytes")},
    )
    notes += [f"assumed of {ckpt.name}: {text}" for text in source.assumptions]
    return Unpacked(torch.cuda.is_available(), about, tuple(notes))


def module_checkpoint(source: Source) -> GeneratorCheckpoint:
    """The source as a checkpoint of ours. Raises `GanportError` for a generator that no spec can say."""
    if source.spec is None:
        raise GanportError(
            "this generator is no chain of layers, so there is no module to compare with",
            hint="leave out the peers that need PyTorch's module",
        )
    return GeneratorCheckpoint(source.spec, dict(source.module.state_dict()), source.weights, source.training)


def export_stock(source: Source, target: Path) -> None:
    """`torch.onnx.export` (dynamo, its own optimisation, its own opset) of the generator and its pixels; no passes.

    The pixels are part of the graph, which is the fastest way to get them; the batch is dynamic. Optional inputs
    are left out. The interface is left in the metadata.
    """
    contract = plain_contract(source)
    plain = replace(source, interface=contract.interface)
    arguments = example_inputs(plain)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            export_module(plain),
            arguments,
            dynamo=True,
            dynamic_shapes=dynamic_shapes(arguments, plain.interface),
            input_names=plain.interface.inputs,
            output_names=plain.interface.outputs,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, contract.to_metadata())
    onnx.save(model, target)


def _source(ckpt: Path, folder: Path, contract: Contract | None, notes: list[str]) -> Source:
    """The generator of `ckpt` that `contract` is of."""
    reading = read_checkpoint(ckpt)
    known = contract is not None and contract.source.get("sha256") == reading.sha256
    if contract is not None and contract.source and not known:
        notes.append(f"{contract.name} was exported from another file than {ckpt.name} (their SHA-256 differ)")
    if reading.ours is not None:
        return source_of(identify(ckpt, Answers(), notes.append))
    key = contract.source.get("key") if known and contract is not None else None
    spec = None
    if contract is not None and contract.spec is not None:
        spec = folder / "spec.json"
        spec.write_text(json.dumps(contract.spec), encoding="utf-8")
    raw = known and contract is not None and contract.weights == "raw"
    return source_of(identify(ckpt, Answers(key=key or None, raw=raw, spec=spec), notes.append))
