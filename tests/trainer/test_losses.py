"""Losses, penalties and steps: each beside its equation written out plainly."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from gan_trainer.config import Limit
from gan_trainer.discriminators import Discriminator, initialise
from gan_trainer.losses import CHANCE, LOSSES, gradient_penalty, squared_norms
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import build
from gan_trainer.presets import preset
from gan_trainer.recipes import Recipe
from gan_trainer.steps import d_step, draw_noise, g_step, n_uniforms, train_step
from trainer.conftest import TINY, StartRun
from trainer.same_runs import whole_and_parts

REAL, FAKE = torch.tensor([-2.0, 0.5, 3.0]), torch.tensor([1.0, -0.5, 2.0])


def of(name: str, **changes: Any) -> Recipe:
    return dataclasses.replace(preset(name), size=28, channels=1, width=2, z_dim=4, **changes)


def networks(recipe: Recipe, n_classes: int = 0) -> tuple[nn.Module, Discriminator]:
    torch.manual_seed(0)
    spec = network_spec("dcgan", 28, 1, width=2, z_dim=recipe.z_dim, n_classes=n_classes)
    D = Discriminator("dcgan", (1, 28, 28), 2, recipe.d_norm, n_classes)
    initialise(D, recipe.init)
    return build(spec), D


def test_wasserstein_is_its_equation() -> None:
    loss = LOSSES["wasserstein"]
    assert loss.d_of(REAL, FAKE).item() == pytest.approx((FAKE.mean() - REAL.mean()).item())
    assert loss.g_of(FAKE).item() == pytest.approx(-FAKE.mean().item())


def test_relativistic_is_its_equation() -> None:
    loss = LOSSES["relativistic"]
    assert loss.d_of(REAL, FAKE).item() == pytest.approx(F.softplus(-(REAL - FAKE)).mean().item())
    assert loss.g_of(FAKE, REAL).item() == pytest.approx(F.softplus(-(FAKE - REAL)).mean().item())


@pytest.mark.parametrize("name", CHANCE)
def test_chance_is_the_loss_of_a_discriminator_that_knows_nothing(name: Any) -> None:
    assert LOSSES[name].d_of(torch.zeros(4), torch.zeros(4)).item() == pytest.approx(CHANCE[name])


def test_squared_norms_of_a_linear_discriminator() -> None:
    """D(x) = w · x has the gradient w everywhere."""
    w = torch.randn(1, 1, 5, 5, requires_grad=True)
    x = torch.randn(3, 1, 5, 5, requires_grad=True)
    norms = squared_norms((w * x).sum((1, 2, 3)), x)
    torch.testing.assert_close(norms, w.square().sum().expand(3))
    norms.mean().backward()
    torch.testing.assert_close(w.grad, 2 * w.detach())


def test_gradient_penalty_of_a_linear_discriminator() -> None:
    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.full((1, 1, 2, 2), 1.5))

        def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
            assert label is None
            return (self.w * x).sum((1, 2, 3))

    D = Linear()
    penalty = gradient_penalty(D, torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2), torch.rand(3), None)
    assert penalty.item() == pytest.approx((3.0 - 1) ** 2)  # ‖w‖ = √(4 · 1.5²) = 3
    penalty.backward()
    torch.testing.assert_close(D.w.grad, 2 * (3 - 1) * D.w.detach() / 3)


def test_gradient_penalty_is_finite_where_the_gradient_is_zero() -> None:
    D = Discriminator("mlp", (1, 4, 4), 8, "none")
    for weight in D.parameters():
        nn.init.zeros_(weight)
    x = torch.randn(2, 1, 4, 4)
    gradient_penalty(D, x, x + 1, torch.rand(2), None).backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in D.parameters())


def plain_d_loss(D: nn.Module, real: Tensor, fake: Tensor, recipe: Recipe, a: Tensor | None) -> Tensor:
    """As the papers write it, a pass for everything."""
    real, fake = real.clone().requires_grad_(), fake.clone().requires_grad_()
    loss = LOSSES[recipe.loss].d_of(D(real), D(fake))
    if recipe.penalty == "gp":
        assert a is not None
        between = (a[:, None, None, None] * real + (1 - a[:, None, None, None]) * fake).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(D(between).sum(), between, create_graph=True)
        penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        return loss + recipe.penalty_weight * penalty
    for x in (real, fake) if recipe.penalty == "r1r2" else (real,):
        (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
        loss = loss + recipe.penalty_weight / 2 * gradient.flatten(1).square().sum(1).mean()
    return loss


@pytest.mark.parametrize(
    "recipe", [of("wgan-gp"), of("r3gan"), of("r3gan", loss="bce", penalty="r1", penalty_weight=3.0)],
    ids=["wgan-gp", "r3gan", "bce r1"],
)  # fmt: skip
def test_d_step_is_the_papers(recipe: Recipe) -> None:
    G, D = networks(recipe)
    reference = copy.deepcopy(D)
    real, fake = torch.randn(5, 1, 28, 28), G(torch.randn(5, 4)).detach()
    u = torch.rand(5, n_uniforms(recipe))
    d_step(D, SGD(D.parameters(), 0.1), real, fake, recipe, u=u)
    optimizer = SGD(reference.parameters(), 0.1)
    plain_d_loss(reference, real, fake, recipe, u[:, -1] if recipe.penalty == "gp" else None).backward()
    optimizer.step()
    for ours, theirs in zip(D.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_g_step_of_the_relativistic_loss_is_the_papers() -> None:
    recipe = of("r3gan")
    G, D = networks(recipe)
    reference = copy.deepcopy(G)
    real, z = torch.randn(5, 1, 28, 28), torch.randn(5, 4)
    loss, _ = g_step(D, SGD(G.parameters(), 0.1), G(z), real, recipe)
    optimizer = SGD(reference.parameters(), 0.1)
    expected = F.softplus(-(D(reference(z)) - D(real))).mean()
    expected.backward()
    optimizer.step()
    torch.testing.assert_close(loss, expected.detach())
    for ours, theirs in zip(G.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert all(weight.requires_grad for weight in D.parameters())


def test_lazy_penalty_weighs_as_many_times_as_it_is_rare() -> None:
    def moved(penalise: bool, **changes: Any) -> Tensor:
        recipe = of("r3gan", **changes)
        _, D = networks(recipe)
        torch.manual_seed(1)
        before = torch.cat([weight.detach().flatten() for weight in D.parameters()])
        step = SGD(D.parameters(), 1.0)
        d_step(D, step, torch.randn(4, 1, 28, 28), torch.randn(4, 1, 28, 28), recipe, penalise=penalise)
        return torch.cat([weight.detach().flatten() for weight in D.parameters()]) - before

    without = moved(False)
    every, fourth = moved(True) - without, moved(True, penalty_every=4) - without
    assert every.norm() > 0
    torch.testing.assert_close(fourth, 4 * every, rtol=1e-3, atol=1e-6)
    recipe = of("r3gan", penalty_every=4)
    assert [recipe.penalises(step) for step in range(6)] == [True, False, False, False, True, False]
    assert not any(preset("default").penalises(step) for step in range(4))


def test_the_critic_takes_more_steps_than_g() -> None:
    recipe = of("wgan-gp", n_critic=3)
    assert [recipe.trains_g(step) for step in range(6)] == [False, False, True, False, False, True]
    G, D = networks(recipe)
    before = copy.deepcopy(G.state_dict()), copy.deepcopy(D.state_dict())
    rng = torch.Generator().manual_seed(0)
    stats = train_step(
        G, D, SGD(G.parameters(), 0.1), SGD(D.parameters(), 0.1), torch.randn(4, 1, 28, 28),
        draw_noise(recipe, 4, rng), recipe=recipe, train_g=False,
    )  # fmt: skip
    assert all(torch.equal(weight, before[0][name]) for name, weight in G.named_parameters())
    assert not all(torch.equal(weight, before[1][name]) for name, weight in D.named_parameters())
    assert stats.isfinite().all()
    assert stats[3] == stats[4]


def test_the_average_counts_only_steps_of_g(start_run: StartRun, monkeypatch: pytest.MonkeyPatch) -> None:
    training = start_run(of("wgan-gp", n_critic=3, batch_size=8), Limit("steps", 7))
    assert training.state.ema is not None
    seen: list[int] = []
    monkeypatch.setattr(training.state.ema, "update", lambda _, updates: seen.append(updates))
    training.run()
    assert seen == [0, 1]


PENALISED = {
    "wgan-gp": dataclasses.replace(
        TINY, loss="wasserstein", penalty="gp", penalty_weight=10.0, n_critic=3, d_norm="none", d_loss="joined",
        init="he", augment="translation,cutout",
    ),
    "r3gan": dataclasses.replace(
        TINY, loss="relativistic", penalty="r1r2", penalty_weight=1.0, penalty_every=3, d_norm="none",
        d_loss="joined", init="he", augment="auto",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("recipe", PENALISED.values(), ids=PENALISED)
def test_parts_equal_the_whole(recipe: Recipe, start_run: StartRun) -> None:
    whole_and_parts(functools.partial(start_run, recipe), 7, 20)


@pytest.mark.parametrize("arch", ["mlp", "dcgan"])
def test_he_initialisation_keeps_the_signal(arch: str) -> None:
    torch.manual_seed(0)
    D = Discriminator(arch, (1, 64, 64), 32, "none")
    initialise(D, "he")
    x = torch.randn(16, 1, 64, 64)
    for layer in D.layers:
        x = layer(x)
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert layer.bias is not None
            assert layer.bias.count_nonzero() == 0
            assert 0.4 < x.square().mean().sqrt() < 2.5
    G = build(network_spec("dcgan", 64, 1, width=32))
    initialise(G, "he")
    assert next(G.parameters()).std().item() == pytest.approx(0.02, rel=0.05)


def test_chance_of_bce() -> None:
    assert CHANCE["bce"] == pytest.approx(2 * math.log(2))
