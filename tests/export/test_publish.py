"""Exported files as folders for servers and hubs."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from google.protobuf import text_format
from PIL import Image

from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.image_input import ImageInput
from gan_core.interface import Interface, NoiseMaps, Styles
from gan_export.publish import hub, name_of, triton
from gan_serve.runtime.runtimes import DEFAULT_MODEL
from serve import onnx_files

GREY = Interface(64, (1, 32, 32))
INTERFACES = {
    "latent": GREY,
    "classes": dataclasses.replace(GREY, latent="uniform", n_classes=3, class_names=("a|b", "<i>", "c")),
    "styles": dataclasses.replace(GREY, styles=Styles(16, 8), noise=True, noise_maps=NoiseMaps(40)),
    "any size": Interface(0, (3, 64, 64), input=ImageInput(scale=4)),
    "one size": Interface(0, (3, 32, 32), input=ImageInput(channels=1, fixed=True)),
}


@pytest.fixture(scope="session")
def messages() -> ModuleType:
    """Triton's own messages, as its client has them; without gRPC, which the whole module would need."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        pytest.skip("needs the package tritonclient, which the extra dev brings")
    file = Path(next(iter(package.submodule_search_locations))) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(text: str, messages: ModuleType) -> Any:
    return text_format.Parse(text, messages.ModelConfig())


@pytest.mark.parametrize("kind", INTERFACES)
def test_triton_knows_every_tensor(kind: str, messages: ModuleType) -> None:
    interface = INTERFACES[kind]
    config = parsed(triton.config(Contract(interface), "faces"), messages)
    assert [tensor.name for tensor in config.input] == list(interface.inputs)
    assert [tensor.name for tensor in config.output] == list(interface.outputs)
    assert [tensor.name for tensor in config.input if tensor.optional] == list(interface.options)
    for tensor in (*config.input, *config.output):
        assert tensor.dims  # Triton refuses none
        assert tensor.HasField("reshape") == (tensor.name in ("label", "psi", "from_w", "noise"))
    dims = {tensor.name: list(tensor.dims) for tensor in (*config.input, *config.output)}
    c, h, w = interface.image
    sides = [-1, -1] if kind == "any size" else [h, w]
    assert (dims["image"], dims["pixels"]) == ([c, *sides], [*sides, c])
    if interface.input is not None:
        assert dims["input"] == [*sides, interface.input.channels]


def test_triton_options(messages: ModuleType) -> None:
    contract = Contract(GREY, precision="fp16")
    options = triton.TritonOptions("m", 3, 16, 0.5, 2, "gpu", "tensorrt")
    config = parsed(triton.config(contract, "m", options), messages)
    assert (config.name, config.backend, config.max_batch_size) == ("m", "onnxruntime", 16)
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, messages.ModelInstanceGroup.KIND_GPU)
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("tensorrt", {"precision_mode": "FP16"})
    on_cpu = parsed(triton.config(contract, "m", triton.TritonOptions(accelerator="openvino")), messages)
    (accelerator,) = on_cpu.optimization.execution_accelerators.cpu_execution_accelerator
    assert accelerator.name == "openvino"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "a/b"}, "not named"),
        ({"name": ""}, "not named"),
        ({"version": 0}, "`version` must be 1 to"),
        ({"max_batch": 0}, "`max_batch` must be 1 to"),
        ({"instances": -1}, "`instances` must be 1 to"),
        ({"delay_ms": -0.1}, "`delay_ms` must be 0 to"),
        ({"delay_ms": float("nan")}, "`delay_ms` must be 0 to"),
        ({"device": "tpu"}, "`device` must be one of auto, cpu, gpu"),
        ({"accelerator": "magic"}, "`accelerator` must be one of"),
        ({"device": "cpu", "accelerator": "tensorrt"}, "tensorrt does not run on a CPU"),
    ],
)
def test_wrong_triton_options(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(GanportError, match=words):
        triton.TritonOptions(**wrong)


def test_a_repository_keeps_its_other_models(tmp_path: Path, messages: ModuleType) -> None:
    other = tmp_path / "other" / "config.pbtxt"
    other.parent.mkdir()
    other.write_text("kept")
    files = triton.write_repository(DEFAULT_MODEL, tmp_path)
    again = triton.write_repository(DEFAULT_MODEL, tmp_path, triton.TritonOptions(version=2))
    assert other.read_text() == "kept"
    assert files[0] == again[0] == tmp_path / "fashion-mnist" / "config.pbtxt"
    assert sorted(path.name for path in files[0].parent.iterdir()) == ["1", "2", "config.pbtxt"]
    assert again[1].read_bytes() == DEFAULT_MODEL.read_bytes()
    assert parsed(files[0].read_text(), messages).name == "fashion-mnist"


@pytest.mark.parametrize("kind", INTERFACES)
def test_the_cards_code_is_python_and_its_metadata_yaml(kind: str) -> None:
    interface = INTERFACES[kind]
    text = hub.card(Contract(interface, assumptions=("layer 3 eps 0.8 (weak): [why]",)), "Faces <b>", hub.FILL_IN)
    _, front, body = text.split("---\n", 2)
    metadata = yaml.safe_load(front)
    task = "image-to-image" if interface.input else "unconditional-image-generation"
    assert (metadata["pipeline_tag"], metadata["license"]) == (task, hub.FILL_IN)
    assert "# Faces \\<b\\>\n" in body
    assert "- layer 3 eps 0.8 (weak): \\[why\\]\n" in body
    assert ("samples.png" in body) == (interface.input is None)
    compile(body.split("```python\n")[1].split("```")[0], "card", "exec")
    if interface.class_names:
        assert "0 a\\|b, 1 \\<i\\>, 2 c" in body


def test_a_hub_folder(tmp_path: Path) -> None:
    files = hub.write_folder(DEFAULT_MODEL, tmp_path / "made", hub.HubOptions("Garments", "mit"))
    assert {path.relative_to(tmp_path / "made").as_posix() for path in files} == {
        "onnx/model.onnx", ".gitattributes", "config.json", "README.md", "samples.png",
    }  # fmt: skip
    assert all(path.is_file() for path in files)
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert config["interface"]["label"]["classes"] == 10
    with Image.open(tmp_path / "made" / "samples.png") as picture:
        assert min(picture.size) > 500
    card = (tmp_path / "made" / "README.md").read_text()
    assert card.startswith('---\nlicense: "mit"\n')
    assert "| trained on | fashion-mnist |" in card
    # The lines of Python run as they stand, beside the model.
    code = card.split("```python\n")[1].split("```")[0].replace(f"'{hub.MODEL}'", repr(str(files[0])))
    said: list[Any] = []
    exec(code, {"print": said.append})
    assert said == [(25, 32, 32, 1)]


@pytest.mark.parametrize("field", ["title", "licence"])
@pytest.mark.parametrize("value", ["", "  ", "two\nlines", "x" * 201, "\x1b[2J"])
def test_wrong_texts_of_a_card(field: str, value: str) -> None:
    with pytest.raises(GanportError, match=f"`{field}` must be one line"):
        hub.HubOptions(**{field: value})


@pytest.mark.parametrize("licence", ["MIT", "my licence", "mit: x"])
def test_a_licence_is_an_identifier(licence: str) -> None:
    with pytest.raises(GanportError, match="the hub knows no licence"):
        hub.HubOptions(licence=licence)


def test_what_cannot_be_published(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.onnx"
    theirs.write_bytes(onnx_files.foreign(["batch", 4], ["batch", 1, 8, 8]).SerializeToString())
    with pytest.raises(GanportError, match=r"no gan.\* metadata") as refused:
        triton.write_repository(theirs, tmp_path / "out")
    assert "gan-export adopt" in refused.value.hint
    with pytest.raises(GanportError, match=r"no model at .*g\.pt") as refused:
        hub.write_folder(tmp_path / "g.pt", tmp_path / "out")
    assert "gan-export onnx makes such a file" in refused.value.hint
    (tmp_path / "file").write_text("")
    with pytest.raises(GanportError, match="is a file, expected a folder"):
        hub.write_folder(DEFAULT_MODEL, tmp_path / "file")
    with pytest.raises(GanportError, match="is inside"):
        triton.write_repository(DEFAULT_MODEL, DEFAULT_MODEL.parent)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "name"),
    [("g.onnx", "g"), ("my faces (1).onnx", "my-faces-1"), ("g.int8.onnx", "g.int8"), ("ß.onnx", "generator")],
)
def test_names(file: str, name: str) -> None:
    assert name_of(Path(file)) == name
