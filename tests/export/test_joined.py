"""Networks with a branch for z and one for the label: what is read of a file is the network and its activation."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_export.answers import Answers
from gan_export.draft import Evidence
from gan_export.exporting import export_onnx
from gan_export.identify import Identified, identify, module_of, source_of

CLASSES, Z = 4, 20
Activation = Callable[[Tensor], Tensor]


def leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)


class Branched(nn.Module):
    """`fc` for 8x8 grey images, or `deconv` for RGB of 16x16 and 32x32, as `widths` has two or three numbers."""

    def __init__(self, activation: Activation, *widths: int, bias: bool = True) -> None:
        super().__init__()
        self.activation, self.widths, self.flat = activation, widths, len(widths) == 2
        *hidden, last = (*widths, 64 if self.flat else 3)
        first, name = hidden[0], "fc" if self.flat else "deconv"
        takes = [("1_1", Z, first), ("1_2", CLASSES, first + 1), ("2", 2 * first + 1, (*hidden, last)[1])]
        takes += [(str(number), *pair) for number, pair in enumerate(itertools.pairwise((*hidden[1:], last)), 3)]
        for number, given, made in takes:
            stride, padding = (1, 0) if number.startswith("1") else (2, 1)
            layer = (
                nn.Linear(given, made, bias=bias)
                if self.flat
                else nn.ConvTranspose2d(given, made, 4, stride, padding, bias=bias)
            )
            self.add_module(name + number, layer)
            if made != last:
                self.add_module(f"{name}{number}_bn", (nn.BatchNorm1d if self.flat else nn.BatchNorm2d)(made))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        name = "fc" if self.flat else "deconv"

        def run(number: str, x: Tensor) -> Tensor:
            made: Tensor = self.get_submodule(f"{name}{number}_bn")(self.get_submodule(f"{name}{number}")(x))
            return self.activation(made)

        one_hot = functional.one_hot(label, CLASSES).float()
        shape = (-1,) if self.flat else (-1, 1, 1)
        x = torch.cat([run("1_1", z.reshape(len(z), *shape)), run("1_2", one_hot.reshape(len(z), *shape))], 1)
        for number in range(2, len(self.widths) + 1):
            x = run(str(number), x)
        x = torch.tanh(self.get_submodule(f"{name}{len(self.widths) + 1}")(x))
        return x.reshape(-1, 1, 8, 8) if self.flat else x


@torch.no_grad()
def saved(network: Branched, path: Path) -> Branched:
    """`network`, and its file, with what its BatchNorms remember of its own latents."""
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        parameter.normal_(std=2 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.3)
        parameter.add_(1.0 if name.endswith("bn.weight") else 0.0)
    for _ in range(100):
        network(torch.randn(64, Z), torch.randint(CLASSES, (64,)))
    torch.save(network.eval().state_dict(), path)
    return network


def activations(found: Identified) -> set[tuple[str, float | None, Evidence]]:
    assert found.draft is not None
    choices = [choice for choice in found.draft.choices if choice.field == "activation"]
    return {(choice.value["name"], choice.value["slope"], choice.evidence) for choice in choices}


@pytest.mark.parametrize(("widths", "bias"), [((12, 16), False), ((12, 8, 6), True), ((8, 8, 6, 5), False)])
@pytest.mark.parametrize(("activation", "name", "slope"), [(functional.relu, "relu", None), (leaky, "leaky_relu", 0.2)])
@torch.no_grad()
def test_what_is_read_is_the_network(
    activation: Activation, name: str, slope: float | None, widths: tuple[int, ...], bias: bool, tmp_path: Path
) -> None:
    network = saved(Branched(activation, *widths, bias=bias), tmp_path / "g.pth")
    found = identify(tmp_path / "g.pth", Answers())
    assert found.draft is not None
    assert found.draft.family == ("znxlwm-cgan" if network.flat else "znxlwm-cdcgan")
    assert found.unanswered == ()
    assert activations(found) == {(name, slope, Evidence.STRONG)}
    z, label = torch.randn(8, Z), torch.arange(8) % CLASSES
    torch.testing.assert_close(module_of(found.draft)(z, label), network(z, label))


def test_it_is_exported_and_proved(tmp_path: Path) -> None:
    saved(Branched(leaky, 12, 8, 6), tmp_path / "g.pth")
    assert export_onnx(source_of(identify(tmp_path / "g.pth", Answers())), tmp_path / "g.onnx").ok


def test_an_activation_that_does_not_fit_is_no_evidence(tmp_path: Path) -> None:
    """Statistics of other latents: nothing fits, so what the code has is what is left."""
    network = saved(Branched(functional.relu, 12, 16), tmp_path / "g.pth")
    for buffer in (buffer for key, buffer in network.named_buffers() if key.endswith("running_var")):
        buffer.mul_(9)
    torch.save(network.state_dict(), tmp_path / "g.pth")
    found = identify(tmp_path / "g.pth", Answers())
    assert found.draft is not None
    assert any("does not fit" in note for note in found.draft.notes)
