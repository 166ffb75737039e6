"""What a model file says of itself: an ONNX file's text, a TorchScript archive's code and contract; and latents."""

from __future__ import annotations

import dataclasses
import io
import random
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from export.script_files import CONTRACT, Plain
from fuzz import mutations
from fuzz.runner import Target
from gan_core.files.archive import read_entries
from gan_core.files.metadata import graph_sha256, peek, read_onnx_text
from gan_core.files.model_file import count_classes, read_head, refuse_what_is_not_onnx
from gan_core.golden import decode
from gan_core.printable import json_text
from gan_core.said import OnnxAnswers
from gan_export.script_check import check_entries
from gan_export.torchscript_export import to_archive
from gan_serve.gen.about import describe, info_json, info_text
from gan_serve.runtime.foreign import understand
from gan_serve.runtime.plan import LatentPlan, fit_latents, open_latents
from gan_serve.terminal.console import table
from serve import onnx_files, strangers


def seeds() -> list[bytes]:
    """Models with and without classes and metadata, archives, and latents."""
    models = [
        onnx_files.model(about, onnx_files.weights(about)).SerializeToString()
        for about in (onnx_files.with_golden(onnx_files.contract()), onnx_files.with_golden(onnx_files.classes()))
    ]
    models += [
        strangers.stranger(label="int64", one_hot_by=form).SerializeToString() for form in ("Gather", "OneHot", "Equal")
    ]
    about = dataclasses.replace(CONTRACT, spec={"layers": [{"kind": "linear"}]}, golden=())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        modules = (Plain(), torch.nn.Sequential(Plain()))
        archives = [to_archive(torch.jit.script(module.eval()), about) for module in modules]
    arrays = []
    for array in (np.zeros((3, 8), np.float32), np.zeros((2, 8, 1, 1)), np.zeros(8, np.float16)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        arrays.append(buffer.getvalue())
    return [*models, *archives, *arrays]


def read(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if data.startswith(b"\x93NUMPY"):
            path = Path(folder, "z.npy")
            path.write_bytes(data)
            plan = LatentPlan(CONTRACT, fit_latents(open_latents(path), path, CONTRACT.interface.z_dim), "z.npy")
            plan.latents(0, min(plan.n, 4))
            return
        path = Path(folder, "g.ts" if data.startswith(b"PK") else "g.onnx")
        path.write_bytes(data)
        if path.suffix == ".ts":
            check_entries(read_entries(path), "g.ts")
        else:
            refuse_what_is_not_onnx(path, read_head(path))
            graph_sha256(data)
            peek(data, "gan.spec")
            text = read_onnx_text(data)
            if "gan.contract" not in text.metadata:  # of which a trial would tell more, in a process of its own
                count_classes(data, text.inputs[0].name if text.inputs else "y")
                understand(text.inputs, text.outputs, OnnxAnswers(), "g.onnx")
                return
        about = describe(path)
        for said in (info_text(about, path), json_text(info_json(about, path)), table(["x"], [[str(about.contract)]])):
            said.encode()
        c, h, w = about.contract.interface.image
        for golden in about.contract.golden:
            decode(golden, (h // golden.scale, w // golden.scale, c))


def mutate(data: bytes, draw: random.Random) -> bytes:
    if data.startswith(b"PK"):
        return mutations.of_zip(data, draw, _entry)
    if data.startswith(b"\x93NUMPY") or draw.random() < 0.3:
        return mutations.of_bytes(data, draw)
    try:
        model = onnx.load_model_from_string(data)
    except Exception:
        return mutations.of_bytes(data, draw)
    ports = [*model.graph.input, *model.graph.output]
    if model.metadata_props and draw.random() < 0.8:
        pair = draw.choice(model.metadata_props)
        pair.value = _unicode(mutations.of_json(_unicode(pair.value), draw))
    elif ports:
        port = draw.choice(ports)
        dims = port.type.tensor_type.shape.dim
        if dims and draw.random() < 0.7:
            draw.choice(dims).dim_value = draw.choice((-1, 0, 1, 2**31, 2**62))
        else:
            port.name = _unicode(mutations.of_text(_unicode(port.name), draw))
    mutated: bytes = model.SerializeToString()
    return mutated


def _entry(name: str, data: bytes, draw: random.Random) -> bytes:
    if "/gan." in name:
        return mutations.of_json(data.decode("utf-8", "ignore"), draw).encode("utf-8", "surrogatepass")
    return mutations.of_bytes(data, draw)


def _unicode(text: str | bytes) -> str:
    """What a protobuf string can hold; protobuf gives a broken one as bytes."""
    return (text.encode("utf-8", "ignore") if isinstance(text, str) else text).decode("utf-8", "ignore")


TARGET = Target(read, seeds, mutate)
