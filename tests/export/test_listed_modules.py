"""Whole modules on disk: each class of torch.nn that a file lists is drawn as PyTorch draws it, or refused by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.foreign_networks import difference, settled
from export.listed_networks import OTHERWISE, Author, Halves, around, classes, drafted, made, outcome
from gan_core.errors import GanportError
from gan_export.draft import Evidence
from gan_export.understanding.torch_modules import INERT, ROWS

pytestmark = pytest.mark.slow


MODELLED = {
    "image":
    "AdaptiveAvgPool2d AdaptiveMaxPool2d AvgPool2d MaxPool2d BatchNorm2d InstanceNorm2d GroupNorm LayerNorm "
    "RMSNorm LocalResponseNorm ChannelShuffle PixelShuffle PixelUnshuffle GLU Upsample UpsamplingBilinear2d "
    "UpsamplingNearest2d ZeroPad2d ConstantPad2d ReflectionPad2d ReplicationPad2d CircularPad2d Softmax Softmax2d "
    "LogSoftmax ReLU6 Hardswish Hardsigmoid Softsign Threshold RReLU LogSigmoid Hardshrink Softshrink Tanhshrink "
    "Softplus CELU ELU SELU GELU Mish SiLU PReLU Hardtanh Dropout Dropout2d AlphaDropout "
    "FeatureAlphaDropout Identity Flatten Conv2d ConvTranspose2d",
    "vector": "BatchNorm1d GLU GroupNorm LogSoftmax Softmax Linear Unflatten Hardswish Dropout Dropout1d PReLU",
}  # fmt: skip
"""What a spec can say, by where it stands in a network."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", ["image", "vector", "end"])
@pytest.mark.parametrize("name", sorted(classes()))
def test_every_class_of_torch_is_equal_or_refused_by_name(name: str, place: str, tmp_path: Path) -> None:
    network, z_shape = around(made(name), place)
    if network is None:
        pytest.skip("makes no image here")
    found = outcome(network, z_shape, tmp_path / "G.pth")
    plain = name.removeprefix("Lazy")
    if z_shape or plain not in INERT:
        assert found == "equal" or plain in found, found
    assert plain in ROWS or plain in found, "a class without a row must be refused"
    if name in MODELLED.get(place, "").split():
        assert (found, outcome(Author(network), z_shape, tmp_path / "A.pth")) == ("equal", "equal")


def test_all_that_is_modelled_is_a_class_of_torch() -> None:
    assert {name for names in MODELLED.values() for name in names.split()} <= set(classes())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("index", range(len(OTHERWISE)))
def test_other_numbers_are_equal_or_refused_by_name(index: int, tmp_path: Path) -> None:
    for place in ("image", "vector"):
        module = OTHERWISE[index]()
        network, z_shape = around(module, place)
        assert network is not None
        found = outcome(network, z_shape, tmp_path / "G.pth")
        assert found in ("equal", "drafted") or type(module).__name__ in found, found
        halved = outcome(Halves(network, 3 if place == "image" else 4), z_shape, tmp_path / "H.pth")
        assert halved in ("equal", "drafted") or halved.startswith(str(tmp_path / "H.pth")), halved


REFUSED: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: nn.BatchNorm2d(8, track_running_stats=False), "normalises with those of its batch, even in eval mode"),
    (lambda: nn.AvgPool2d(2, divisor_override=3), "has a divisor_override"),
    (lambda: nn.MaxPool2d(2, return_indices=True), "returns indices too"),
    (lambda: nn.Conv2d(8, 8, (3, 1)), "a kernel of 3x1, expected a square one"),
    (lambda: nn.Conv2d(8, 8, 3, (1, 2)), r"stride \(1, 2\), expected one whole number"),
    (lambda: nn.Softmax(2), "runs over dimension 2"),
    (lambda: nn.Upsample(scale_factor=1.5), "scale_factor 1.5, which makes no whole size of 4x4"),
    (lambda: nn.Upsample(scale_factor=2, mode="area"), "mode must be one of nearest"),
    (lambda: nn.AdaptiveAvgPool2d(3), "pools to 3x3, which does not divide 4x4"),
    (lambda: nn.Flatten(0), "start_dim 0, expected a dimension behind the batch"),
    (lambda: nn.Softmin(1), "lists Softmin between 1 and 4, which a spec cannot say"),
    (lambda: nn.LPPool2d(2, 2), "lists LPPool2d between 1 and 4, which a spec cannot say"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_refusals_say_why(make: Callable[[], nn.Module], message: str, tmp_path: Path) -> None:
    network, _ = around(make(), "image")
    torch.save(network, tmp_path / "G.pth")
    with pytest.raises(GanportError, match=message) as caught:
        drafted(tmp_path / "G.pth")
    assert "`module` file.py:Class" in caught.value.hint


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class MyReLU(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


class EqualLinear(nn.Module):
    """Looks like a Linear by its tensors."""

    def __init__(self, takes: int, makes: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(makes, takes)), nn.Parameter(torch.randn(makes))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight / 3, self.bias)


def hook(_: nn.Module, __: Any, out: Tensor) -> Tensor:
    return 2 * out


def own_forward(x: Tensor) -> Tensor:
    return x.sin()


def dcgan(*between: nn.Module) -> nn.Sequential:
    layers = nn.ConvTranspose2d(6, 8, 4), nn.BatchNorm2d(8), *between, nn.ConvTranspose2d(8, 3, 8, 8), nn.Tanh()
    return settled(nn.Sequential(*layers))  # type: ignore[return-value]


def with_hook(pre: bool) -> nn.Module:
    network = dcgan(nn.ReLU())
    (network[2].register_forward_pre_hook if pre else network[2].register_forward_hook)(hook)  # type: ignore[arg-type]
    return network


def with_forward() -> nn.Module:
    network = dcgan(nn.ReLU())
    network[2].forward = own_forward
    return network


def hooked_root() -> nn.Module:
    network = dcgan(nn.ReLU())
    network.register_forward_hook(hook)
    return network


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dcgan(Swish()), "lists Swish between 1 and 3, a class of the author's own"),
        (lambda: dcgan(MyReLU()), "lists MyReLU between 1 and 3, a class of the author's own"),
        (lambda: Author(dcgan(Swish())), "lists Swish between (main.)?1 and (main.)?3, a class of the author's own"),
        (
            lambda: Halves(dcgan(Swish()), 3),
            "lists Swish between first.1 and second.3, a class of the author's own",
        ),
        (
            lambda: nn.Sequential(EqualLinear(6, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh()),
            "lists EqualLinear at 0, a class of the author's own",
        ),
        (
            lambda: Halves(nn.Sequential(EqualLinear(6, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh()), 2),
            "lists EqualLinear at first.0, a class of the author's own",
        ),
        (lambda: with_hook(pre=False), "lists ReLU between 1 and 3 with a forward hook"),
        (lambda: with_hook(pre=True), "lists ReLU between 1 and 3 with a forward hook"),
        (with_forward, "lists ReLU between 1 and 3 with a forward of its own"),
        (hooked_root, "lists Sequential at the root with a forward hook"),
        (lambda: nn.Sequential(dcgan(nn.ReLU()), Swish()), "lists Swish after 0.3, a class of the author's own"),
    ],
)  # fmt: skip
def test_code_that_the_file_does_not_hold_is_refused(
    make: Callable[[], nn.Module], message: str, tmp_path: Path
) -> None:
    torch.save(make(), tmp_path / "G.pth")
    with pytest.raises(GanportError, match=message) as caught:
        drafted(tmp_path / "G.pth")
    assert "the network's own code: `module` " in caught.value.hint


def test_two_activations_in_one_place_both_count(tmp_path: Path) -> None:
    network = dcgan(nn.Hardtanh(-0.5, 0.5), nn.Dropout(), nn.LeakyReLU(0.3), nn.Identity(), nn.Softsign())
    for wrapped in (network, Author(network), nn.Sequential(nn.Sequential(network))):
        assert outcome(wrapped, (6, 1, 1), tmp_path / "G.pth") == "equal"


def test_the_order_of_bilinear_and_activation_counts(tmp_path: Path) -> None:
    up = nn.Upsample(scale_factor=2, mode="bilinear")
    for between in ([up, nn.ReLU()], [nn.ReLU(), up], [nn.ReLU(), up, nn.SiLU()], [up, nn.Upsample(scale_factor=2)]):
        layers = [nn.ConvTranspose2d(6, 8, 4), nn.BatchNorm2d(8), *between, nn.Conv2d(8, 8, 3, padding=1)]
        network = settled(nn.Sequential(*layers, nn.Conv2d(8, 3, 1), nn.Upsample(scale_factor=8), nn.Tanh()))
        assert outcome(network, (6, 1, 1), tmp_path / "G.pth") == "equal"
        halves = Halves(network, len(layers) + 1)  # type: ignore[arg-type]
        found = outcome(halves, (6, 1, 1), tmp_path / "H.pth")
        assert found == "equal" or "the file lists" in found or "no usual strides" in found


def test_a_module_that_is_used_twice(tmp_path: Path) -> None:
    act, conv = nn.ELU(0.4), nn.Conv2d(8, 8, 3, padding=1)
    assert outcome(dcgan(act, conv, act, conv, act), (6, 1, 1), tmp_path / "G.pth") == "equal"


def test_containers_inside_containers_keep_their_order(tmp_path: Path) -> None:
    inner = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sequential(), nn.Tanhshrink()), nn.ELU())
    assert outcome(nn.DataParallel(dcgan(inner)), (6, 1, 1), tmp_path / "G.pth") == "equal"


def test_the_flag_of_training_changes_nothing(tmp_path: Path) -> None:
    network = dcgan(nn.Dropout(0.7), nn.RReLU())
    network.train()
    torch.save(network, tmp_path / "G.pth")
    assert difference(drafted(tmp_path / "G.pth"), network.eval(), (6, 1, 1)) <= 1e-5


@pytest.mark.parametrize(
    ("last", "value_range", "asked"),
    [
        (nn.Tanh(), (-1.0, 1.0), False), (nn.Sigmoid(), (0.0, 1.0), False), (nn.Hardsigmoid(), (0.0, 1.0), False),
        (nn.Softsign(), (-1.0, 1.0), False), (nn.Hardtanh(0, 1), (0.0, 1.0), False), (nn.ReLU6(), (-1.0, 1.0), True),
        (nn.Identity(), (-1.0, 1.0), True), (nn.LeakyReLU(0.1), (-1.0, 1.0), True),
    ],
)  # fmt: skip
def test_the_last_activation_is_the_files(
    last: nn.Module, value_range: tuple[float, float], asked: bool, tmp_path: Path
) -> None:
    """No activation is added behind the last module; the range of values is asked for where nothing shows it."""
    network = nn.Sequential(nn.ConvTranspose2d(6, 8, 4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 8, 8), last)
    torch.save(settled(network), tmp_path / "G.pth")
    draft = drafted(tmp_path / "G.pth")
    assert difference(draft, network, (6, 1, 1)) <= 1e-5
    assert draft.spec.interface.value_range == value_range
    assert ("value_range" in [choice.field for choice in draft.open_choices]) == asked
    told = drafted(tmp_path / "G.pth", value_range=(0.0, 1.0))
    assert told.spec.interface.value_range == (0.0, 1.0)
    assert difference(told, network, (6, 1, 1)) <= 1e-5
    assert "value_range" not in [choice.field for choice in told.open_choices]


class Toolbox(nn.Module):
    """One activation, used everywhere: the list does not say where."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.squash = nn.Hardswish(), nn.Tanh()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 16), nn.Linear(16, 32), nn.Linear(32, 784)

    def forward(self, z: Tensor) -> Tensor:
        x = self.act(self.fc2(self.act(self.fc1(z))))
        return self.squash(self.fc3(x))  # type: ignore[no-any-return]


def test_an_activation_held_apart_is_tried_everywhere_and_assumed(tmp_path: Path) -> None:
    network = settled(Toolbox())
    torch.save(network, tmp_path / "G.pth")
    draft = drafted(tmp_path / "G.pth")
    slots = [choice for choice in draft.choices if choice.field == "activation"]
    assert [slot.value["name"] for slot in slots] == ["hardswish", "hardswish"]
    assert all(slot.habit and slot.evidence is not Evidence.PROVED for slot in slots)
    assert difference(draft, network) <= 1e-5


def test_a_module_beside_the_generator_counts(tmp_path: Path) -> None:
    """The tensors' common prefix is a wrapper's name, but what stands beside it is no wrapper."""
    inner = nn.Sequential(
        OrderedDict([("first", nn.ConvTranspose2d(6, 8, 4)), ("last", nn.ConvTranspose2d(8, 3, 8, 8))])
    )
    network = nn.Sequential(OrderedDict([("generator", settled(inner)), ("squash", nn.Hardtanh(0, 1))]))
    assert outcome(network, (6, 1, 1), tmp_path / "G.pth") == "equal"
    assert drafted(tmp_path / "G.pth").spec.interface.value_range == (0.0, 1.0)
    only = nn.Sequential(OrderedDict([("generator", inner)]))
    assert outcome(only, (6, 1, 1), tmp_path / "G.pth") == "equal"


def test_too_many_modules(tmp_path: Path) -> None:
    torch.save(nn.Sequential(*[nn.ReLU()] * 2500, nn.Linear(6, 784)), tmp_path / "G.pth")
    with pytest.raises(GanportError, match="lists 2,501 modules, at most 2,000 are read"):
        drafted(tmp_path / "G.pth")


@pytest.mark.parametrize(("doublings", "factor"), [(12, 2), (1, 20_000), (3, 1000)])
def test_networks_as_bombs(doublings: int, factor: int, tmp_path: Path) -> None:
    ups = [nn.Upsample(scale_factor=factor) for _ in range(doublings)]
    torch.save(nn.Sequential(nn.ConvTranspose2d(6, 3, 4), *ups, nn.Tanh()), tmp_path / "G.pth")
    with pytest.raises(GanportError, match=r"at most|factor must be|which a spec cannot say") as caught:
        drafted(tmp_path / "G.pth")
    assert caught.value.hint
