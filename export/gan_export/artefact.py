"""The artefact's metadata: the contract of a source, stamped into an ONNX file and read back."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from typing import Any

import onnx

import gan_core
from gan_core.contract import Contract, Golden
from gan_core.errors import ContractError
from gan_core.files.metadata import graph_sha256
from gan_core.files.model_file import check_model_file, read_head, refuse_what_is_not_onnx
from gan_export.source import Source

DENOTATION_RANGES = {(-1.0, 1.0): "Normalized_1_1", (0.0, 1.0): "Normalized_0_1", (0.0, 255.0): "NominalRange_0_255"}
"""ONNX's names for what (black, white) are; other ranges have none. (onnx/docs/MetadataProps.md)"""


def contract_of(
    source: Source, *, golden: tuple[Golden, ...] = (), exporter: dict[str, Any] | None = None, **made: Any
) -> Contract:
    """The contract of an export of `source`. `exporter` adds to the versions of ganport and torch; `made` is what the
    export made of it: passes, precision, store, kept_fp32."""
    return Contract(
        source.interface,
        weights=source.weights,
        name=source.name,
        spec=source.spec.to_json() if source.spec else None,
        source=source.provenance,
        training=source.training,
        exporter=versions() | (exporter or {}),
        golden=golden,
        assumptions=source.assumptions,
        answers=source.answers,
        doubts=source.doubts,
        **made,
    )


def versions() -> dict[str, str]:
    """The versions that an export depends on: ganport's and torch's."""
    return {"ganport": gan_core.__version__, "torch": importlib.metadata.version("torch")}


def image_metadata(contract: Contract) -> dict[str, str]:
    """The standard ONNX keys that describe the output `image`."""
    keys = {
        "Image.BitmapPixelFormat": {1: "Gray8", 3: "Rgb8", 4: "Rgba8"}[contract.interface.channels],
        "Image.ColorSpaceGamma": "SRGB",
    }
    if (name := DENOTATION_RANGES.get(contract.interface.value_range)) is not None:
        keys["Image.NominalPixelRange"] = name
    return keys


def stamp(model: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """Writes `contract`, with the graph's digest, and the image denotation into `model`, for any it had; returns it."""
    del model.metadata_props[:]
    dimensions = ("DATA_BATCH", "DATA_CHANNEL", "DATA_FEATURE", "DATA_FEATURE")
    for output in model.graph.output:
        if output.name == "image":
            output.type.denotation = "IMAGE"
            for dimension, denotation in zip(output.type.tensor_type.shape.dim, dimensions, strict=True):
                dimension.denotation = denotation
    contract = dataclasses.replace(contract, graph_sha256=graph_sha256(to_bytes(model)))
    onnx.helper.set_model_props(model, contract.to_metadata() | image_metadata(contract))
    return model


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The file's bytes; the same model gives the same bytes."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def model_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """`metadata_props` as a dictionary."""
    return {entry.key: entry.value for entry in model.metadata_props}


def read_onnx(path: str | os.PathLike[str]) -> tuple[onnx.ModelProto, Contract]:
    """The model (external data, if any, not loaded) and its contract.

    Raises `GanportError` when the file is missing, `ContractError` when it is no ONNX model, carries no contract or
    one that cannot be read.
    """
    path = check_model_file(path)
    refuse_what_is_not_onnx(path, read_head(path))
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError has no public home
        raise ContractError(
            f"{path} is not a whole ONNX model: it was cut short or is damaged", hint="download or export it again"
        ) from error
    contract = Contract.from_metadata(model_metadata(model), where=str(path))
    if contract is None:
        raise ContractError(
            f"{path} carries no contract (no gan.* metadata), so there is nothing to hold it to",
            hint=f"gan-export adopt {path} makes a copy that has one, and gan-export onnx an export",
        )
    return model, contract
