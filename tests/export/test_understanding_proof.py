"""Whole pickled modules carry what a state_dict does not: it is used as proof, and only torch's own word counts."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.foreign_networks import GanConv, difference, examples_dcgan, sequential, settled
from gan_core.errors import GanportError
from gan_export.draft import Draft, Evidence
from gan_export.reading.modules import ModuleInfo
from gan_export.understanding.understand import draft_candidates


def infos(module: nn.Module) -> dict[str, ModuleInfo]:
    """What the safe reader says of a pickled module."""
    found = {}
    for name, part in module.named_modules(remove_duplicate=False):
        settings = {
            key: value
            for key, value in vars(part).items()
            if not key.startswith("_") and isinstance(value, (bool, int, float, str, tuple, type(None)))
        }
        found[name] = ModuleInfo(f"{type(part).__module__}.{type(part).__qualname__}", settings)
    return found


def drafted(module: nn.Module, **given: Any) -> list[Draft]:
    return draft_candidates(module.state_dict(), modules=infos(module), **given)


def test_a_sequential_is_proved_but_for_the_latent() -> None:
    module = settled(examples_dcgan(96, kernel=5))
    drafts = drafted(module)
    assert len(drafts) == 1
    assert drafts[0].spec.interface.image == (3, 96, 96)
    assert [choice.field for choice in drafts[0].open_choices] == ["latent"]
    assert {choice.evidence for choice in drafts[0].choices} == {Evidence.PROVED, Evidence.NONE}
    assert difference(drafts[0], module, (5, 1, 1)) <= 1e-5


def test_hyperparameters_that_nobody_would_guess() -> None:
    module = settled(
        sequential(
            nn.Linear(6, 8 * 49), nn.Unflatten(1, (8, 7, 7)), nn.BatchNorm2d(8, 0.3), nn.ELU(0.7),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Dropout(0.2),
            nn.Conv2d(8, 4, 3, padding=2, dilation=2), nn.BatchNorm2d(4, 0.8), nn.LeakyReLU(0.07),
            nn.Upsample(scale_factor=3), nn.ReflectionPad2d(1), nn.Conv2d(4, 1, 3), nn.Sigmoid(),
        )
    )  # fmt: skip
    drafts = drafted(module, image=(1, 42, 42))
    assert len(drafts) == 1
    draft = drafts[0]
    assert [choice.field for choice in draft.open_choices] == ["latent"]
    assert draft.spec.interface.value_range == (0.0, 1.0)
    assert draft.notes == ()
    assert difference(draft, module) <= 1e-5


def test_no_module_between_is_proof_too() -> None:
    module = settled(
        sequential(nn.ConvTranspose2d(5, 8, 4), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 3, 8, 4, 2), nn.Tanh())
    )
    draft = drafted(module, image=(3, 16, 16))[0]
    assert "activation" not in [choice.field for choice in draft.choices]
    assert difference(draft, module, (5, 1, 1)) <= 1e-5


def test_activation_before_the_norm() -> None:
    module = settled(
        sequential(
            nn.ConvTranspose2d(5, 8, 4),
            nn.SELU(),
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.ConvTranspose2d(8, 3, 8, 4, 2),
            nn.Tanh(),
        )
    )
    assert difference(drafted(module, image=(3, 16, 16))[0], module, (5, 1, 1)) <= 1e-5


def test_group_norm_and_grouped_convolution() -> None:
    module = settled(
        sequential(
            nn.ConvTranspose2d(5, 8, 4), nn.GroupNorm(2, 8), nn.ReLU(), nn.Upsample(scale_factor=4),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 3, 1), nn.Tanh(),
        )
    )  # fmt: skip
    drafts = drafted(module)
    assert any(
        difference(draft, module, (5, 1, 1)) <= 1e-5 for draft in drafts if draft.spec.interface.image == (3, 16, 16)
    )


class Own(nn.Module):
    """Modules of its own class: registered in the order they run, but nobody can know."""

    def __init__(self) -> None:
        super().__init__()
        self.deconv1 = nn.ConvTranspose2d(5, 8, 4)
        self.bn1 = nn.BatchNorm2d(8, eps=0.02)
        self.relu1 = nn.LeakyReLU(0.3)
        self.deconv2 = nn.ConvTranspose2d(8, 3, 8, 4, 2)
        self.tanh = nn.Tanh()

    def forward(self, z: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.deconv1(z)))
        image: Tensor = self.tanh(self.deconv2(x))
        return image


def test_outside_a_sequential_the_order_is_a_habit() -> None:
    module = settled(Own())
    draft = drafted(module, image=(3, 16, 16))[0]
    found = {choice.field: choice for choice in draft.choices}
    assert found["activation"].value == {"name": "leaky_relu", "slope": 0.3}
    assert found["activation"].evidence is Evidence.WEAK
    assert found["activation"].alternatives
    assert found["output"].evidence is Evidence.WEAK
    assert (found["eps"].value, found["eps"].evidence) == (0.02, Evidence.PROVED)
    assert difference(draft, module, (5, 1, 1)) <= 1e-5


def test_without_modules_the_numbers_are_open() -> None:
    draft = draft_candidates(Own().state_dict(), image=(3, 16, 16))[0]
    assert {choice.evidence for choice in draft.choices if choice.field in ("eps", "activation")} == {Evidence.NONE}


def test_only_torch_is_believed() -> None:
    module = settled(examples_dcgan(32, prefix="net"))
    lying = {
        name: ModuleInfo(info.cls.replace("torch.nn", "evil.nn"), info.settings | {"eps": 0.5, "stride": (3, 3)})
        for name, info in infos(module).items()
    }
    with pytest.raises(GanportError, match=r"lists ConvTranspose2d at net\.0, a class of the author's own"):
        draft_candidates(module.state_dict(), modules=lying)


def test_a_known_family_with_modules_rests_on_its_modules() -> None:
    """The author changed the slope; the keys are still PyTorch-GAN's."""
    module = settled(GanConv(activation=nn.LeakyReLU(0.1)))
    draft = drafted(module)[0]
    slopes = [
        choice.value["slope"] for choice in draft.choices if choice.field == "activation" and choice.value["slope"]
    ]
    assert slopes == [0.1, 0.1]
    assert difference(draft, module) <= 1e-5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stride", (2, 1)),
        ("padding", "same"),
        ("groups", "x"),
        ("dilation", (1, 2)),
        ("stride", 1.5),
        ("padding", None),
        ("stride", ()),
    ],
)
def test_numbers_that_a_spec_cannot_say(field: str, value: Any) -> None:
    module = examples_dcgan(32, prefix="net")
    modules = infos(module)
    modules["net.3"] = ModuleInfo(modules["net.3"].cls, modules["net.3"].settings | {field: value})
    with pytest.raises(
        GanportError, match=rf"ConvTranspose2d at net.3, .* has {field} .*expected (one|a)? ?whole number"
    ) as caught:
        draft_candidates(module.state_dict(), modules=modules)
    assert "`module" in caught.value.hint


def test_a_shared_activation_registered_apart() -> None:
    """`self.relu` once, used everywhere: it stands between no two units of its own, so nothing is claimed of them."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 16)
            self.out = nn.Linear(16, 784)
            self.relu = nn.ReLU()

    draft = drafted(Shared())[0]
    assert next(choice for choice in draft.choices if choice.field == "activation").evidence is Evidence.NONE


def test_a_bare_sequential() -> None:
    module = settled(nn.Sequential(OrderedDict([("0", nn.Linear(6, 16)), ("1", nn.GELU()), ("2", nn.Linear(16, 784))])))
    draft = drafted(module)[0]
    slot = next(choice for choice in draft.choices if choice.field == "activation")
    assert (slot.value["name"], slot.evidence) == ("gelu", Evidence.PROVED)
    assert torch.equal(draft.weights[0]["weight"], module.state_dict()["0.weight"])
