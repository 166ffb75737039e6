"""OpenVINO for real, a second provider beside the CPU's: `make test-openvino` builds the environment that has it.

onnxruntime-openvino and onnxruntime own the same module, so that the main suite's environment cannot have both; there
these tests are skipped, and `test_plugins.py` and `test_providers.py` stand in with fakes.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.latents import latents
from gan_serve.runtime import providers
from gan_serve.runtime.golden import check_golden
from gan_serve.runtime.onnx_generator import OnnxGenerator
from serve import onnx_files

pytestmark = pytest.mark.skipif("openvino" not in providers.built_in(), reason="this onnxruntime has no OpenVINO")

ROOT = Path(__file__).parents[2]
SHIPPED = [*ROOT.glob("models/*.onnx"), *ROOT.glob("serve_cli/gan_serve/**/*.onnx")]


def dcgan(path: Path) -> Path:
    """A small DCGAN of random weights, 16x16 RGB: what a real export is made of."""
    about = onnx_files.contract(z_dim=16, image=(3, 16, 16), name="dcgan")
    rng = np.random.default_rng(0)
    widths = (16, 32, 16, 3)
    nodes = [helper.make_node("Reshape", ["z", "column"], ["x0"])]
    values: dict[str, npt.NDArray[np.generic]] = {"column": np.array([-1, 16, 1, 1], np.int64)}
    for layer, (before, after) in enumerate(itertools.pairwise(widths)):
        last = layer == len(widths) - 2
        values[f"w{layer}"] = rng.normal(0, 0.08 * 4, (before, after, 4, 4)).astype(np.float32)
        hyper: Any = {"strides": [2, 2], "pads": [1, 1, 1, 1]} if layer else {"strides": [1, 1], "pads": [0, 0, 0, 0]}
        nodes.append(helper.make_node("ConvTranspose", [f"x{layer}", f"w{layer}"], [f"y{layer}"], **hyper))
        if not last:
            nodes.append(helper.make_node("Relu", [f"y{layer}"], [f"x{layer + 1}"]))
    tail = onnx_files.model(about, {"W": np.zeros((16, 768), np.float32)})
    nodes.append(helper.make_node("Tanh", ["y2"], ["image"]))
    nodes += [node for node in tail.graph.node if node.op_type not in ("MatMul", "Tanh", "Reshape")]
    kept = [value for value in tail.graph.initializer if value.name not in ("W", "shape")]
    graph = helper.make_graph(
        nodes,
        "dcgan",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 16])],
        list(tail.graph.output),
        [*kept, *(numpy_helper.from_array(value, name) for name, value in values.items())],
    )
    opset = [helper.make_opsetid("", onnx_files.OPSET)]
    proto = helper.make_model(graph, opset_imports=opset, ir_version=onnx_files.IR_VERSION)
    helper.set_model_props(proto, about.to_metadata())
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture(params=["matmul", "conditional", "dcgan", *(str(path) for path in SHIPPED)])
def path(request: pytest.FixtureRequest, tmp_path: Path, model_path: Path, conditional_path: Path) -> Path:
    made = {"matmul": model_path, "conditional": conditional_path}
    if request.param == "dcgan":
        return dcgan(tmp_path / "dcgan.onnx")
    return made.get(request.param, Path(request.param))


def test_it_runs_where_it_was_asked_to(path: Path) -> None:
    generator = OnnxGenerator(path, "openvino", 2)
    assert generator.provider == "openvino"
    assert generator.session.get_providers()[0] == "OpenVINOExecutionProvider"
    assert generator.cpu_nodes() == ()
    assert OnnxGenerator(path, "auto", 1).provider == "cpu"


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 25])
def test_parity_with_the_cpu(path: Path, batch: int) -> None:
    ours, theirs = OnnxGenerator(path, "openvino", 2), OnnxGenerator(path, "cpu", 2)
    about: Contract = ours.contract
    seeds = np.arange(batch, dtype=np.int64)
    z, label = latents(seeds, about.interface.z_dim, about.interface.latent), ours.check_labels(None, seeds)
    (image, pixels), (expected, expected_pixels) = ours.run(z, label), theirs.run(z, label)
    assert float(np.abs(image - expected).max()) <= 1e-5
    assert int(np.abs(pixels.astype(int) - expected_pixels.astype(int)).max()) <= 1
    np.testing.assert_array_equal(ours.run_pixels(z, label), pixels)


def test_golden_sets(path: Path) -> None:
    generator = OnnxGenerator(path, "openvino", 2)
    if not generator.contract.golden:
        pytest.skip("carries no golden set")
    assert all(result.ok for result in check_golden(generator))


def test_batches_and_streams(path: Path) -> None:
    generator = OnnxGenerator(path, "openvino", 2)
    whole = generator.generate(range(11), batch_size=11).astype(int)
    assert np.abs(generator.generate(range(11), batch_size=4).astype(int) - whole).max() <= 1


def gan_gen(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = "from gan_serve.gen.cli import main; main()"
    return subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True)


def test_the_command(model_path: Path, tmp_path: Path) -> None:
    done = gan_gen("--model", model_path, "--provider", "openvino", "--n", 4, "--out", tmp_path / "o.png")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'o.png'}\n")
    assert "on openvino" in done.stderr
    assert gan_gen("--model", model_path, "--provider", "openvino", "--selftest").returncode == 0
    record = json.loads(gan_gen("--model", model_path, "--provider", "openvino", "--info", "--json").stdout)
    assert (record["provider"], record["cpu_nodes"]) == ("openvino", [])


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "webgpu", "coreml", "directml"])
def test_a_provider_that_is_not_there(model_path: Path, provider: str) -> None:
    done = gan_gen("--model", model_path, "--provider", provider)
    assert (done.returncode, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert error == f"error: provider {provider} is not installed; here are cpu, openvino"
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(
    "options",
    [{"device_type": "TPU"}, {"device_type": ""}, {"precision": "FP7"}, {"num_of_threads": "-3"}, {"no_such": "1"}],
)
def test_options_that_openvino_refuses(model_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(GanportError, match="provider openvino is installed but does not run here") as caught:
        OnnxGenerator(model_path, "openvino", options=options)
    assert "\n" not in str(caught.value)
