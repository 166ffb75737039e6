"""A VAE's decoder is cut out of the whole, by the two layers side by side that make its latent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.foreign_networks import feed
from export.forensics_nets import ENOUGH
from export.trained_nets import fed
from gan_core.errors import GanportError
from gan_export.again import source_again
from gan_export.answers import Answers, LiveAnswers
from gan_export.assumptions import doubts_of
from gan_export.draft import Evidence
from gan_export.exporting import export_onnx
from gan_export.forensics.statistics import GOOD
from gan_export.identify import Identified, identify, module_of, source_of
from gan_export.live.source import live_source
from gan_export.reading import read_checkpoint
from gan_export.reading.autoencoder import find_decoder
from gan_export.reading.kinds import HasShape

Shapes = dict[str, tuple[int, ...]]

MLP: Shapes = {"fc1": (400, 784), "fc21": (20, 400), "fc22": (20, 400), "fc3": (400, 20), "fc4": (784, 400)}


def tensors(shapes: Shapes) -> dict[str, HasShape]:
    return {f"{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("shapes", "prefix", "latent", "beside", "classes"),
    [
        (MLP, "", 20, 0, 0),
        ({"e.0": (400, 784), "mu": (9, 400), "logvar": (9, 400), "d.0": (400, 9), "d.2": (784, 400)}, "d.", 9, 0, 0),
        (MLP | {"fc1": (400, 794), "fc3": (400, 30)}, "", 20, 10, 10),
        (MLP | {"fc3": (400, 36)}, "", 20, 16, 0),
        ({"enc.a": (256, 784), "enc.b": (128, 256), "dec.a": (256, 64), "dec.b": (784, 256)}, "dec.", 64, 0, 0),
        (
            {"c1": (8, 1, 4, 4), "c2": (16, 8, 4, 4), "m": (5, 784), "v": (5, 784), "up": (784, 5), "t": (16, 1, 4, 4)},
            "", 5, 0, 0,
        ),
        ({"enc.a": (8, 1, 3, 3), "enc.b": (20, 8, 7, 7), "dec.a": (784, 20), "dec.b": (1, 8, 3, 3), "mu": (20, 20),
          "var": (20, 20)}, "dec.", 20, 0, 0),
        ({"e": (10, 784), "mean_layer": (10, 10), "logvar_layer": (10, 10), "d": (784, 10)}, "", 10, 0, 0),
    ],
)  # fmt: skip
def test_a_bottleneck_is_seen_whatever_its_layers_are_called(
    shapes: Shapes, prefix: str, latent: int, beside: int, classes: int
) -> None:
    found = find_decoder(tensors(shapes))
    assert found is not None
    assert (found.prefix, found.latent, found.beside, found.classes) == (prefix, latent, beside, classes)
    assert "fc22" not in " ".join(found.names)


EMBEDDED: Shapes = {
    "label_emb": (10, 12), "enc.0": (400, 796), "mu": (20, 400), "lv": (20, 400),
    "dec.0": (400, 32), "dec.2": (784, 400),
}  # fmt: skip


def test_a_class_embedding_outside_the_decoder_comes_along() -> None:
    found = find_decoder(tensors(EMBEDDED))
    assert found is not None
    assert found.names == ("label_emb.weight", "dec.0.weight", "dec.2.weight")
    assert (found.prefix, found.beside, found.classes) == ("", 12, 0)
    for other in (EMBEDDED | {"label_emb": (10, 11)}, {k: v for k, v in EMBEDDED.items() if k != "label_emb"}):
        alone = find_decoder(tensors(other))
        assert alone is not None
        assert (alone.prefix, alone.classes) == ("dec.", 12)


@pytest.mark.parametrize(
    "shapes",
    [
        {"0": (256, 100), "2": (256, 256), "4": (256, 256), "6": (784, 256)},  # an MLP generator
        {"0": (512, 784), "2": (256, 512), "4": (1, 256)},  # a discriminator
        {"0": (128, 784), "2": (64, 128), "4": (64, 64), "6": (10, 64)},  # a classifier
        {"0": (256, 784), "1": (32, 256), "2": (256, 32), "3": (784, 256)},  # an autoencoder without a law of z
        {"0": (100, 64, 4, 4), "1": (64, 32, 4, 4), "2": (32, 32, 4, 4), "3": (32, 1, 4, 4)},
        {"0": (64, 3, 3, 3), "1": (64, 64, 3, 3), "2": (64, 64, 3, 3), "3": (3, 64, 3, 3)},  # image to image
    ],
)
def test_what_has_no_bottleneck_is_left_whole(shapes: Shapes) -> None:
    assert find_decoder(tensors(shapes)) is None


class Cvae(nn.Module):
    """The label, one-hot, goes into both halves; `table` sends it through a linear layer of its own first."""

    def __init__(self, *, table: bool) -> None:
        super().__init__()
        wide = 6 if table else 10
        self.encoder = nn.ModuleDict({"hidden": nn.Linear(784 + wide, 32)})
        self.encoder["mu"], self.encoder["logvar"] = nn.Linear(32, 4), nn.Linear(32, 4)
        self.decoder = nn.ModuleDict({"label_embedding": nn.Linear(10, 6)} if table else {})
        self.hidden, self.out = nn.Linear(4 + wide, 32), nn.Linear(32, 784)
        self.decoder["hidden"], self.decoder["out"] = self.hidden, self.out
        with torch.no_grad():  # of what was trained, a label's columns stand out, and black and white are sure
            self.hidden.weight[:, 4:] *= 6.0
            self.out.weight *= 20.0

    def decode(self, z: Tensor, label: Tensor) -> Tensor:
        told = torch.eye(10)[label]
        if "label_embedding" in self.decoder:
            told = self.decoder["label_embedding"](told)
        hidden = torch.relu(self.decoder["hidden"](torch.cat((z, told), dim=1)))
        drawn: Tensor = torch.sigmoid(self.decoder["out"](hidden)).reshape(-1, 1, 28, 28)
        return drawn


def identified(tmp_path: Path, module: nn.Module, **answers: object) -> Identified:
    held = {key: tensor for key, tensor in module.state_dict().items() if key.startswith(("encoder", "decoder"))}
    torch.save(held, tmp_path / "vae.pth")
    return identify(tmp_path / "vae.pth", Answers(**answers), lambda _: None)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("table", [False, True])
def test_a_conditional_decoder_is_drafted_with_its_label(tmp_path: Path, *, table: bool) -> None:
    torch.manual_seed(1)
    vae = Cvae(table=table)
    found = identified(tmp_path, vae)
    draft = found.draft
    assert draft is not None
    interface = draft.spec.interface
    assert (interface.z_dim, interface.n_classes, interface.value_range) == (4, 10, (0.0, 1.0))
    law = next(choice for choice in draft.choices if choice.field == "latent")
    assert law.evidence is Evidence.STRONG
    assert any("variational autoencoder" in note for note in found.reading.notes)
    z, label = torch.randn(12, 4), torch.arange(12) % 10
    relu = identified(tmp_path, vae, activation={"name": "relu", "slope": None}).draft
    assert relu is not None
    torch.testing.assert_close(module_of(relu)(z, label), vae.decode(z, label))
    (tmp_path / "spec.json").write_text(json.dumps(relu.spec.to_json()))
    again = identified(tmp_path, vae, spec=tmp_path / "spec.json").draft
    assert again is not None
    torch.testing.assert_close(module_of(again)(z, label), vae.decode(z, label))


@pytest.mark.slow
@pytest.mark.parametrize("table", [False, True])
def test_an_export_is_verified_with_the_whole_autoencoder(tmp_path: Path, *, table: bool) -> None:
    vae = Cvae(table=table)
    found = identified(tmp_path, vae, activation={"name": "relu", "slope": None}, output="sigmoid")
    export_onnx(source_of(found), tmp_path / "g.onnx")
    again = source_again(tmp_path / "g.onnx", tmp_path / "vae.pth", None).module
    z, label = torch.randn(12, 4), torch.arange(12) % 10
    torch.testing.assert_close(again(z, label), vae.decode(z, label))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "output"), [("decoder", "sigmoid"), ("g", "tanh")])
def test_a_decoder_alone_is_told_by_its_name(tmp_path: Path, name: str, output: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 784))
    with torch.no_grad():
        net[2].weight.copy_(net[2].weight * 30.0)  # type: ignore[operator, arg-type]
    torch.save(net.state_dict(), tmp_path / f"{name}.pth")
    draft = identify(tmp_path / f"{name}.pth", Answers(), lambda _: None).draft
    assert draft is not None
    law = next(choice for choice in draft.choices if choice.field == "latent")
    assert (law.evidence is Evidence.STRONG) == (name == "decoder")
    assert next(choice for choice in draft.choices if choice.field == "output").value["name"] == output


class Decoder(nn.Sequential):
    """A Linear, and convolutions with BatchNorm behind it."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(6, 8 * 7 * 7), nn.Unflatten(1, (8, 7, 7)),
            nn.ConvTranspose2d(8, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(16, 24, 3, 1, 1), nn.BatchNorm2d(24), nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(24, 1, 4, 2, 1), nn.Sigmoid(),
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "name", "spread"),
    [
        (3.0, "vae", 3.0),
        pytest.param(1.0, "vae", 1.0, marks=pytest.mark.long),
        pytest.param(3.0, "netG", 1.0, marks=pytest.mark.long),
    ],
)
def test_the_latents_of_a_decoders_training_may_have_been_wider(
    tmp_path: Path, width: float, name: str, spread: float
) -> None:
    net = fed(Decoder(), 6, seed=3)
    feed(net, ((width * torch.randn(64, 6),) for _ in range(ENOUGH)))
    torch.save(net.eval().state_dict(), tmp_path / f"{name}.pth")
    notes: list[str] = []
    draft = identify(tmp_path / f"{name}.pth", Answers(output="sigmoid"), notes.append).draft
    assert draft is not None
    assert draft.trained == pytest.approx(spread, rel=0.05)
    assert draft.encoder_made == any("an encoder made them" in note for note in notes)
    if name == "netG":
        assert doubts_of(draft)
        return
    hidden = [c.value for c in draft.choices if c.field == "activation" and c.layer is not None and c.layer > 2]
    assert hidden == [{"name": "leaky_relu", "slope": 0.2}] * 2
    assert max(draft.fits) < GOOD
    z = torch.randn(8, 6)
    torch.testing.assert_close(module_of(draft)(z), net(z))  # which it generates from is N(0, 1) all the same


VAE_GAN = """
from torch import nn
class VAEGAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(784, 32)
        self.mu, self.logvar = nn.Linear(32, 6), nn.Linear(32, 6)
        self.decoder = nn.Sequential(nn.Linear(6, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))
        self.discriminator = nn.Sequential(nn.Linear(784, 32), nn.LeakyReLU(), nn.Linear(32, 1))
    def forward(self, z):
        return self.decoder(z)
"""


def test_the_discriminator_of_a_vae_gan_is_set_apart_but_for_code_that_has_it(tmp_path: Path) -> None:
    (code := tmp_path / "net.py").write_text(VAE_GAN)
    scope: dict[str, Any] = {}
    exec(VAE_GAN, scope)
    torch.save((net := scope["VAEGAN"]()).state_dict(), path := tmp_path / "vaegan.pth")
    reading = read_checkpoint(path)
    assert reading.decoder is not None
    assert (reading.decoder.latent, [one.key for one in reading.passed_over]) == (6, ["discriminator"])
    z = torch.randn(2, 6)
    source = live_source(path, Answers(live=LiveAnswers(f"{code}:VAEGAN")))
    torch.testing.assert_close(source.module(z), net(z))


def test_an_encoder_alone_is_refused(tmp_path: Path) -> None:
    torch.save({f"{name}.weight": torch.randn(shape) for name, shape in list(MLP.items())[:3]}, tmp_path / "e.pth")
    with pytest.raises(GanportError, match="expected a generator"):
        identify(tmp_path / "e.pth", Answers(), lambda _: None)
