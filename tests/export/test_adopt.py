"""`gan-export adopt`: a copy of a stranger's ONNX file that keeps the contract and draws what the original draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from gan_core.errors import GanportError
from gan_core.files import metadata
from gan_core.latents import latents
from gan_core.said import OnnxAnswers
from gan_export.adopt import adopt, original_of
from gan_export.proof import Report
from gan_serve.runtime.golden import check_golden
from gan_serve.runtime.onnx_generator import OnnxGenerator
from real_files import real_file
from serve import onnx_files
from serve.strangers import FORMS, Z_DIM, stranger, try_here, with_input, with_output

Adopt = Callable[..., tuple[Report, OnnxGenerator]]


@pytest.fixture(autouse=True)
def _tried_here(monkeypatch: pytest.MonkeyPatch) -> None:
    try_here(monkeypatch)


@pytest.fixture
def adopted(tmp_path: Path) -> Adopt:
    """(the report, the copy) of a file; asserts that both files draw the same."""

    def make(proto: onnx.ModelProto | Path, **answers: Any) -> tuple[Report, OnnxGenerator]:
        path = proto if isinstance(proto, Path) else tmp_path / "theirs.onnx"
        if not isinstance(proto, Path):
            path.write_bytes(proto.SerializeToString())
        said = OnnxAnswers(**answers)
        report = adopt(path, original_of(path, said), tmp_path / "ours.onnx")
        assert report.ok, report.failed
        assert report.against == "the original"
        copy, original = OnnxGenerator(tmp_path / "ours.onnx", "cpu", 1), OnnxGenerator(path, "cpu", 1, answers=said)
        assert copy.ours
        assert copy.contract.interface == original.contract.interface
        drawn = copy.generate(range(9), batch_size=9)
        assert np.abs(drawn.astype(int) - original.generate(range(9))).max() <= 1
        np.testing.assert_array_equal(drawn[4:5], copy.generate([4]))
        assert all(result.ok for result in check_golden(copy))
        return report, copy

    return make


@pytest.mark.slow
@pytest.mark.parametrize(("form", "answers"), FORMS.values(), ids=list(FORMS))
def test_every_form_is_adopted(adopted: Adopt, form: dict[str, Any], answers: dict[str, Any]) -> None:
    report, copy = adopted(stranger(**form), **answers)
    assert report.assumptions == copy.contract.assumptions
    assert copy.contract.source["sha256"]
    batch = copy.contract.passes[0] if copy.contract.passes[0] in ("free_batch", "one_by_one") else ""
    wanted = (
        "one_by_one"
        if form.get("layout") == "HWC"
        else "free_batch"
        if "baked" in form or form.get("z", "N")[0] != "N"
        else ""
    )
    assert batch == wanted


def test_bytes_another_input_and_another_output(adopted: Adopt) -> None:
    proto = with_output(stranger(activation="Sigmoid", scale=255.0, out_type="uint8"), "features", "zw", ("N", 216))
    copy = adopted(with_input(proto, "psi"), constants=(("psi", 0.5),))[1]
    assert copy.contract.answers == ("psi is 0.5",)
    assert [port.name for port in copy.session.get_inputs()] == ["z"]
    assert [port.name for port in copy.session.get_outputs()] == ["image", "pixels"]


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = [{"z": latents(range(64), Z_DIM)}]

    def get_next(self) -> dict[str, Any]:
        return self.left.pop() if self.left else {}


def test_integers_as_onnxruntime_quantises(adopted: Adopt, tmp_path: Path) -> None:
    model = stranger(z_name="z")
    quantize_static(model, tmp_path / "theirs.onnx", Calibration(), quant_format=QuantFormat.QOperator)
    assert adopted(tmp_path / "theirs.onnx")[1].contract.precision == "int8"
    assert "QLinearMatMul" in metadata.read_onnx_text(tmp_path / "ours.onnx").operators


@pytest.mark.parametrize("name", ["z", "image", "pixels"])
def test_names_of_ours_inside_a_strangers_graph(adopted: Adopt, name: str) -> None:
    proto = stranger(z_name="label")
    for node in proto.graph.node:
        node.input[:] = [name if each == "active" else each for each in node.input]
        node.output[:] = [name if each == "active" else each for each in node.output]
    adopted(proto)


def test_nodes_in_any_order(adopted: Adopt) -> None:
    proto = stranger()
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    adopted(proto)


def test_a_batch_of_one_that_no_reshape_holds(adopted: Adopt) -> None:
    """Zeros for one image are added along an axis: the copy draws one by one."""
    proto = stranger(z=(1, Z_DIM), label="int64", label_shape=(1,))
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 8, 9), np.float32), "zeros"))
    proto.graph.node.insert(-1, helper.make_node("Concat", ["turned", "zeros"], ["opaque"], axis=1))
    proto.graph.node[-1].input[0] = "opaque"
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("out", TensorProto.FLOAT, (1, 4, 8, 9)))
    copy = adopted(proto)[1]
    assert copy.contract.passes[0] == "one_by_one"
    assert copy.contract.interface.image == (4, 8, 9)


def test_a_batch_of_four_one_by_one(adopted: Adopt) -> None:
    proto = stranger(z=(4, Z_DIM), image=(3, 8, 9))
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((4, 1, 8, 9), np.float32), "zeros"))
    proto.graph.node.insert(-1, helper.make_node("Concat", ["turned", "zeros"], ["opaque"], axis=1))
    proto.graph.node[-1].input[0] = "opaque"
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("out", TensorProto.FLOAT, (4, 4, 8, 9)))
    assert adopted(proto)[1].contract.passes[0] == "one_by_one"


def test_norms_are_folded_and_weights_come_inside(adopted: Adopt, tmp_path: Path) -> None:
    proto = stranger(image=(3, 8, 8))
    rng = np.random.default_rng(0)
    for name in ("scale3", "bias3", "mean3", "var3"):
        proto.graph.initializer.append(numpy_helper.from_array(rng.uniform(0.5, 1, 3).astype(np.float32), name))
    kernel = rng.standard_normal((3, 3, 3, 3)).astype(np.float32) / 9
    proto.graph.initializer.append(numpy_helper.from_array(kernel, "conv.weight"))
    proto.graph.node[-1].input[0] = "bounded"
    for node in (
        helper.make_node("Conv", ["turned", "conv.weight"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv", "scale3", "bias3", "mean3", "var3"], ["norm"]),
        helper.make_node("Tanh", ["norm"], ["bounded"]),
    ):
        proto.graph.node.insert(len(proto.graph.node) - 1, node)
    path = tmp_path / "split.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="split.data", size_threshold=512)
    copy = adopted(path)[1]
    assert "fold_norms" in copy.contract.passes
    operators = {node.op_type for node in onnx.load(tmp_path / "ours.onnx", load_external_data=False).graph.node}
    assert "BatchNormalization" not in operators


def test_what_draws_noise_is_not_adopted(tmp_path: Path) -> None:
    proto = stranger()
    proto.graph.node.insert(-1, helper.make_node("RandomNormalLike", ["turned"], ["noise_map"], scale=0.01))
    proto.graph.node.insert(-1, helper.make_node("Add", ["turned", "noise_map"], ["noisy"]))
    proto.graph.node[-1].input[0] = "noisy"
    path = tmp_path / "random.onnx"
    path.write_bytes(proto.SerializeToString())
    report = adopt(path, original_of(path, OnnxAnswers(value_range=(-1.0, 1.0))), tmp_path / "ours.onnx")
    assert not report.ok
    assert not (tmp_path / "ours.onnx").exists()


def test_a_file_of_ours_is_not_adopted(tmp_path: Path) -> None:
    onnx_files.save(tmp_path / "g.onnx")
    with pytest.raises(GanportError, match="has a contract already") as caught:
        original_of(tmp_path / "g.onnx")
    assert caught.value.hint == f"to prove it: gan-export verify {tmp_path / 'g.onnx'}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stranger_vae", "stranger_cvae"])
def test_real_files(adopted: Adopt, name: str) -> None:
    report, copy = adopted(real_file(f"second/{name}.onnx"))
    assert report.check("image values").ok
    assert copy.contract.interface.value_range == (0.0, 1.0)
