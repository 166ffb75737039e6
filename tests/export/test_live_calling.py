"""How a foreign forward is called: found by signature and trying, or given; and what is no generator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export import live_networks as networks
from gan_core.errors import GanportError
from gan_core.said import parse_inputs
from gan_export.answers import Answers, LiveAnswers
from gan_export.live.source import live_source
from gan_export.source import Source

pytestmark = pytest.mark.slow

NETWORKS = Path(networks.__file__)
Draw = Callable[[nn.Module, Tensor, Tensor], Tensor]


def source(name: str, folder: Path, args: Any = None, answers: dict[str, Any] | None = None, **live: Any) -> Source:
    """`name` of live_networks.py, with lively weights, through the whole of `live_source`."""
    path = folder / "g.pth"
    torch.manual_seed(0)
    torch.save({"netG": networks.lively(made(name, args)).state_dict()}, path)
    return live_source(
        path, Answers(**{"key": "netG"} | (answers or {}), live=LiveAnswers(f"{NETWORKS}:{name}", args=args, **live))
    )


def made(name: str, args: Any) -> nn.Module:
    module: nn.Module = getattr(networks, name)(**(args or {}))
    return module


FOUND: dict[str, tuple[str, Any, dict[str, Any], str, Draw]] = {
    "(N, D, 1, 1)": ("Plain", None, {}, "6x1x1", lambda g, z, _: g(z[..., None, None])),
    "(N, D)": ("ResNet", None, {}, "5", lambda g, z, _: g(z)),
    "z, label": ("Conditional", None, {}, "5", lambda g, z, y: g(z, y)),
    "label, z": ("LabelFirst", None, {}, "5", lambda g, z, y: g(y, z)),
    "one-hot": ("OneHot", None, {}, "7", lambda g, z, y: g(z, torch.eye(3)[y])),
    "one-hot, told": ("OneHot", None, {"n_classes": 3, "z_dim": 7}, "7", lambda g, z, y: g(z, torch.eye(3)[y])),
    "a list": ("StyleGAN2", None, {"noise": "zero"}, "[6]", lambda g, z, _: still(lambda: g([z])[0])),
    "truncated": (
        "StyleGAN2",
        None,
        {"noise": "zero", "constants": (("truncation", "0.5"),)},
        "[6]",
        lambda g, z, _: still(lambda: g([z], truncation=0.5)[0]),
    ),
    "flat": ("Flat", None, {}, "5", lambda g, z, _: g(z).view(-1, 1, 8, 8)),
    "flat RGB": ("Flat", {"sizes": [4, 9, 192]}, {}, "4", lambda g, z, _: g(z).view(-1, 3, 8, 8)),
    "the larger": ("SkipExcitation", None, {"output_index": 0}, "6", lambda g, z, _: g(z)[0]),
    "the smaller": ("SkipExcitation", None, {"output_index": 1}, "6", lambda g, z, _: g(z)[1]),
    "dict": ("Wrapped", {"how": "dict"}, {}, "6", lambda g, z, _: g(z)["sample"]),
    "dict of two": ("Wrapped", {"how": "two"}, {"output_key": "fake"}, "6", lambda g, z, _: g(z)["fake"]),
    "tuple": ("Wrapped", {"how": "tuple"}, {}, "6", lambda g, z, _: g(z)[1]),
    "dataclass": ("Wrapped", {"how": "dataclass"}, {}, "6", lambda g, z, _: g(z).image),
    "channels last": ("Wrapped", {"how": "NHWC"}, {}, "6", lambda g, z, _: g(z).permute(0, 3, 1, 2)),
    "half": ("Wrapped", {"how": "half"}, {}, "6", lambda g, z, _: g.get_submodule("net")(z[..., None, None])),
    "given shape": ("Plain", None, {"z_shape": "Dx1x1"}, "6x1x1", lambda g, z, _: g(z[..., None, None])),
    "numbered shape": ("Plain", None, {"z_shape": "6x1x1"}, "6x1x1", lambda g, z, _: g(z[..., None, None])),
    "given by name": (
        "LabelFirst",
        None,
        {"inputs": parse_inputs("noise=z,labels=label")},
        "5",
        lambda g, z, y: g(y, z),
    ),
    "given by position": ("Conditional", None, {"inputs": parse_inputs("z,label")}, "5", lambda g, z, y: g(z, y)),
    "constants": (
        "Scaled",
        None,
        {"constants": (("noise", "zeros(N,3,8,8)"), ("strength", "0.5"), ("mode", '"plain"'))},
        "6x1x1",
        lambda g, z, _: g(0, z[..., None, None], 0.5),
    ),
    "a tensor": (
        "Scaled",
        None,
        {"constants": (("noise", "[[[[1.0]]]]"), ("strength", "0.5"))},
        "6x1x1",
        lambda g, z, _: g(1.0, z[..., None, None], 0.5),
    ),
}


def still(draw: Callable[[], Tensor]) -> Tensor:
    from gan_export.live.tracing import Still

    with Still(None):
        return draw()


@pytest.mark.parametrize("case", FOUND)
def test_found(case: str, tmp_path: Path) -> None:
    name, args, live, shape, draw = FOUND[case]
    found = source(name, tmp_path, args, **live)
    torch.manual_seed(0)
    module = networks.lively(made(name, args)).eval()
    z = torch.randn(5, found.interface.z_dim)
    label = torch.arange(5) % max(found.interface.n_classes, 1)
    with torch.no_grad():
        image = found.module(z, label) if found.interface.n_classes else found.module(z)
        expected = draw(module, z, label)
    assert image.shape == (5, *found.interface.image)
    assert image.dtype == torch.float32
    assert torch.allclose(image, expected, atol=1e-6)
    said = found.provenance["live"]
    assert said["z_shape"] == shape
    assert not found.module.training
    assert found.provenance["file"] == "g.pth"
    assert "/" not in str(said)


def test_a_pickled_module_s_own_arguments_and_switches_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As NVlabs' networks want it: forward(z, c) without classes, noise_mode, force_fp32."""
    caplog.set_level("INFO")
    torch.manual_seed(0)
    module = networks.lively(networks.Mapped(5, 0, mapping={"width": 7}))
    vars(module).update(_init_args=(), _init_kwargs={"z_dim": 5, "c_dim": 0, "mapping": {"width": 7}})
    torch.save(module, tmp_path / "g.pth")
    made = live_source(tmp_path / "g.pth", Answers(live=LiveAnswers(f"{NETWORKS}:Mapped")))
    said = made.provenance["live"]
    assert said["args"] == {"z_dim": 5, "c_dim": 0, "mapping": {"width": 7}}
    assert said["constants"] == {"c": "null", "force_fp32": "true", "noise_mode": '"const"'}
    assert (made.interface.z_dim, made.interface.n_classes) == (5, 0)
    assert 'holds the arguments of Mapped: {"z_dim": 5' in caplog.text
    assert any("noise_mode" in one for one in made.assumptions)
    assert not made.answers
    z = torch.randn(2, 5)
    with torch.no_grad():
        expected = module(z, None, noise_mode="const", force_fp32=True)
        torch.testing.assert_close(made.module(z), expected)


CLASSES = {"Conditional": (4, "index"), "LabelFirst": (4, "index"), "OneHot": (3, "one-hot"), "Plain": (0, None)}


@pytest.mark.parametrize("name", CLASSES)
def test_classes(name: str, tmp_path: Path) -> None:
    found = source(name, tmp_path)
    assert (found.interface.n_classes, found.provenance["live"]["label"]) == CLASSES[name]


RANGES: dict[str, tuple[str, Any, dict[str, Any], tuple[float, float], str]] = {
    "tanh layer": ("Plain", None, {}, (-1.0, 1.0), ""),
    "tanh layer in a view": ("Conditional", None, {}, (-1.0, 1.0), ""),
    "tanh function": ("Flat", None, {}, (-1.0, 1.0), "value range [-1, 1]"),
    "sigmoid": ("Flat", {"ends": "sigmoid"}, {}, (0.0, 1.0), "value range [0, 1]"),
    "half of tanh": ("Wrapped", {"how": "unit"}, {}, (0.0, 1.0), "value range [0, 1]"),
    "said": ("Flat", {"ends": "sigmoid"}, {"value_range": (-2.0, 2.0)}, (-2.0, 2.0), ""),
    "logits": ("Flat", {"ends": "none", "gain": 9.0}, {"output": "sigmoid"}, (0.0, 1.0), ""),
    "bytes": ("Wrapped", {"how": "bytes"}, {"value_range": (0.0, 255.0)}, (0.0, 255.0), ""),
}


@pytest.mark.parametrize("case", RANGES)
def test_value_range(case: str, tmp_path: Path) -> None:
    name, args, answers, expected, assumption = RANGES[case]
    found = source(name, tmp_path, args, answers)
    assert found.interface.value_range == expected
    said = [a.partition(":")[0] for a in found.assumptions if "value range" in a]
    assert said == [assumption] * bool(assumption)


def test_latent_law_is_said_or_assumed(tmp_path: Path) -> None:
    assert any("latent distribution normal" in a for a in source("Plain", tmp_path).assumptions)
    said = source("Plain", tmp_path, None, {"latent": "uniform"})
    assert said.interface.latent == "uniform"
    assert not any("latent" in a for a in said.assumptions)


WRONG: dict[str, tuple[str, Any, dict[str, Any], dict[str, Any], str, str]] = {
    "a discriminator": ("Discriminator", None, {}, {}, "main.0 takes an image of 3 channels", "z_shape"),
    "scores": ("Wrapped", {"how": "scores"}, {}, {}, "gives (N), expected images", "generator"),
    "nothing": ("Wrapped", {"how": "nothing"}, {}, {}, "gives NoneType, expected images", "generator"),
    "RGBA": ("Wrapped", {"how": "rgba"}, {}, {}, "gives (N, 4, 8, 8), expected images", "generator"),
    "one image for all": ("Wrapped", {"how": "mean"}, {}, {}, "one image for every latent", "weights"),
    "NaN": ("Wrapped", {"how": "nan"}, {}, {}, "not finite", "weights"),
    "two images": ("SkipExcitation", None, {}, {}, "returns 2 images: [0] (N, 3, 16, 16), [1]", "`output_index` 0"),
    "two in a dict": ("Wrapped", {"how": "two"}, {}, {}, "returns 2 images: ['fake']", "`output_key` fake"),
    "no such output": ("SkipExcitation", None, {}, {"output_index": 4}, "1 or 3 channels at 4", "`output_index`"),
    "no such key": ("Wrapped", {"how": "dict"}, {}, {"output_key": "img"}, "at 'img'", "`output_key`"),
    "another image size": ("Plain", None, {"image": (3, 16, 16)}, {}, "expected images 3x16x16", "`image`"),
    "flat, another size": ("Flat", None, {"image": (1, 4, 8)}, {}, "gives (N, 64), expected images 1x4x8", "`image`"),
    "z too wide": ("Plain", None, {}, {"z_dim": 7}, "fails (and 2 other ways)", "is `z_dim` right?"),
    "z in another shape": ("Plain", None, {}, {"z_shape": "D"}, "fails", "`z_shape`"),
    "an unknown constant": ("Plain", None, {}, {"constants": (("psi", "1"),)}, "no parameter of that name", "name one"),
    "more inputs": ("Scaled", None, {}, {}, "wants 3 inputs, expected a latent and at most a label", "`constant`"),
    "a bad constant": (
        "Scaled", None, {}, {"constants": (("noise", "0"), ("strength", "1"), ("mode", '"odd"'))},
        "no mode odd", "`constant`",
    ),
    "inputs of other names": ("Conditional", None, {}, {"inputs": (("z", "latent"),)}, "no such parameter", ""),
    "a label short": ("Conditional", None, {}, {"inputs": (("z", None),)}, "missing 1 required positional", "`inputs`"),
    "no classes": ("Conditional", None, {}, {"n_classes": 0}, "wants a label or another input", "`classes` N"),
    "too many classes": ("Conditional", None, {}, {"n_classes": 9}, "index out of range", "`classes`"),
    "CUDA in forward": ("OnCuda", None, {}, {}, "live_networks.py line", "runs on the CPU"),
    "noise unsaid": ("StyleGAN2", None, {}, {}, "draws 2 tensors of random numbers", "`noise=zero`"),
    "noise where none is": ("Plain", None, {}, {"noise": "zero"}, "draws no numbers", "leave out `noise`"),
    "logits": ("Flat", {"ends": "none", "gain": 9.0}, {}, {}, "logits, or another range?", "`output_activation`"),
    "bytes": ("Wrapped", {"how": "bytes"}, {}, {}, "its values run from", "`value_range` 0,255"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_refused_in_one_line(case: str, tmp_path: Path) -> None:
    name, args, answers, live, message, hint = WRONG[case]
    with pytest.raises(GanportError) as raised:
        source(name, tmp_path, args, answers, **live)
    assert message in str(raised.value)
    assert hint in raised.value.hint
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("live", "message"),
    [
        ({"z_shape": "Dx"}, "`z_shape` must be such as"),
        ({"z_shape": "[D"}, "`z_shape` must be such as"),
        ({"z_shape": "DxD"}, "`z_shape` must be such as"),
        ({"z_shape": "0x1"}, "has a side of 0"),
        ({"z_shape": "4x4", "z_dim": 6}, "holds 16 numbers, `z_dim` says 6"),
        ({"z_shape": "Dx4", "z_dim": 6}, "cannot hold 6 numbers"),
        ({"constants": (("input", "zeros(2,N)"),)}, "only the first side can be N"),
        ({"constants": (("input", "zeros(99999,99999,99)"),)}, "larger than 1 GiB"),
        ({"constants": (("input", "None"),)}, "is not JSON"),
        ({"constants": (("input", '[1, "a"]'),)}, "is no tensor"),
        ({"constants": (("input", "[[1], [1, 2]]"),)}, "is no tensor"),
        ({"constants": (("input", '{"a": 1}'),)}, "is an object"),
        ({"constants": (("input", "0"),)}, "takes no latent"),
    ],
)
def test_options_that_do_not_read(live: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(GanportError, match=message.replace("(", r"\(")):
        source("Plain", tmp_path, **live)


def test_weights_that_come_with_the_code() -> None:
    found = live_source(None, Answers(live=LiveAnswers(f"{NETWORKS}:make")))
    assert (found.weights, found.provenance["format"], found.provenance["file"]) == ("unknown", "code", NETWORKS.name)
    assert found.provenance["sha256"] == found.provenance["live"]["sha256"]
    live_source(None, Answers(live=LiveAnswers(f"{NETWORKS}:INSTANCE")))


@pytest.mark.parametrize("name", ["Plain", "make_random"])
def test_random_weights_are_refused(name: str) -> None:
    with pytest.raises(GanportError, match="other weights each time") as raised:
        live_source(None, Answers(live=LiveAnswers(f"{NETWORKS}:{name}")))
    assert "`ckpt`" in raised.value.hint


def test_a_checkpoint_of_ours_needs_no_module(tmp_path: Path) -> None:
    from export.tiny import save_checkpoint

    ours = save_checkpoint(tmp_path / "g.pt")
    with pytest.raises(GanportError, match="`module` has no place"):
        live_source(ours, Answers(live=LiveAnswers(f"{NETWORKS}:Plain")))
