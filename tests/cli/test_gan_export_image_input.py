"""Networks that take an image: refused by name without their code, and exported with it; none as a latent of 3."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from cli.conftest import Run
from export import image_networks
from export.upscale_networks import EsrGan
from gan_core.contract import Contract
from gan_core.files.metadata import read_onnx_text

pytestmark = pytest.mark.slow

CODE = '''
import torch
from torch import nn


class Dense(nn.Module):
    def __init__(self, width, growth=4):
        super().__init__()
        self.conv1 = nn.Conv2d(width, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(width + growth, width, 3, padding=1)

    def forward(self, x):
        return x + 0.2 * self.conv2(torch.cat((x, torch.relu(self.conv1(x))), 1))


class Enlarge(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_first = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(Dense(8), Dense(8))
        self.conv_up = nn.Conv2d(8, 8, 3, padding=1)
        self.conv_last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        x = self.body(self.conv_first(x))
        x = nn.functional.interpolate(x, scale_factor=4)
        return self.conv_last(torch.relu(self.conv_up(x)))


class Compact(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.PReLU(8), nn.Conv2d(8, 48, 3, 1, 1), nn.PixelShuffle(4))

    def forward(self, x):
        return self.body(x) + nn.functional.interpolate(x, scale_factor=4)


class Translate(nn.Sequential):
    def __init__(self):
        super().__init__(nn.ReflectionPad2d(3), nn.Conv2d(3, 8, 7), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU(),
                         nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())


class OfNoise(nn.Module):
    """One pixel of noise in 3 channels, made wide by a transposed convolution: a generator."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.ConvTranspose2d(3, 8, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x):
        return self.net(x)
'''
NAMES = ("Enlarge", "Compact", "Translate")


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    def save(name: str) -> tuple[Path, Path]:
        code = tmp_path / "archs.py"
        code.write_text(CODE)
        space: dict[str, type[nn.Module]] = {}
        exec(CODE, space)
        torch.manual_seed(0)
        torch.save({"params_ema": space[name]().state_dict()}, tmp_path / "x4.pth")
        return tmp_path / "x4.pth", code

    return save


@pytest.mark.parametrize("name", [name for name in NAMES if name != "Compact"])  # which is of a known family
@pytest.mark.parametrize("key", [[], ["--key", "params_ema"]])
def test_weights_alone(name: str, key: list[str], saved: Callable[[str], tuple[Path, Path]], run: Run) -> None:
    ckpt, _ = saved(name)
    code, _, err = run("onnx", "--ckpt", ckpt, *key, "--accept")
    assert code == 2
    assert "image-to-image network" in err
    assert "docs/families.md" in err.splitlines()[-1]
    assert "--key" not in err.splitlines()[-1]
    assert not ckpt.with_suffix(".onnx").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options", "takes"),
    [
        ("Enlarge", ["--value-range=-1,1"], {"scale": 4, "multiple_of": 1, "minimum": 1, "halo": 6}),
        ("Translate", [], {"scale": 1, "multiple_of": 2, "minimum": 4, "value_range": [-1, 1]}),
    ],
)
def test_with_its_code(
    name: str, options: list[str], takes: dict[str, object], saved: Callable[[str], tuple[Path, Path]], run: Run
) -> None:
    ckpt, code_file = saved(name)
    code, _, err = run("onnx", "--ckpt", ckpt, "--key", "params_ema", "--module", f"{code_file}:{name}", *options)
    assert code == 0, err
    contract = Contract.from_metadata(read_onnx_text(ckpt.with_suffix(".onnx")).metadata)
    assert contract is not None
    found = contract.interface.to_json()["input"]
    assert {key: found[key] for key in takes} == takes
    code, _, err = run("verify", ckpt.with_suffix(".onnx"), ckpt, "--module", f"{code_file}:{name}")
    assert code == 0, err


def test_a_latent_of_three_numbers_is_one(saved: Callable[[str], tuple[Path, Path]], run: Run) -> None:
    ckpt, code_file = saved("OfNoise")
    code, _, err = run("onnx", "--ckpt", ckpt, "--key", "params_ema", "--module", f"{code_file}:OfNoise")
    assert code == 0, err


def test_noise_of_an_images_shape_can_be_said(saved: Callable[[str], tuple[Path, Path]], run: Run) -> None:
    ckpt, code_file = saved("Translate")
    options = ["--key", "params_ema", "--module", f"{code_file}:Translate", "--z-shape", "3x8x8"]
    code, _, err = run("onnx", "--ckpt", ckpt, *options)
    assert code == 0, err


def test_of_a_known_family_it_is_exported(run: Run, tmp_path: Path) -> None:
    network = image_networks.settled(image_networks.UNet(3, 3, (3, 4, 5, 6, 6), nn.BatchNorm2d))
    torch.save(network.state_dict(), tmp_path / "latest_net_G.pth")
    code, _, err = run(tmp_path / "latest_net_G.pth")
    assert code == 2
    assert "test.py" in err
    code, out, err = run(tmp_path / "latest_net_G.pth", "--accept")
    assert (code, out.strip()) == (0, str(tmp_path / "latest_net_G.onnx"))
    assert "RGB images of 32x32 → 32x32 RGB" in err
    assert "latest_net_G.onnx photo.jpg" in err


@pytest.mark.long
def test_verified_against_its_file_where_the_family_changes_weights(run: Run, tmp_path: Path) -> None:
    """A fifth of each residual is in the weights of an ESRGAN, which its file does not have so."""
    network = EsrGan(4, 2, 1, 2)
    torch.save(image_networks.settled(network, last=network.conv_last).state_dict(), tmp_path / "x2.pth")
    assert run(tmp_path / "x2.pth")[0] == 0
    code, out, _ = run("verify", tmp_path / "x2.onnx", "--ckpt", tmp_path / "x2.pth")
    assert code == 0
    assert "proved against PyTorch" in out


def test_of_no_family_it_is_exported_with_a_spec(run: Run, saved: Callable[[str], tuple[Path, Path]]) -> None:
    ckpt, _ = saved("Translate")
    conv = {"kind": "conv", "in_channels": 8, "out_channels": 8, "kernel": 4, "stride": 2, "padding": 1}
    layers = [
        {"kind": "pad", "borders": [3, 3, 3, 3], "mode": "reflect"},
        conv | {"in_channels": 3, "kernel": 7, "stride": 1, "padding": 0},
        {"kind": "activation", "name": "relu"},
        conv,
        {"kind": "activation", "name": "relu"},
        conv | {"kind": "conv_transpose", "out_channels": 3},
        {"kind": "activation", "name": "tanh"},
    ]
    taken = {"value_range": [-1, 1], "multiple_of": 2, "minimum": 4}
    spec = ckpt.with_name("t.spec.json")
    spec.write_text(json.dumps({"image": [3, 32, 32], "input": taken, "layers": layers}))
    code, out, err = run(ckpt, "--spec", spec)
    assert code == 0, err
    assert run("verify", out.strip(), "--ckpt", ckpt)[0] == 0


SIDES = """
import torch
from torch import nn

class G(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
    def forward(self, x):
        low = float(x.shape[2] ** 0.5)
        return torch.tanh(self.conv(x)) * (1 if low > 0 else 2), {RETURNED}
"""


@pytest.mark.parametrize(("returned", "code"), [("x.mean()", 0), ("[x, x]", 2)])
def test_what_else_a_forward_returns(returned: str, code: int, run: Run, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(SIDES.replace("{RETURNED}", returned) + "torch.manual_seed(0)\nMADE = G()\n")
    found, _, err = run("onnx", "--module", f"{tmp_path / 'net.py'}:MADE", "--out", tmp_path / "g.onnx")
    assert found == code, err
    assert (tmp_path / "g.onnx").exists() == (code == 0)
