"""Networks with a branch for z and one for the label: what is read of a file is the network, whichever comes first."""

from __future__ import annotations

import itertools
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.foreign_networks import feed
from gan_export.answers import Answers
from gan_export.draft import Evidence
from gan_export.exporting import export_onnx
from gan_export.identify import Identified, NotUnderstoodError, identify, module_of, source_of

pytestmark = pytest.mark.slow
CLASSES, Z = 4, 20
Activation = Callable[[Tensor], Tensor]
Network = TypeVar("Network", bound=nn.Module)


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
def saved(network: Network, path: Path) -> Network:
    """`network`, and its file, with what its BatchNorms remember of its own latents."""
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        parameter.normal_(std=2 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.3)
        parameter.add_(1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0)
    feed(network, ((torch.randn(64, Z), torch.randint(CLASSES, (64,))) for _ in range(100)))
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


class Apart(nn.Module):
    """Branches under names of their own, of which the label's may be listed, and joined, first."""

    def __init__(self, *, flat: bool, listed_first: bool, label_first: bool) -> None:
        super().__init__()
        self.label_first = label_first
        sizes = {"y_branch": (CLASSES, 6), "z_branch": (Z, 6)}
        for name in sorted(sizes, reverse=not listed_first):
            takes, makes = sizes[name]
            layer = nn.Linear(takes, 16 * makes) if flat else nn.ConvTranspose2d(takes, makes, 4, bias=False)
            norm = nn.BatchNorm1d(16 * makes) if flat else nn.BatchNorm2d(makes)
            shaped = nn.Unflatten(1, (takes,) if flat else (takes, 1, 1))
            self.add_module(name, nn.Sequential(OrderedDict(a=shaped, b=layer, c=norm, d=nn.ReLU())))
        convs = nn.ConvTranspose2d(12, 8, 4, 2, 1), nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.ConvTranspose2d(6, 3, 4, 2, 1)
        self.main = nn.Sequential(
            convs[0], nn.BatchNorm2d(8), nn.ReLU(), convs[1], nn.BatchNorm2d(6), nn.ReLU(), convs[2], nn.Tanh()
        )

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        vectors = functional.one_hot(label, CLASSES).float(), z
        made = [
            self.get_submodule(name)(x).reshape(len(z), -1, 4, 4)
            for name, x in zip(("y_branch", "z_branch"), vectors, strict=True)
        ]
        drawn: Tensor = self.main(torch.cat(made if self.label_first else made[::-1], 1))
        return drawn


@pytest.mark.parametrize(
    ("flat", "listed_first", "label_first"),
    [
        (False, False, True),
        pytest.param(True, True, False, marks=pytest.mark.long),
        pytest.param(False, True, True, marks=pytest.mark.long),
    ],
)
@torch.no_grad()
def test_which_branch_comes_first_is_found(flat: bool, listed_first: bool, label_first: bool, tmp_path: Path) -> None:
    network = saved(Apart(flat=flat, listed_first=listed_first, label_first=label_first), tmp_path / "g.pth")
    found = identify(tmp_path / "g.pth", Answers(output="tanh"))
    draft = found.draft
    assert draft is not None
    assert draft.family == "chain"
    assert f"is concatenated, {'the label' if label_first else 'z'}'s first" in draft.notes[0]
    z, label = torch.randn(8, Z), torch.arange(8) % CLASSES
    torch.testing.assert_close(module_of(draft)(z, label), network(z, label), rtol=1e-4, atol=1e-5)
    assert draft.structure_choice is not None
    assert draft.structure_choice.evidence.settled
    (tmp_path / "g.json").write_text(json.dumps(draft.spec.to_json()))
    again = identify(tmp_path / "g.pth", Answers(spec=tmp_path / "g.json")).draft
    assert again is not None
    torch.testing.assert_close(module_of(again)(z, label), module_of(draft)(z, label), rtol=0, atol=0)


@pytest.mark.parametrize("lacking", [("main.1.", "main.4."), ("y_branch.c.weight", "y_branch.c.bias")])
def test_no_order_is_guessed_and_no_norm_made_up(lacking: tuple[str, ...], tmp_path: Path) -> None:
    tensors = saved(Apart(flat=False, listed_first=False, label_first=False), tmp_path / "g.pth").state_dict()
    torch.save({key: tensor for key, tensor in tensors.items() if not key.startswith(lacking)}, tmp_path / "g.pth")
    with pytest.raises(NotUnderstoodError, match="the layers do not chain"):
        identify(tmp_path / "g.pth", Answers())


@pytest.mark.parametrize("said", [{"n_classes": 7}, {"z_dim": 5}])
def test_answers_that_no_branch_takes_are_not_ignored(said: dict[str, int], tmp_path: Path) -> None:
    saved(Apart(flat=False, listed_first=False, label_first=False), tmp_path / "g.pth")
    with pytest.raises(NotUnderstoodError, match="the layers do not chain"):
        identify(tmp_path / "g.pth", Answers(**said))  # type: ignore[arg-type]
