"""Generators that take images: their interface, the sizes that a spec makes of them, how far its layers look."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from gan_core.contract import Contract
from gan_core.errors import ContractError, GanportError
from gan_core.golden import example_images
from gan_core.image_input import ImageInput
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec, SpecError
from gan_trainer.networks.generator import build

TAKEN = ImageInput(scale=2, multiple_of=2, minimum=4)
FACE = Interface(0, (3, 32, 48), value_range=(0.0, 1.0), input=TAKEN)
LAYERS: tuple[L.Layer, ...] = (
    L.PixelUnshuffle(2),
    L.Conv(12, 8, 3, padding=1, as_="first"),
    L.Pad((1, 1, 1, 1), mode="reflect"),
    L.Conv(8, 8, 3),
    L.Add("first", scale=0.2),
    L.Upsample(2),
    L.Conv(8, 12, 3, padding=1),
    L.PixelShuffle(2),
)
SPEC = GeneratorSpec(FACE, LAYERS)


def test_shapes_begin_with_an_example_image_and_the_spec_is_read_back() -> None:
    assert SPEC.shapes[0] == FACE.input_shape == (3, 16, 24)
    assert SPEC.shapes[-1] == (3, 32, 48)
    assert GeneratorSpec.loads(SPEC.dumps()) == SPEC
    assert "z_dim" not in SPEC.to_json()
    assert FACE.made_of((5, 20, 30, 3)) == (3, 40, 60)
    assert [FACE.input_name, Interface(4, (1, 8, 8)).input_name] == ["input", "z"]


def test_a_spec_of_latents_says_nothing_of_an_input() -> None:
    assert "input" not in Interface(4, (1, 8, 8)).to_json()
    assert "input" not in Contract(Interface(4, (1, 8, 8))).to_metadata()["gan.interface"]


def test_the_contract_is_read_back_and_takes_one_of_latent_and_image() -> None:
    contract = Contract(replace(FACE, input=replace(TAKEN, halo=9), noise=True))
    metadata = contract.to_metadata()
    assert Contract.from_metadata(metadata) == contract
    both = metadata["gan.interface"].replace('"z": null', '"z": {"dim": 4, "law": "normal"}')
    with pytest.raises(ContractError, match="a latent and an image"):
        Contract.from_metadata(metadata | {"gan.interface": both})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_dim": 8}, "takes a latent or an image"),
        ({"input": None}, "z_dim must be a whole number from 1"),
        ({"n_classes": 3}, "no classes"),
        ({"image": (3, 33, 48)}, "does not make"),
        ({"image": (3, 34, 48)}, "does not make"),
        ({"image": (3, 4, 48)}, "does not make"),
    ],
)
def test_an_interface_that_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(FACE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        ({"channels": 2}, "1, 3 or 4"),
        ({"value_range": (1.0, 0.0)}, "black < white"),
        ({"scale": 0}, "scale must be"),
        ({"minimum": -1}, "minimum must be"),
        ({"halo": -1}, "halo must be"),
        ({"halo": 1.5}, "halo must be"),
    ],
)
def test_an_input_that_makes_no_sense_is_refused(taken: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(TAKEN, **taken)  # type: ignore[arg-type]


def test_sizes_that_the_layers_do_not_take_are_found() -> None:
    with pytest.raises(SpecError, match="of an input of 1x1 layer 0"):
        GeneratorSpec(replace(FACE, input=replace(TAKEN, multiple_of=1, minimum=1)), LAYERS)
    with pytest.raises(SpecError, match="of an input of 2x2 layer 2"):  # reflection needs two pixels
        GeneratorSpec(replace(FACE, input=replace(TAKEN, minimum=1)), LAYERS)
    fixed = replace(FACE, input=replace(TAKEN, fixed=True, minimum=1))
    assert GeneratorSpec(fixed, LAYERS).shapes[-1] == (3, 32, 48)
    resized = (*LAYERS, L.Upsample(size=(32, 48)))
    with pytest.raises(SpecError, match=r"of an input of 4x4, expected \(3, 8, 8\)"):
        GeneratorSpec(FACE, resized)


def test_a_halo_below_what_the_layers_reach_is_refused() -> None:
    needed = SPEC.halo
    assert needed is not None
    assert GeneratorSpec(replace(FACE, input=replace(TAKEN, halo=needed)), LAYERS).halo == needed
    with pytest.raises(SpecError, match=f"the layers reach {needed} pixels"):
        GeneratorSpec(replace(FACE, input=replace(TAKEN, halo=needed - 1)), LAYERS)
    with pytest.raises(SpecError, match="the layers reach the whole image"):
        GeneratorSpec(replace(FACE, input=replace(TAKEN, halo=99)), (*LAYERS, L.InstanceNorm(3)))


WINDOWS: dict[str, tuple[L.Layer, ...]] = {
    "conv": (L.Conv(3, 3, 5, padding=4, dilation=2),),
    "down and up": (L.Conv(3, 4, 3, stride=2, padding=1), L.ConvTranspose(4, 3, 4, stride=2, padding=1)),
    "output padding": (
        L.Conv(3, 4, 3, stride=2, padding=1),
        L.ConvTranspose(4, 3, 3, stride=2, padding=1, output_padding=1),
    ),
    "one-sided": (L.ConvTranspose(3, 3, 3, padding=2), L.Pad((0, 2, 0, 2))),
    "far beside near": (L.Conv(3, 3, 9, padding=4, as_="far"), L.Load("input"), L.Add("far")),
    "reflected": (L.Pad((3, 3, 3, 3), mode="reflect"), L.Conv(3, 3, 7)),
    "pooled": (L.Pool("avg", (2, 2), (2, 2)), L.Upsample(2, "nearest")),
    "bilinear": (L.Pool("max", (2, 2), (2, 2)), L.Upsample(2, "bilinear")),
    "bicubic": (L.Pool("max", (2, 2), (2, 2)), L.Upsample(2, "bicubic")),
    "shuffled": (L.PixelUnshuffle(2), L.Conv(12, 12, 3, padding=1), L.PixelShuffle(2)),
    "skip": (
        L.Conv(3, 3, 3, stride=2, padding=1, as_="half"),
        L.Upsample(2),
        L.Conv(3, 3, 7, padding=3, as_="far"),
        L.Load("half"),
        L.Conv(3, 3, 3, padding=1),
        L.Upsample(2),
        L.Concat(("x", "far")),
        L.Conv(6, 3, 1),
    ),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_no_pixel_beyond_the_halo_changes_an_output_pixel(name: str) -> None:
    """The gradient of single output pixels is 0 beyond the halo, and, but for roundings up, not far within it."""
    layers = WINDOWS[name]
    spec = GeneratorSpec(Interface(0, (3, 48, 48), input=ImageInput(fixed=True)), layers)
    halo = spec.halo
    assert halo is not None
    torch.manual_seed(0)
    network = build(spec).double().eval()
    farthest = 0
    random = Random(name)
    for _ in range(8):
        row, column = random.randrange(48), random.randrange(48)
        image = torch.randn(1, 3, 48, 48, dtype=torch.float64, requires_grad=True)
        network(image)[0, :, row, column].sum().backward()
        assert image.grad is not None
        rows, columns = np.nonzero(image.grad.abs().sum(dim=(0, 1)).numpy())
        farthest = max([farthest, *np.abs(rows - row).tolist(), *np.abs(columns - column).tolist()])
    assert farthest <= halo <= farthest + 8


def test_what_depends_on_the_whole_image_has_no_halo() -> None:
    for layer in (L.InstanceNorm(3), L.AdaptivePool("avg", (1, 1)), L.Upsample(2, "bilinear", align_corners=True)):
        made = layer.out_shape((3, 8, 8))
        scale = max(made[1] // 8, 1)
        taken = ImageInput(fixed=True, scale=scale)
        spec_layers: tuple[L.Layer, ...] = (layer,)
        if made[1] == 1:
            spec_layers = (L.Conv(3, 3, 1, as_="all"), layer, L.Multiply("all"))
            made = (3, 8, 8)
        assert GeneratorSpec(Interface(0, (3, made[1], made[2]), input=taken), spec_layers).halo is None


def test_example_images_are_of_their_seed_alone_and_the_same_everywhere() -> None:
    images = example_images([0, 1, 2**53 - 1], 19, 30, 3)
    assert images.shape == (3, 19, 30, 3)
    np.testing.assert_array_equal(images[1:], example_images([1, 2**53 - 1], 19, 30, 3))
    np.testing.assert_array_equal(images[:, :11, :9], example_images([0, 1, 2**53 - 1], 11, 9, 3))
    assert images[0, 0, :6, 0].tolist() == KNOWN
    assert len({image.tobytes() for image in images}) == 3


KNOWN = [50, 71, 92, 108, 133, 156]
"""The first pixels of seed 0, red: what any implementation has to give."""


def test_seeds_mean_nothing_to_it() -> None:
    with pytest.raises(GanportError, match="takes RGB images of multiples of 2 pixels from 4"):
        FACE.latents([0])
