"""A stranger's checkpoint, from the file to the proved model, with no Python written."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import gan_serve
from cli.conftest import Run
from real_files import real_file

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("drafted_once")]


def test_an_accepted_draft_draws_its_reference(run: Run, tmp_path: Path) -> None:
    """Files of which nothing is asked: test_gan_export_all_strangers.py."""
    ckpt, expected = real_file("mlp_mnist.ckpt"), np.load(real_file("mlp_mnist.reference.npz"))
    model = tmp_path / "g.onnx"
    code, _, err = run("onnx", "--ckpt", ckpt, "--out", model, "--accept")
    assert code == 0, err
    label = expected["label"].astype(np.int64) if "label" in expected else None
    image_NCHW, _ = gan_serve.load(model).run(expected["z"].astype(np.float32).reshape(len(expected["z"]), -1), label)
    assert np.abs(image_NCHW - expected["image"]).max() <= 1e-4
    code, out, err = run("verify", "--model", model, "--ckpt", ckpt)
    assert code == 0, err
    assert "proved against PyTorch" in out


@pytest.mark.long
def test_the_faces_latent_law_is_found(run: Run) -> None:
    code, out, _ = run("inspect", "--ckpt", real_file("mixed_faces32.pt"), "--json")
    assert code == 0
    found = {(choice["layer"], choice["field"]): choice for choice in json.loads(out)["choices"]}
    assert (found[None, "latent"]["value"], found[None, "latent"]["evidence"]) == ("uniform", "strong")
    assert (found[3, "activation"]["value"]["name"], found[3, "activation"]["evidence"]) == ("identity", "strong")
    assert json.loads(out)["unanswered"] == ["layer 14 output tanh in [-1, 1]"]


def chain() -> nn.Sequential:
    """A fully connected generator without BatchNorm: nothing in its file shows the activations."""
    torch.manual_seed(3)
    return nn.Sequential(
        OrderedDict(
            fc1=nn.Linear(12, 24), act=nn.LeakyReLU(0.2), fc2=nn.Linear(24, 40), act2=nn.LeakyReLU(0.2),
            out=nn.Linear(40, 784), tanh=nn.Tanh(),
        )
    )  # fmt: skip


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    path = tmp_path / "unknown.pth"
    torch.save({"epoch": 3, "netG": {f"module.{k}": v for k, v in chain().state_dict().items()}}, path)
    return path


def test_assumptions_are_asked_about_and_nothing_is_written_but_the_question(run: Run, unknown: Path) -> None:
    code, out, err = run("onnx", "--ckpt", unknown)
    assert (code, out) == (2, "")
    assert "rests on 4 assumptions" in err
    assert "--accept" in err
    assert "--spec" in err
    written = sorted(path.name for path in unknown.parent.iterdir())
    assert written == ["unknown.candidates.png", "unknown.pth", "unknown.spec.json"]
    with Image.open(unknown.with_suffix(".candidates.png")) as sheet:
        assert sheet.mode == "RGB"
        assert sheet.width > 600


def test_an_edited_spec_settles_everything(run: Run, unknown: Path) -> None:
    run("onnx", "--ckpt", unknown)
    spec_file = unknown.with_suffix(".spec.json")
    spec = json.loads(spec_file.read_text())
    for layer in spec["layers"]:
        if layer["kind"] == "activation" and layer["name"] != "tanh":
            layer.update(name="leaky_relu", slope=0.2)
    spec_file.write_text(json.dumps(spec))
    code, _, err = run("onnx", "--ckpt", unknown, "--spec", spec_file)
    assert code == 0, err
    z = np.random.default_rng(0).standard_normal((5, 12)).astype(np.float32)
    image_NCHW, _ = gan_serve.load(unknown.with_suffix(".onnx")).run(z)
    with torch.inference_mode():
        expected = chain().eval()(torch.from_numpy(z)).reshape(5, 1, 28, 28).numpy()
    assert np.abs(image_NCHW - expected).max() <= 1e-4


def test_accept_takes_the_draft_and_stamps_what_it_assumed(run: Run, unknown: Path) -> None:
    code, _, err = run("onnx", "--ckpt", unknown, "--accept", "--latent", "uniform", "--verbose")
    assert code == 0, err
    assert "assumed: layer 1 activation" in err
    code, _, err = run("onnx", "--ckpt", unknown, "--accept", "--latent", "uniform")
    assert len(err.splitlines()) == 3
    assert err.splitlines()[1].endswith(
        " LSB; the reading assumes 3 things: layer 1 activation relu, "
        "layer 3 activation relu, layer 5 output tanh in [-1, 1]; as you said: latent distribution uniform"
    )
    contract = gan_serve.load(unknown.with_suffix(".onnx")).contract
    assert contract.interface.latent == "uniform"
    assert contract.answers == ("latent distribution uniform",)
    assert not any("latent" in assumption for assumption in contract.assumptions)
    assert sum("activation" in assumption for assumption in contract.assumptions) == 2
    assert contract.source["key"] == "netG"


def test_output_answers_reach_the_file(run: Run, unknown: Path) -> None:
    code, _, err = run("onnx", "--ckpt", unknown, "--accept", "--output-activation", "sigmoid")
    assert code == 0, err
    contract = gan_serve.load(unknown.with_suffix(".onnx")).contract
    assert contract.interface.value_range == (0.0, 1.0)
    assert contract.spec is not None
    assert {"sigmoid"} == {layer.get("name") for layer in contract.spec["layers"]} & {"sigmoid", "tanh"}


def test_inspect_says_to_look_first_and_its_command_asks(run: Run, unknown: Path) -> None:
    draft = unknown.with_name("draft.spec.json")
    code, out, _ = run("inspect", "--ckpt", unknown, "--latent", "normal", "--out", draft)
    assert code == 0
    *_, why, last = (" ".join(block.split()) for block in out.split("\n\n"))
    command = last.removeprefix("next: gan-export ")
    assert command.split() == [str(unknown), "--latent", "normal"]
    assert why == "3 choices are not settled: the command shows the candidates, look at them before you --accept"
    code, _, err = run(*command.split())
    assert code == 2
    assert "look at " in err
    assert unknown.with_suffix(".candidates.png").is_file()
    assert run(*command.split(), "--accept")[0] == 0
    assert json.loads(draft.read_text())["z_dim"] == 12


def test_inspect_of_our_own(run: Run, tmp_path: Path) -> None:
    from export.tiny import save_checkpoint

    code, out, _ = run("inspect", "--ckpt", save_checkpoint(tmp_path / "g.pt"))
    assert code == 0
    assert "it says everything itself" in out
    assert out.splitlines()[-1] == f"next: gan-export {tmp_path / 'g.pt'}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--latent", "gamma"], "--latent must be one of normal, uniform, uniform01"),
        (["--image", "28"], "--image must be CxHxW"),
        (["--image", "2x28x28"], "--image must have 1, 3 or 4 channels"),
        (["--output-activation", "relu"], "--output-activation must be one of tanh"),
        (["--value-range", "1"], "--value-range must be two numbers"),
        (["--value-range", "1,-1"], "--value-range must be LO,HI"),
        (["--key", "netD"], "netD"),
        (["--spec", "nothing.json"], "no spec at nothing.json"),
        (["--raw", "--image", "3x64x64"], ""),
    ],
)
def test_wrong_answers(options: list[str], message: str, run: Run, unknown: Path) -> None:
    code, out, err = run("onnx", "--ckpt", unknown, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("error: ") == 1
    assert not unknown.with_suffix(".onnx").exists()


def test_specs_that_do_not_read_or_fit(run: Run, unknown: Path, tmp_path: Path) -> None:
    spec = tmp_path / "s.json"
    for text, message in (
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON: it is nested too deeply"),
        ('{"z_dim": 10000000000, "image": [1, 1, 3], "layers": []}', "z_dim must be a whole number"),
        (
            '{"z_dim": 3, "image": [1, 1, 3], "layers": [{"kind": "upsample", "factor": 20000}]}',
            "layer 0 (upsample) factor",
        ),
        ("[]", "a spec must be a JSON object"),
        ('{"z_dim": 3, "image": [1, 1, 3], "layers": [{"kind": "reshape", "shape": [1, 1, 3]}]}', "left over"),
    ):
        spec.write_text(text)
        code, _, err = run("onnx", "--ckpt", unknown, "--spec", spec)
        assert code == 2
        assert message in err
        assert "hint: " in err


def test_answers_have_no_place_for_our_own(run: Run, tmp_path: Path) -> None:
    from export.tiny import save_checkpoint

    ours: Any = save_checkpoint(tmp_path / "g.pt")
    for option, value in (("--latent", "uniform"), ("--discriminator", ours)):
        code, _, err = run("onnx", "--ckpt", ours, option, value)
        assert code == 2
        assert f"says all of this itself, {option} has no place" in err


@pytest.mark.parametrize(
    "options",
    [
        ["--latent", "uniform"], ["--image", "1x28x28"], ["--output-activation", "sigmoid"], ["--value-range", "0,1"],
        ["--discriminator", "netD.pth"],
    ],
)  # fmt: skip
def test_answers_have_no_place_beside_a_spec(options: list[str], run: Run, unknown: Path) -> None:
    spec = unknown.with_name("draft.spec.json")
    assert run("inspect", "--ckpt", unknown, "--out", spec)[0] == 0
    code, _, err = run("onnx", "--ckpt", unknown, "--spec", spec, *options)
    assert code == 2
    assert f"says all of this itself, {options[0]} has no place" in err
    assert not unknown.with_suffix(".onnx").exists()


def residual() -> nn.Module:
    """One block with a skip, and behind it no BatchNorm that would show it; its name tells."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.bn0 = nn.ConvTranspose2d(12, 16, 8), nn.BatchNorm2d(16)
            block = OrderedDict(conv1=nn.Conv2d(16, 16, 3, padding=1), bn1=nn.BatchNorm2d(16), relu=nn.ReLU())
            block |= OrderedDict(conv2=nn.Conv2d(16, 16, 3, padding=1), bn2=nn.BatchNorm2d(16))
            self.resblock = nn.Sequential(block)
            self.end = nn.ConvTranspose2d(16, 1, 8, 4, 2)

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.bn0(self.fc(z)))
            image: torch.Tensor = torch.tanh(self.end(x + self.resblock(x)))
            return image

    torch.manual_seed(4)
    net = Net().train()
    for _ in range(60):
        net(torch.randn(32, 12, 1, 1))
    return net


@pytest.mark.long
def test_no_answer_makes_a_residual_network_a_chain(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "residual.pth"
    torch.save(residual().state_dict(), path)
    for options in ([], ["--accept"]):
        code, _, err = run("onnx", "--ckpt", path, *options)
        assert code == 2
        assert "no plain sequence of layers but a residual network: it has resblock.conv1.weight" in err
        assert "--module" in err.splitlines()[-1]
        assert "--accept" not in err
    assert [other.name for other in tmp_path.iterdir()] == ["residual.pth"]
    code, out, _ = run("inspect", "--ckpt", path)
    assert code == 0
    assert "--accept" not in out
    assert "--module" in out.splitlines()[-1]
