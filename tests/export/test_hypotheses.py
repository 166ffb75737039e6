"""Whole generators, weighed: what is usual, what the images look like, what the discriminator says."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_export.answers import Answers
from gan_export.draft import Draft, Evidence
from gan_export.hypotheses import naturalness, odds
from gan_export.hypotheses.discriminator import read_discriminators
from gan_export.hypotheses.listing import aspects_of
from gan_export.hypotheses.odds import drawer, likeliest, weigh, weights
from gan_export.identify import identify, module_of
from gan_export.understanding.understand import draft_candidates

pytestmark = pytest.mark.slow

SIDE = 28


def blobs(z: Tensor) -> Tensor:
    """White discs on black, (N, 1, 28, 28) in [-1, 1]; z says where they are and how large."""
    place = torch.tanh(z[:, :2]) * 0.5
    size = 0.2 + 0.1 * torch.sigmoid(z[:, 2])
    grid = torch.linspace(-1.0, 1.0, SIDE)
    far = ((grid[None, :, None] - place[:, :1, None]) ** 2 + (grid[None, None, :] - place[:, 1:, None]) ** 2).sqrt()
    return torch.tanh((size[:, None, None] - far) * 20.0)[:, None]


@functools.cache
def trained(slope: float) -> tuple[nn.Sequential, nn.Sequential]:
    """An MLP taught to draw `blobs` with that slope, and a discriminator taught to tell its images from noisy ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        act = nn.LeakyReLU(slope) if slope else nn.ReLU()
        net = nn.Sequential(nn.Linear(16, 64), act, nn.Linear(64, 128), act, nn.Linear(128, SIDE**2), nn.Tanh())
        optimiser = torch.optim.Adam(net.parameters(), 2e-3)
        for _ in range(500):
            z = torch.randn(64, 16)
            loss = F.mse_loss(net(z), blobs(z).flatten(1))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        judge = nn.Sequential(nn.Linear(SIDE**2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
        optimiser = torch.optim.Adam(judge.parameters(), 1e-3)
        for _ in range(300):
            drawn = net(torch.randn(64, 16)).detach()
            real = blobs(torch.randn(64, 16)).flatten(1)
            said = torch.cat((judge(real), judge(drawn)))
            loss = F.binary_cross_entropy_with_logits(said, torch.cat((torch.ones(64, 1), torch.zeros(64, 1))))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval(), judge.eval()


def names(module: nn.Sequential) -> dict[str, Tensor]:
    """Its state_dict under names that tell nothing of the layers without weights."""
    return {f"layer{int(key.partition('.')[0]) // 2}{key[1:]}": tensor for key, tensor in module.state_dict().items()}


Identified = Callable[[float, bool], Draft]


@pytest.fixture(scope="module")
def identified(tmp_path_factory: pytest.TempPathFactory) -> Identified:
    """(the slope, whether the discriminator lies beside the file) → the draft."""

    @functools.cache
    def found(slope: float, beside: bool) -> Draft:
        folder, (net, judge) = tmp_path_factory.mktemp("trained"), trained(slope)
        torch.save(names(net), folder / "netG.pth")
        if beside:
            torch.save(judge.state_dict(), folder / "netD.pth")
        draft = identify(folder / "netG.pth", Answers(), lambda _: None).draft
        assert draft is not None
        return draft

    return found


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_the_likeliest_draw_what_the_trained_one_draws(identified: Identified, slope: float, *, beside: bool) -> None:
    draft = identified(slope, beside)
    net, _ = trained(slope)
    z = torch.randn(8, 16)
    with torch.inference_mode():
        right = [torch.allclose(module_of(one.draft)(z).flatten(1), net(z), atol=1e-5) for one in draft.ranked]
    assert right.index(True) <= (2 if slope else 0)  # LeakyReLU is three times as rare as ReLU
    assert draft.ranked[0].draft.spec == draft.spec
    assert len(draft.ranked) > 20


def test_the_discriminator_is_named_where_it_tells(identified: Identified) -> None:
    alone, told = identified(0.0, False), identified(0.0, True)
    assert alone.odds is not None
    assert told.odds is not None
    assert told.odds > alone.odds
    assert not any("discriminator" in choice.reason for choice in alone.choices)
    assert any("discriminator" in choice.reason for choice in told.choices)


def test_nothing_is_called_strong_below_a_hundred_to_one(identified: Identified) -> None:
    draft = identified(0.0, False)
    for choice in draft.choices:
        if choice.odds is not None:
            assert (choice.evidence is Evidence.STRONG) == (choice.odds >= 100.0)
    best = draft.ranked[0].likelihood
    assert draft.odds == pytest.approx(best / (1.0 - best))


def test_one_activation_throughout_comes_before_another_in_one_place() -> None:
    draft = draft_candidates(names(trained(0.0)[0]))[0]
    hidden = next(aspect for aspect in aspects_of(draft) if aspect.name == "activation")
    tied = [option for option in hidden.options if "but" not in option.words]
    alone = [option for option in hidden.options if "but" in option.words]
    assert all(len({str(value) for value in option.values}) == 1 for option in tied)
    assert all(len({str(value) for value in option.values}) == 2 for option in alone)
    assert min(option.cost for option in alone) > 4.6


def test_what_is_listed_is_what_is_drawn_once_each() -> None:
    draft = draft_candidates(names(trained(0.0)[0]))[0]
    listed = likeliest([draft], 40)
    assert len({one.draft.spec for one in listed}) == len(listed) == 40
    weighed = weigh(listed, [])
    assert sum(one.likelihood for one in weighed) == pytest.approx(1.0)
    assert {id(one.hypothesis) for one in weighed} == {id(one) for one in listed}
    image, labels = drawer(listed)(weighed[0].hypothesis.draft)
    assert (image.shape[1:], labels) == ((1, SIDE, SIDE), None)


def test_what_few_images_rule_out_is_no_likelier_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    net, judge = trained(0.0)
    listed = likeliest([draft_candidates(names(net))[0]])
    for ways in ([], read_discriminators(judge.state_dict(), (1, SIDE, SIDE), 0)):
        found = weigh(listed, ways)
        with monkeypatch.context() as patch:
            patch.setattr(odds, "BEHIND", math.inf)
            full = {id(one.hypothesis): one.likelihood for one in weigh(listed, ways)}
        assert [full[id(one.hypothesis)] for one in found] == pytest.approx([one.likelihood for one in found], abs=5e-3)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (8, 3, 32, 32), (4, 4, 16, 24), (3, 1, 5, 5)])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.5, math.nan, 3.0])
def test_the_looks_of_any_images_are_numbers(shape: tuple[int, ...], value: float) -> None:
    seen = naturalness.statistics(torch.full(shape, value))
    assert seen.shape == (len(naturalness.NAMES),)
    assert bool(torch.isfinite(seen).all())


def test_noise_looks_less_natural_than_discs() -> None:
    discs = naturalness.statistics(blobs(torch.randn(32, 3)) * 0.5 + 0.5)
    noise = naturalness.statistics(torch.rand(32, 1, SIDE, SIDE))
    held = weights()
    scores = []
    for looks in (discs, noise):
        seen = ((looks - held.centre) / held.scale).clamp(-4.0, 4.0)
        scores.append(float(torch.cat((seen, seen.square())) @ held.looks))
    assert scores[0] > scores[1] + 1.0
