"""What comes out of a graph is held against what was asked for: count, sizes and type, on every way to an image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gan_core.errors import ContractError
from gan_serve.runtime import check_drawn
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.golden import check_golden
from gan_serve.runtime.onnx_generator import OnnxGenerator
from serve import onnx_files


def cut(proto: onnx.ModelProto, axis: int, keep: int, outputs: tuple[str, ...] = ("image", "pixels")) -> bytes:
    """The model, its outputs cut to `keep` along `axis` (of `pixels`) by a number that only a run shows."""
    nodes = proto.graph.node
    for node in nodes:
        node.output[:] = [f"{name}_whole" if name in outputs else name for name in node.output]
        node.input[:] = [f"{name}_whole" if name in outputs else name for name in node.input]
    constants: dict[str, npt.NDArray[Any]] = {
        "nought": np.array(0, np.float32),
        "kept": np.array([keep], np.int64),
        "none": np.array([0], np.int64),
    }
    nodes.extend(
        [
            helper.make_node("ReduceSum", ["z"], ["z_sum"], keepdims=0),
            helper.make_node("Mul", ["z_sum", "nought"], ["z_nought"]),
            helper.make_node("Cast", ["z_nought"], ["z_none"], to=TensorProto.INT64),
            helper.make_node("Add", ["z_none", "kept"], ["end"]),
        ]
    )
    for name in outputs:
        axes = np.array([axis if name == "pixels" or axis == 0 else axis + 1], np.int64)
        constants[f"{name}_axes"] = axes
        nodes.append(helper.make_node("Slice", [f"{name}_whole", "none", "end", f"{name}_axes"], [name]))
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    data: bytes = proto.SerializeToString()
    return data


WAYS: dict[str, Callable[[OnnxGenerator], object]] = {
    "generate": lambda generator: generator.generate(range(5)),
    "stream": lambda generator: list(generator.stream(range(5), batch_size=5)),
    "run": lambda generator: generator.run(np.zeros((5, 4), np.float32)),
    "run_pixels": lambda generator: generator.run_pixels(np.zeros((5, 4), np.float32)),
    "self-test": lambda generator: check_golden(generator),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("axis", "keep"), [(0, 0), (1, 5), (2, 3)], ids=["count", "height", "width"])
def test_every_way_to_an_image(way: str, threads: int, axis: int, keep: int) -> None:
    about = onnx_files.with_golden(onnx_files.contract())
    data = cut(onnx_files.model(about, onnx_files.weights(about)), axis, keep)
    generator = OnnxGenerator(data, "cpu", threads)
    with pytest.raises(
        ContractError, match=r"the model gave (image|pixels) (float32|uint8) \(\d, .*expected"
    ) as caught:
        WAYS[way](generator)
    assert caught.value.exit_code == 2
    assert "export it again" in caught.value.hint


def test_two_images_for_five() -> None:
    generator = OnnxGenerator(cut(onnx_files.ours(), 0, 2), "cpu", 1)
    message = "the model gave pixels uint8 (2, 6, 5, 3) for 5 latents, expected uint8 (5, 6, 5, 3)"
    with pytest.raises(ContractError, match=re.escape(message)):
        generator.generate(range(5), batch_size=5)
    assert generator.generate(range(4), batch_size=2).shape == (4, 6, 5, 3)  # what it can do, it does


def test_a_file_without_metadata(tmp_path: Path) -> None:
    proto = onnx_files.ours()
    del proto.metadata_props[:]
    del proto.graph.output[1]
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "n"
    (tmp_path / "m.onnx").write_bytes(cut(proto, 0, 4, ("image",)))
    generator = OnnxGenerator(tmp_path / "m.onnx", "cpu")
    with pytest.raises(ContractError, match=r"gave image float32 \(4, 3, 6, 5\) for 5 latents"):
        generator.generate(range(5), batch_size=5)


class Wrong(Generator):
    """A runtime of somebody else's, which gives `batches` whatever it is asked for."""

    provider, sha256 = "theirs", ""

    def __init__(self, *batches: Any) -> None:
        self.contract, self.batches = onnx_files.contract(), batches

    def run(self, z: Any, label: Any = None) -> Any:
        raise NotImplementedError

    def run_stream(self, feeds: Any) -> Iterator[Any]:
        for _, batch in zip(feeds, self.batches, strict=False):
            yield batch


def images(n: int, dtype: Any = np.uint8) -> Any:
    return np.zeros((n, 6, 5, 3), dtype)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ((images(2), images(1)), "gave pixels uint8 (1, 6, 5, 3) for 2 latents"),
        ((images(2),), "the model gave 2 images, expected 4"),
        ((images(4), images(4)), "gave pixels uint8 (4, 6, 5, 3) for 2 latents"),
        ((images(2, np.float32), images(2)), "gave pixels float32 (2, 6, 5, 3)"),
        ((images(2)[..., :1], images(2)), "gave pixels uint8 (2, 6, 5, 1)"),
        ((None, images(2)), "gave 0 images"),
        (("ab", images(2)), "gave pixels str () for 2 latents"),
    ],
)
def test_other_runtimes_are_held_to_it_as_well(batches: tuple[Any, ...], message: str) -> None:
    if batches[0] is None:
        batches, message = (), "gave 0 images, expected 4"
    with pytest.raises(ContractError, match=re.escape(message)):
        Wrong(*batches).generate(range(4), batch_size=2)
    assert (Wrong(images(2), images(2)).generate(range(4), batch_size=2) == 0).all()


def test_what_is_as_it_should_be_passes() -> None:
    check_drawn(onnx_files.contract(), (2, 4), image_NCHW=np.zeros((2, 3, 6, 5), np.float32), pixels_NHWC=images(2))
