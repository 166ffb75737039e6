"""Self-attention in a chain: wherever a file lists it, it runs where the channels are, as its author's code draws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from export.foreign_networks import fed
from gan_export.answers import Answers
from gan_export.exporting import export_onnx
from gan_export.identify import NotUnderstoodError, identify, module_of, source_of

pytestmark = pytest.mark.slow
Z = 20


class SelfAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels // 8, 1)
        self.key_conv = nn.Conv2d(channels, channels // 8, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part(x).flatten(2) for part in (self.query_conv, self.key_conv, self.value_conv))
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        made: Tensor = self.gamma * (value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:]) + x
        return made


class Sagan(nn.Module):
    """Three blocks, the last first if `normalised`, and two attentions, which are registered behind all of them."""

    def __init__(self, widths: tuple[int, int, int], *, normalised: bool = False, only_last: bool = False) -> None:
        super().__init__()
        blocks = list(enumerate(zip((Z, *widths), widths, strict=False), 1))
        for number, (takes, makes) in blocks[::-1] if normalised else blocks:
            how = (4, 1, 0) if number == 1 else (4, 2, 1)
            layer = nn.ConvTranspose2d(takes, makes, *how)
            layer = nn.utils.spectral_norm(layer) if normalised else layer
            self.add_module(f"l{number}", nn.Sequential(layer, nn.BatchNorm2d(makes), nn.ReLU()))
        self.last = nn.Sequential(nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), nn.Tanh())
        self.attn1: nn.Module = nn.Identity() if only_last else SelfAttention(widths[1])
        self.attn2 = SelfAttention(widths[2])

    def forward(self, z: Tensor) -> Tensor:
        x = z.reshape(len(z), -1, 1, 1)
        for name in ("l1", "l2", "attn1", "l3", "attn2", "last"):
            x = self.get_submodule(name)(x)
        return x


@torch.no_grad()
def saved(network: Sagan, path: Path) -> Sagan:
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        scale = 1.0 if "gamma" in name else 2 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.2
        parameter.normal_(std=scale).add_(1.0 if parameter.ndim == 1 and name.endswith("1.weight") else 0.0)
    torch.save(fed(network, Z, batches=150).state_dict(), path)
    return network


@pytest.mark.parametrize("normalised", [False, True])
@torch.no_grad()
def test_what_is_read_is_the_network(normalised: bool, tmp_path: Path) -> None:
    network = saved(Sagan((32, 16, 8), normalised=normalised), tmp_path / "g.pth")
    draft = identify(tmp_path / "g.pth", Answers(output="tanh")).draft
    assert draft is not None
    assert "structure" not in [choice.field for choice in draft.open_choices]
    assert [layer.kind for layer in draft.spec.layers].count("attention") == 2
    assert "attn1 is self-attention over the places of 16 channels" in draft.notes
    assert max(draft.fits) < 0.005
    z = torch.randn(8, Z)
    torch.testing.assert_close(module_of(draft)(z), network(z), rtol=1e-4, atol=1e-5)


def test_it_is_exported_and_proved_and_its_spec_fits_the_file(tmp_path: Path) -> None:
    saved(Sagan((32, 16, 8)), tmp_path / "g.pth")
    found = identify(tmp_path / "g.pth", Answers(output="tanh"))
    assert export_onnx(source_of(found), tmp_path / "g.onnx").ok
    assert found.draft is not None
    (tmp_path / "g.spec.json").write_text(json.dumps(found.draft.spec.to_json()))
    given = identify(tmp_path / "g.pth", Answers(spec=tmp_path / "g.spec.json")).draft
    assert given is not None
    z = torch.randn(4, Z)
    assert torch.equal(module_of(given)(z), module_of(found.draft)(z))


def test_an_attention_that_no_batch_norm_stands_behind_is_asked_about(tmp_path: Path) -> None:
    """Its kind is not seen: some codes scale what they take the softmax of."""
    saved(Sagan((32, 16, 8), only_last=True), tmp_path / "g.pth")
    draft = identify(tmp_path / "g.pth", Answers(output="tanh")).draft
    assert draft is not None
    assert [choice.field for choice in draft.open_choices] == ["structure"]
    assert draft.skip is not None
    assert draft.skip.reason.startswith("attn2 is read as self-attention of SAGAN's kind")


def test_a_place_that_is_not_certain_is_not_guessed(tmp_path: Path) -> None:
    saved(Sagan((16, 16, 8)), tmp_path / "g.pth")
    with pytest.raises(NotUnderstoodError, match="a network with attention"):
        identify(tmp_path / "g.pth", Answers())


CODE = """
import torch
from torch import nn

class SelfAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels // 8, 1)
        self.key_conv = nn.Conv2d(channels, channels // 8, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        energy = torch.bmm(self.query_conv(x).flatten(2).permute(0, 2, 1), self.key_conv(x).flatten(2))
        out = torch.bmm(self.value_conv(x).flatten(2), torch.softmax(energy, -1).permute(0, 2, 1))
        return self.gamma * out.view(x.shape) + x

class Sagan(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Sequential(nn.ConvTranspose2d(20, 32, 4), nn.BatchNorm2d(32), nn.ReLU())
        self.l2 = nn.Sequential(nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.l3 = nn.Sequential(nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.last = nn.Sequential(nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())
        self.attn1 = SelfAttention(16)
        self.attn2 = SelfAttention(8)

    def forward(self, z):
        out = self.attn1(self.l2(self.l1(z)))
        return self.last(self.attn2(self.l3(out)))
"""


def test_its_code_does_not_contradict_it(tmp_path: Path) -> None:
    saved(Sagan((32, 16, 8)), tmp_path / "g.pth")
    (tmp_path / "models.py").write_text(CODE)
    said: list[str] = []
    draft = identify(tmp_path / "g.pth", Answers(output="tanh"), said.append).draft
    assert draft is not None
    assert any("models.py" in line for line in said)
    assert draft.contradiction is None
