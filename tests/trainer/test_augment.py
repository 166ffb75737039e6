"""Augmentations: what each does to an image, that gradients flow through, and that D alone sees them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from gan_core.errors import GanportError
from gan_trainer.config import Limit
from gan_trainer.discriminators import Discriminator
from gan_trainer.presets import preset
from gan_trainer.recipes import AUGMENTATIONS, columns, parse_augment
from gan_trainer.steps import augment, d_step, draw_noise, g_step, n_uniforms
from trainer.conftest import TINY, StartRun

ALL = tuple(AUGMENTATIONS)


def images(n: int = 6, channels: int = 3, side: int = 16) -> Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9


def test_flip() -> None:
    x = images(2)
    flipped = augment(x, torch.tensor([[0.1], [0.9]]), ("flip",))
    assert torch.equal(flipped[0], x[0].flip(2))
    assert torch.equal(flipped[1], x[1])


@pytest.mark.parametrize("side", [16, 28])
@pytest.mark.parametrize(("u", "down", "right"), [((0.0, 0.5), 1, 0), ((0.5, 0.999), 0, -1), ((0.999, 0.0), -1, 1)])
def test_translation(u: tuple[float, float], down: int, right: int, side: int) -> None:
    """At most an eighth of the side, zeros coming in."""
    x = images(1, side=side)
    reach = int(side / 8 + 0.5)
    moved = augment(x, torch.tensor([u]), ("translation",))
    expected = torch.zeros_like(x)
    dy, dx = down * reach, right * reach
    expected[..., max(dy, 0) : side + min(dy, 0), max(dx, 0) : side + min(dx, 0)] = x[
        ..., max(-dy, 0) : side + min(-dy, 0), max(-dx, 0) : side + min(-dx, 0)
    ]
    assert torch.equal(moved, expected)


def test_every_shift_is_as_frequent() -> None:
    x = torch.zeros(4000, 1, 16, 16)
    x[:, :, 8, 8] = 1
    u = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0))
    rows = augment(x, u, ("translation",)).sum((1, 3)).argmax(1)
    counts = rows.bincount()[6:11]
    assert counts.sum() == 4000
    assert counts.min() > 700


@pytest.mark.parametrize("side", [15, 16, 28])
def test_cutout(side: int) -> None:
    """A square of half the side around a centre anywhere, so a quarter of its side at least is seen."""
    x = torch.ones(500, 2, side, side)
    u = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    cut = augment(x, u, ("cutout",)) == 0
    assert torch.equal(cut[:, 0], cut[:, 1])
    length = int(side / 2 + 0.5)
    rows, cols = cut[:, 0].any(2).sum(1), cut[:, 0].any(1).sum(1)
    assert torch.equal(cut[:, 0].sum((1, 2)), rows * cols)
    assert rows.max() == cols.max() == length
    assert rows.min() >= length // 2
    middle = augment(x[:1], torch.tensor([[0.5, 0.5]]), ("cutout",))[0, 0]
    assert (middle == 0).sum() == length**2


def test_colour_is_the_papers() -> None:
    x, u = images(3), torch.rand(3, 3, generator=torch.Generator().manual_seed(1))
    expected = []
    for image, (brightness, saturation, contrast) in zip(x, u, strict=True):
        y = image + brightness - 0.5
        y = (y - y.mean(0)) * saturation * 2 + y.mean(0)
        expected.append((y - y.mean()) * (contrast + 0.5) + y.mean())
    torch.testing.assert_close(augment(x, u, ("colour",)), torch.stack(expected))


def test_gradients_flow_through_everything() -> None:
    x = images().requires_grad_()
    u = torch.rand(6, columns(ALL), generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad(augment(x, u, ALL).square().sum(), x)
    assert (gradient != 0).all(), "contrast depends on every pixel"
    (gradient,) = torch.autograd.grad(augment(x, u[:, :5], ("flip", "translation", "cutout")).square().sum(), x)
    seen = (gradient != 0).float().mean((1, 2, 3))
    assert ((seen > 0.3) & (seen < 1)).all()
    half, double = (
        augment(x.detach() / 2, u, ("translation", "cutout")),
        augment(x.detach(), u, ("translation", "cutout")),
    )
    torch.testing.assert_close(2 * half, double)


@pytest.mark.parametrize(
    ("text", "channels", "names"),
    [
        ("none", 1, ()),
        ("auto", 1, ("translation", "cutout")),
        ("auto", 3, ("colour", "translation", "cutout")),
        ("auto,flip", 3, ("flip", "colour", "translation", "cutout")),
        ("flip,auto", 1, ("flip", "translation", "cutout")),
        ("cutout, flip", 1, ("flip", "cutout")),
        ("colour", 3, ("colour",)),
        ("colour", None, ("colour",)),
    ],
)
def test_names(text: str, channels: int | None, names: tuple[str, ...]) -> None:
    assert parse_augment(text, channels) == names


@pytest.mark.parametrize(
    ("text", "channels", "message"),
    [
        ("rotate", 3, "no augmentation is called 'rotate'"),
        ("", 3, "no augmentation is called ''"),
        ("cutout,,flip", 3, "no augmentation is called ''"),
        ("none,cutout", 3, "stands alone, got none,cutout"),
        ("auto,none", 3, "stands alone"),
        ("auto,auto", 3, "no augmentation is called 'auto'"),
        ("auto,cutout", 3, "names one twice"),
        ("auto,colour", 1, "colour is for RGB, the images are grey"),
        ("Cutout", 3, "no augmentation is called 'Cutout'"),
        ("cutout,cutout", 3, "names one twice"),
        ("colour", 1, "colour is for RGB, the images are grey"),
    ],
)
def test_wrong_names(text: str, channels: int, message: str) -> None:
    with pytest.raises(GanportError, match=message) as caught:
        parse_augment(text, channels)
    assert caught.value.hint


def test_a_recipe_checks_its_augmentations() -> None:
    with pytest.raises(GanportError, match="no augmentation"):
        dataclasses.replace(TINY, augment="rotate")
    recipe = dataclasses.replace(TINY, channels=None, augment="colour")
    with pytest.raises(GanportError, match="the images are grey"):
        recipe.override(channels=1)


def test_latents_are_the_same_with_and_without() -> None:
    """Unaugmented trainings draw what they always drew; the first latents are shared."""
    plain, augmented = preset("default"), dataclasses.replace(preset("default"), channels=3, augment="auto")
    z, noise = (draw_noise(recipe, 4, torch.Generator().manual_seed(0)) for recipe in (plain, augmented))
    assert (n_uniforms(plain), n_uniforms(augmented)) == (0, 4 * 7)
    assert torch.equal(z, torch.randn(4, 100, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(noise[:, :100], z)
    assert noise.shape == (4, 128)
    assert noise[:, 100:].min() >= 0
    assert noise[:, 100:].max() < 1


@pytest.mark.parametrize("d_loss", ["sum", "mean", "joined"])
def test_d_sees_reals_and_fakes_augmented_each_its_own_way(d_loss: str) -> None:
    loss = "relativistic" if d_loss == "joined" else "bce"
    recipe = dataclasses.replace(TINY, d_norm="none", d_loss=d_loss, augment="translation", loss=loss)  # type: ignore[arg-type]
    seen: list[Tensor] = []

    class Spy(Discriminator):
        def forward(self, image_NCHW: Tensor, label: Tensor | None = None) -> Tensor:
            seen.extend(image_NCHW.detach().split(3))
            return super().forward(image_NCHW, label)

    D = Spy("mlp", (1, 16, 16), 4, "none")
    real, fake = images(3, 1), (-images(3, 1)).requires_grad_()
    u = torch.rand(3, n_uniforms(recipe))
    parts = u.chunk(4, 1)
    expected = [
        augment(x.detach(), part, ("translation",)) for x, part in zip((real, fake, fake, real), parts, strict=True)
    ]
    d_step(D, torch.optim.SGD(D.parameters(), 0.1), real, fake.detach(), recipe, u=u)
    g_step(D, torch.optim.SGD([fake], 0.1), fake, real, recipe, u=u)
    for got, wanted in zip(seen, expected, strict=False):
        torch.testing.assert_close(got, wanted)
    assert len(seen) == (4 if d_loss == "joined" else 3)
    assert fake.grad is not None


def test_training_with_augmentation(start_run: StartRun) -> None:
    plain = start_run(limit=Limit("steps", 3), name="plain")
    plain.run()
    augmented = start_run(limit=Limit("steps", 3), name="augmented", augment="auto")
    augmented.run()
    assert plain.reporter.numbers != augmented.reporter.numbers
