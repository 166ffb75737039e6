"""Files of lightweight-gan from the file alone, against a network of its keys that is written anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.image_networks import settled
from gan_core.latents import latents
from gan_export.answers import Answers
from gan_export.families.lucidrains import NOISE, Lightweight
from gan_export.families.registry import check_family
from gan_export.identify import identify, module_of


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.g, self.b = nn.Parameter(torch.ones(1, width, 1, 1)), nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(dim=1, keepdim=True)
        normed: Tensor = x / (x.square().mean(dim=1, keepdim=True) + 1e-5).sqrt() * self.g + self.b
        return normed


class Attention(nn.Module):
    """8 heads of 64 channels: over all places in two products, and over 3x3 places by unfolding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.fn = Norm(width), nn.Module()
        self.fn.to_lin_q, self.fn.to_q = (nn.Conv2d(width, 512, 1, bias=False) for _ in range(2))
        self.fn.to_lin_kv = nn.Module()
        depth = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.fn.to_lin_kv.net = nn.Sequential(depth, nn.Conv2d(width, 1024, 1, bias=False))
        self.fn.to_kv, self.fn.to_out = nn.Conv2d(width, 1024, 1, bias=False), nn.Conv2d(1024, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        part, sides = self.fn.get_submodule, x.shape[2:]
        normed = self.norm(x)
        q = part("to_lin_q")(normed).reshape(len(x), 8, 64, -1).softmax(2) / 8
        k, v = part("to_lin_kv.net")(normed).reshape(len(x), 2, 8, 64, -1).unbind(1)
        far = torch.einsum("nhdp,nhdq,nheq->nhep", q, k.softmax(3), v).reshape(len(x), 512, *sides)
        q = part("to_q")(normed).reshape(len(x), 8, 64, -1) / 8
        k, v = functional.unfold(part("to_kv")(normed), 3, padding=1).reshape(len(x), 2, 8, 64, 9, -1).unbind(1)
        shares = torch.einsum("nhdp,nhdjp->nhjp", q, k).softmax(2)
        near = torch.einsum("nhjp,nhejp->nhep", shares, v).reshape(len(x), 512, *sides)
        attended: Tensor = part("to_out")(torch.cat((functional.gelu(far), near), 1))
        return attended + x


class Block(nn.Module):
    def __init__(self, takes: int, makes: int) -> None:
        super().__init__()
        self.add_module("0", nn.Module())
        self.get_submodule("0").net = nn.Sequential(nn.Conv2d(takes, 4 * takes, 1))
        self.add_module("1", nn.Module())
        self.get_submodule("1").register_buffer("f", torch.tensor([1.0, 2.0, 1.0]))
        self.add_module("2", nn.Sequential(nn.Identity(), nn.Conv2d(takes, 2 * makes, 4)))
        self.add_module("3", nn.Module())
        self.get_submodule("3").weight = nn.Parameter(torch.zeros(1))
        self.add_module("4", nn.BatchNorm2d(2 * makes))

    def forward(self, x: Tensor, noise: float) -> Tensor:
        part = self.get_submodule
        x = functional.pixel_shuffle(functional.silu(part("0.net")(x)), 2)
        taps = part("1").get_buffer("f")
        blur = (taps.outer(taps) / 16).expand(x.shape[1], 1, 3, 3)
        x = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), blur, groups=x.shape[1])
        x = part("2")(functional.pad(x, (2, 1, 2, 1)))
        side = x.shape[2]
        x = x + part("3").get_parameter("weight") * noise * torch.from_numpy(latents([0], side**2)).reshape(side, side)
        return functional.glu(part("4")(x), 1)


class Gate(nn.Module):
    """What multiplies another image's channels: with a buffer of weights, `width` pixels a side, or with a softmax."""

    def __init__(self, takes: int, makes: int, width: int) -> None:
        super().__init__()
        between = max(3, makes // (4 if width else 2))
        self.width = width
        if width:
            self.register_buffer("dct_weights", torch.randn(1, takes, width, width) / width)
        else:
            self.to_k = nn.Conv2d(takes, 1, 1)
        self.net = nn.Sequential(
            nn.Conv2d(takes, between, 1), nn.LeakyReLU(0.1), nn.Conv2d(between, makes, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.width:
            pooled = (x * self.get_buffer("dct_weights")).sum(dim=(2, 3), keepdim=True)
        else:
            shares = self.to_k(x).flatten(2).softmax(2)
            pooled = (x.flatten(2) * shares).sum(2)[:, :, None, None]
        gate: Tensor = self.net(pooled)
        return gate


class Generator(nn.Module):
    def __init__(self, channels: tuple[int, ...], z_dim: int = 5, attended: int = 1, *, cosine: bool = False) -> None:
        super().__init__()
        self.initial_conv = nn.Sequential(nn.ConvTranspose2d(z_dim, 2 * z_dim, 4), nn.BatchNorm2d(2 * z_dim))
        self.layers = nn.ModuleList()
        for index, (takes, makes) in enumerate(zip((z_dim, *channels), channels, strict=False)):
            layer = nn.Module()
            layer.add_module("0", Block(takes, makes))
            if index and index + 3 < len(channels):
                layer.add_module("1", Gate(makes, channels[index + 3], (8 << index) * cosine))
            if index == attended:
                layer.add_module("2", Attention(takes))
            self.layers.append(layer)
        self.out_conv = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, z: Tensor, noise: float = 1.0) -> Tensor:
        x = functional.normalize(functional.glu(self.initial_conv(z[:, :, None, None]), 1), dim=1)
        gates: dict[int, Tensor] = {}
        for index, layer in enumerate(self.layers):
            parts = dict(layer.named_children())
            x = parts["0"](parts["2"](x) if "2" in parts else x, noise)
            if "1" in parts:
                gates[index + 3] = parts["1"](x)
            x = x * gates.get(index, 1)
        image: Tensor = self.out_conv(x)
        return image


def test_random_files_are_read_back() -> None:
    check_family(Lightweight(), times=6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "cosine"), [((3, 2), False), ((4, 3, 2, 3, 2), False), ((3, 2, 2, 2, 3, 2), True)]
)
@torch.no_grad()
def test_what_is_read_is_the_network(tmp_path: Path, channels: tuple[int, ...], cosine: bool) -> None:
    network, raw = (settled(Generator(channels, cosine=cosine), seed) for seed in (0, 1))
    held = {f"{name}.{key}": t for name, each in (("G", raw), ("GE", network)) for key, t in each.state_dict().items()}
    torch.save({"GAN": held, "version": "1.2.1", "G_scaler": {}, "D_scaler": {}}, tmp_path / "model_9.pt")
    draft, z = identify(tmp_path / "model_9.pt", Answers()).draft, torch.randn(3, 5)
    assert draft is not None
    assert (draft.family, draft.spec.interface.value_range) == ("lightweight-gan", (0.0, 1.0))
    assert NOISE.format("N(0, 1)") in draft.notes
    module = module_of(draft).double()
    for noise in (1.0, 0.0):
        made = module(z.double(), noise=torch.tensor([noise], dtype=torch.float64))
        torch.testing.assert_close(made, network.double()(z.double(), noise), rtol=1e-5, atol=1e-6)
