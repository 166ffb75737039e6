"""The registry of families: round trips over random numbers, order, other packages' families, near misses."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import torch

from gan_core.errors import GanportError
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_export.families import Family, Folded, Network, RefusedError, Shapes, registry, scaled
from gan_export.families.dcgan import PytorchExamplesDcgan, Stack
from gan_export.families.registry import check_family
from gan_export.understanding.understand import draft_candidates


class Squares(Family[tuple[int, int]]):
    """What another package may add: a residual network. Numbers: z_dim and the channels inside."""

    name = "squares"
    source = "somebody/squares"

    def numbers(self, shapes: Shapes) -> Iterator[tuple[int, int]]:
        if shapes.rank("start.weight", 2) and shapes.rank("same.weight", 4):
            yield shapes["start.weight"][1], shapes["same.weight"][0]

    def network(self, numbers: tuple[int, int]) -> Network:
        z_dim, width = numbers
        layers = [
            ("start", L.Linear(z_dim, 64 * width)),
            ("", L.Reshape((width, 8, 8), as_="skip")),
            ("same", L.Conv(width, width, 3, padding=1)),
            ("", L.Activation("leaky_relu", slope=0.1)),
            ("", L.Add("skip")),
            ("end", L.Conv(width, 3, 1)),
            ("", L.Activation("sigmoid")),
        ]
        return Network(layers, Interface(z_dim, (3, 8, 8), value_range=(0.0, 1.0)), questions=("latent",))

    def sample(self, random: Random) -> tuple[int, int]:
        return random.randint(1, 20), random.randint(1, 8)


class Scaled(Family[int]):
    """Weights in another form than the layers have them, a head that does not run, and a setting that decides."""

    name = "scaled"
    source = "somebody/scaled"

    def numbers(self, shapes: Shapes) -> Iterator[int]:
        if shapes.rank("start.weight", 2) and shapes.settings.get("config.alpha", 0) >= 0:
            yield shapes["start.weight"][1]

    def network(self, numbers: int) -> Network:
        table = Folded({"rows": (4, 64)}, lambda held: {"weight": held["rows"].T.contiguous()})
        layers = [scaled("start", L.Linear(numbers, 4), 0.5, bias=2.0), (table, L.Linear(4, 64, bias=False))]
        refused = RefusedError("half of a network", hint="train it to the end") if numbers == 13 else None
        image = Interface(numbers, (1, 8, 8))
        return Network([*layers, ("", L.Reshape(image.image))], image, beside={"head.weight": (3,)}, refused=refused)

    def sample(self, random: Random) -> int:
        return random.randint(1, 12)


class OurDcgan(PytorchExamplesDcgan):
    """Somebody's DCGAN, of the same keys and shapes as pytorch/examples', and another range."""

    name = "our-dcgan"
    source = "somebody/dcgan"
    before = ("pytorch-examples-dcgan",)


class EntryPoint:
    def __init__(self, loaded: Any) -> None:
        self.loaded, self.value = loaded, "my_package.families:Squares"

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What entry points of other packages load."""
    loaded: list[Any] = []
    real = importlib.metadata.entry_points

    def entry_points(**group: str) -> Any:
        return [EntryPoint(each) for each in loaded] if group == {"group": "ganport.families"} else real(**group)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    registry.families.cache_clear()
    yield loaded
    registry.families.cache_clear()


def examples_dcgan(seed: int = 0) -> dict[str, torch.Tensor]:
    network = PytorchExamplesDcgan().network(Stack(7, (16, 8, 4), 3))
    torch.manual_seed(seed)
    return {key: torch.rand(shape) for key, shape in network.shapes.items()}


@pytest.mark.slow
@pytest.mark.parametrize("family", registry.families(), ids=lambda family: family.name)
def test_random_networks_of_a_family_are_read_back(family: Family[Any]) -> None:
    check_family(family, times=8)


@pytest.mark.slow
@pytest.mark.parametrize("family", registry.families(), ids=lambda family: family.name)
def test_a_family_is_silent_on_shapes_that_are_not_its_own(family: Family[Any]) -> None:
    """Keys of its own with any number of dimensions: no error, and no draft."""
    random = Random(1)
    for _ in range(40):
        shapes = family.network(family.sample(random)).shapes
        broken = {key: tuple(random.choices((1, 2, 3, 4), k=random.randrange(5))) for key in shapes}
        kept = random.sample(sorted(broken), random.randint(0, len(broken)))
        assert registry.family_drafts({key: torch.zeros(broken[key]) for key in kept}) == [] or kept == sorted(shapes)


def test_a_family_of_another_package(plugged: list[Any]) -> None:
    plugged.append(Squares)
    check_family(Squares())
    network = Squares().network((5, 4))
    (draft,) = draft_candidates({key: torch.rand(shape) for key, shape in network.shapes.items()})
    assert (draft.family, draft.spec.interface.image) == ("squares", (3, 8, 8))
    assert [choice.field for choice in draft.open_choices] == ["latent"]
    assert all("somebody/squares" in choice.reason for choice in draft.choices)


def test_a_family_makes_the_tensors_of_its_layers(plugged: list[Any]) -> None:
    plugged.append(Scaled)
    check_family(Scaled())
    tensors = {key: torch.rand(shape) for key, shape in Scaled().network(5).shapes.items()}
    assert sorted(tensors) == ["head.weight", "rows", "start.bias", "start.weight"]
    (draft,) = draft_candidates(tensors)
    start, table, _ = draft.weights
    torch.testing.assert_close(start, {"weight": tensors["start.weight"] / 2, "bias": tensors["start.bias"] * 2})
    torch.testing.assert_close(table["weight"], tensors["rows"].T)
    assert registry.family_drafts(tensors, {"config.alpha": -1.0}) == []
    del tensors["head.weight"]
    assert registry.near_miss(Shapes.of(tensors)) is None
    assert registry.family_drafts(tensors) == []


def test_a_family_refuses_a_network_that_it_knows(plugged: list[Any]) -> None:
    plugged.append(Scaled)
    tensors = {key: torch.rand(shape) for key, shape in Scaled().network(13).shapes.items()}
    with pytest.raises(RefusedError, match="half of a network"):
        draft_candidates(tensors)


def test_without_the_package_the_family_is_not_known() -> None:
    assert "squares" not in [family.name for family in registry.families()]
    with pytest.raises(AssertionError, match="no family makes a draft of it"):
        check_family(Squares())


def test_a_family_goes_before_those_it_names(plugged: list[Any]) -> None:
    plugged.append(OurDcgan)
    names = [family.name for family in registry.families()]
    assert names.index("our-dcgan") < names.index("pytorch-examples-dcgan")
    drafts = registry.family_drafts(examples_dcgan())
    assert [draft.family for draft in drafts] == ["our-dcgan", "pytorch-examples-dcgan"]


def test_families_that_go_before_each_other(plugged: list[Any]) -> None:
    class Other(OurDcgan):
        name = "other"
        before = ("our-dcgan",)

    class First(OurDcgan):
        before = ("other",)

    plugged += [First, Other]
    with pytest.raises(
        GanportError, match=r"the families (our-dcgan, other|other, our-dcgan).* each go before the other"
    ):
        registry.families()


def test_two_families_of_one_name(plugged: list[Any]) -> None:
    plugged += [Squares, Squares]
    with pytest.raises(GanportError, match="two families are named squares"):
        registry.families()


def test_a_family_that_cannot_be_loaded_is_left_out(plugged: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    plugged += [ImportError("no module named x"), Squares]
    with caplog.at_level(logging.WARNING, "gan_export"):
        names = [family.name for family in registry.families()]
    assert "squares" in names
    assert "my_package.families:Squares cannot be loaded: ImportError: no module named x" in caplog.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", "15 of 16 tensors as in pytorch/examples dcgan; main.4.running_mean is missing"),
        ("added", "16 of 17 tensors as in pytorch/examples dcgan; main.0.bias is unexpected"),
        (
            "kernel",
            "15 of 16 tensors as in pytorch/examples dcgan; main.3.weight is [16, 8, 6, 6], expected [16, 8, 4, 4]",
        ),
    ],
)
def test_a_near_miss_says_what_differs(change: str, words: str) -> None:
    tensors = examples_dcgan()
    if change == "missing":
        del tensors["main.4.running_mean"]
    elif change == "added":
        tensors["main.0.bias"] = torch.rand(16)
    else:
        tensors["main.3.weight"] = torch.rand(16, 8, 6, 6)
    assert str(registry.near_miss(Shapes.of(tensors))) == words
    if change == "missing":
        with pytest.raises(GanportError) as error:
            draft_candidates(tensors)
        assert words in str(error.value.hint)
    else:
        notes = [note for draft in draft_candidates(tensors) for note in draft.notes]
        assert f"nearly a known generator: {words}" in notes


def test_what_is_a_family_and_what_is_far_from_all_is_no_near_miss() -> None:
    assert registry.near_miss(Shapes.of(examples_dcgan())) is None
    assert registry.near_miss(Shapes({f"main.{n}.weight": (4, 4, 4, 4) for n in range(30)})) is None
