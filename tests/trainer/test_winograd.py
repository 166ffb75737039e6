"""Convolutions by Winograd's products: equal to PyTorch's to rounding, forwards and backwards; where they are used."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from gan_trainer import winograd
from gan_trainer.config import Limit
from gan_trainer.discriminators import Discriminator
from gan_trainer.speed import Speed
from gan_trainer.winograd import Winograd, with_winograd
from trainer.conftest import StartRun

EVERYWHERE = ("LEAST_FOR_GRADIENT", "LEAST_FOR_UP", "LEAST_FOR_DOWN")


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for few channels, and in several chunks."""
    for name in EVERYWHERE:
        monkeypatch.setattr(winograd, name, 1)
    monkeypatch.setattr(winograd, "CHUNK_BYTES", 9 * 5 * 8 * 12 * 2)


Convolve = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def gradients(compute: Convolve, images: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    """The result and all gradients."""
    given = [each.detach().clone().requires_grad_() for each in (images, weight, bias) if each is not None]
    made = compute(given[0], given[1], given[2] if bias is not None else None)
    towards = torch.sin(torch.arange(made.numel(), dtype=torch.float32)).view_as(made)
    return [made, *torch.autograd.grad(made, given, towards)]


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
def test_results_and_gradients(transposed: bool, with_bias: bool, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    weight = torch.randn(7, 5, 4, 4).contiguous(memory_format=layout)
    channels, side = (7, (4, 6)) if transposed else (5, (8, 12))
    images = torch.randn(5, channels, *side).contiguous(memory_format=layout)
    bias = torch.randn(5 if transposed else 7) if with_bias else None
    if transposed:
        ours = gradients(winograd.transposed_convolution, images, weight, bias)
        theirs = gradients(lambda y, w, b: conv_transpose2d(y, w, b, 2, 1), images, weight, bias)
    else:
        ours = gradients(winograd.convolution, images, weight, bias)
        theirs = gradients(lambda x, w, b: conv2d(x, w, b, 2, 1), images, weight, bias)
    assert "Convolution" in str(ours[0].grad_fn) or "Transposed" in str(ours[0].grad_fn)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=2e-5)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("side", [(2, 4), (6, 4), (5, 5), (14, 14)])
def test_other_sizes_are_computed_as_usual(side: tuple[int, int]) -> None:
    images, weight = torch.randn(2, 3, *side, requires_grad=True), torch.randn(4, 3, 4, 4)
    made = winograd.convolution(images, weight, None)
    torch.testing.assert_close(made, conv2d(images, weight, None, 2, 1), rtol=0, atol=0)
    made.sum().backward()


@pytest.mark.parametrize(
    ("module", "taken"),
    [
        (nn.Conv2d(2, 3, 4, 2, 1), True),
        (nn.ConvTranspose2d(2, 3, 4, 2, 1, bias=False), True),
        (nn.Conv2d(2, 3, 4), False),
        (nn.Conv2d(2, 2, 4, 2, 1, groups=2), False),
        (nn.Conv2d(2, 3, 4, 2, 1, padding_mode="reflect"), False),
        (nn.ConvTranspose2d(2, 3, 4, 2, 1, output_padding=1), False),
        (nn.ConvTranspose2d(2, 3, 5, 2, 1), False),
        (nn.Conv2d(2, 3, 4, 2, 1, dilation=2), False),
        (nn.Linear(2, 3), False),
    ],
)
def test_which_layers(module: nn.Module, taken: bool) -> None:
    assert Winograd.takes(module) == taken
    assert isinstance(with_winograd(nn.Sequential(module))[0], Winograd) == taken


@pytest.mark.usefixtures("everywhere")
def test_weights_under_spectral_norm_are_shared() -> None:
    torch.manual_seed(0)
    plain = Discriminator("dcgan", (1, 32, 32), width=4, norm="spectral")
    network = copy.deepcopy(plain)
    called = with_winograd(network)
    assert sum(isinstance(module, Winograd) for module in called.modules()) == 3
    assert not any(isinstance(module, Winograd) for module in network.modules()), "what is saved stays as it is"
    images = torch.randn(6, 1, 32, 32)
    for each in (plain, called):
        each(images).sum().backward()
    for mine, other in zip(network.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"arch": "resize", "d_norm": "spectral", "loss": "hinge", "d_loss": "joined"},
        {"penalty": "r1r2", "penalty_weight": 1.0, "d_norm": "none", "loss": "relativistic", "d_loss": "joined"},
    ],
)
def test_trainings_are_the_same(changes: dict[str, object], start_run: StartRun) -> None:
    ways = {"plain": Speed(channels_last=True), "winograd": Speed(channels_last=True, winograd=True)}
    runs = [start_run(name=name, limit=Limit("steps", 4), speed=way, size=32, **changes) for name, way in ways.items()]
    for training in runs:
        training.run()
    taken = [[isinstance(part, Winograd) for part in run.D.modules()].count(True) for run in runs]
    assert taken == [0, 0 if changes.get("penalty") else 3]
    plain, ours = (list(run.state.generator.state_dict().values()) for run in runs)
    for mine, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)
