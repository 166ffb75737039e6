"""What OnnxGenerator makes of files of ours, and of what somebody did to them (test_foreign has the others)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gan_core.errors import ContractError, GanportError, JobError
from gan_serve.runtime.onnx_generator import OnnxGenerator
from serve.onnx_files import load, ours

Change = Callable[[onnx.ModelProto], None]


def test_ours_from_a_path_and_from_bytes(model_path: Path) -> None:
    from_path, from_bytes = OnnxGenerator(model_path, "cpu"), OnnxGenerator(model_path.read_bytes(), "cpu")
    assert from_path.sha256 == from_bytes.sha256
    assert from_path.contract == from_bytes.contract
    assert from_path.ours
    assert from_path.contract.name == "tiny"
    assert from_path.threads >= 1
    np.testing.assert_array_equal(from_path.generate(range(3)), from_bytes.generate(range(3)))


def set_key(key: str, value: str) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        next(pair for pair in proto.metadata_props if pair.key == key).value = value

    return change


def interface(
    z_dim: int = 4,
    law: str = "normal",
    image: tuple[int, ...] = (3, 6, 5),
    value_range: tuple[int, int] = (-1, 1),
    n_classes: int = 0,
) -> Change:
    """`onnx_files.ours` with another interface."""
    sides = dict(zip(("channels", "height", "width"), image, strict=True))
    label = {"classes": n_classes, "names": []} if n_classes else None
    said = {"z": {"dim": z_dim, "law": law}, "label": label, "image": sides | {"range": value_range}}
    return set_key("gan.interface", json.dumps(said))


def drop_key(key: str) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        kept = [pair for pair in proto.metadata_props if pair.key != key]
        del proto.metadata_props[:]
        proto.metadata_props.extend(kept)

    return change


def rename_output(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        node.output[:] = ["picture" if name == "image" else name for name in node.output]
        node.input[:] = ["picture" if name == "image" else name for name in node.input]
    proto.graph.output[0].name = "picture"


def bake_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def free_latent(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "D"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_key("gan.contract", "3"), "m.onnx has contract version 3, this ganport reads 1 and 2"),
        (set_key("gan.contract", '"x"'), "m.onnx has contract version 'x', this ganport reads 1 and 2"),
        (set_key("gan.interface", "{"), "m.onnx: its metadata gan.interface is not JSON"),
        (set_key("gan.interface", "[3, 6, 5]"), "interface must be an object, got [3, 6, 5]"),
        (interface(image=(2, 6, 5)), "images must have 1, 3 or 4 channels, got 2"),
        (interface(law="cauchy"), "latent must be one of normal, uniform, uniform01, got 'cauchy'"),
        (interface(value_range=(1, -1)), "value_range must be (black, white)"),
        (set_key("gan.golden", '[{"seed": 1}]'), "golden must be 0 to 1,000 of: an object of seed, label, scale, png"),
        (set_key("gan.golden", "7"), "golden must be 0 to 1,000 of: an object of seed, label, scale, png, got 7"),
        (drop_key("gan.interface"), "m.onnx: its gan.* metadata is incomplete, it has no gan.interface"),
        (interface(z_dim=10**9), "z_dim must be a whole number from 0 to 16,777,216, got 1000000000"),
        (interface(n_classes=10**9), "n_classes must be a whole number from 0 to 1,048,576, got 1000000000"),
        (free_latent, "its graph tensor(float) z (?, ?)"),
        (
            interface(z_dim=5),
            "m.onnx: its metadata says that it takes tensor(float) z (?, 5), its graph tensor(float) z (?, 4)",
        ),
        (interface(image=(3, 5, 6)), "its metadata says that it gives tensor(float) image (?, 3, 5, 6)"),
        (interface(n_classes=2), "its metadata says that it takes label (?), its graph does not"),
        (rename_output, "its metadata says that it gives image (?, 3, 6, 5), its graph does not"),
        (bake_batch, "m.onnx: the batch of z is fixed at 1"),
    ],
)
def test_metadata_that_does_not_fit(change: Change, message: str) -> None:
    proto = ours()
    change(proto)
    with pytest.raises(ContractError, match=re.escape(message)):
        load(proto)


def test_an_input_that_the_metadata_does_not_name() -> None:
    proto = ours()
    proto.graph.input.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["batch", 1]))
    with pytest.raises(ContractError, match="its graph takes noise, its metadata does not"):
        load(proto)


def test_a_run_that_fails_says_the_batch(generator: OnnxGenerator) -> None:
    with pytest.raises(JobError, match="cpu failed on a batch of 2"):
        generator.run(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_wrong_threads(model_path: Path, threads: int) -> None:
    with pytest.raises(GanportError, match=f"`threads` must be 1 … 1024, got {threads}"):
        OnnxGenerator(model_path, threads=threads)
