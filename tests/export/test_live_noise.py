"""Numbers drawn inside a forward, held still."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from export import live_networks as networks
from gan_export.answers import Answers, LiveAnswers
from gan_export.live.source import live_source
from gan_export.live.tracing import Cleared, Listener, Still, draw_once
from gan_export.source import Source


def everything(n: int) -> list[Tensor]:
    """One draw in every way that is known."""
    like = torch.empty(n, 2)
    return [
        torch.randn(n, 2),
        torch.randn((n, 2)),
        torch.randn(size=(n, 2)),
        torch.randn_like(like),
        torch.normal(2.0, 0.0, size=(n, 2)),
        torch.normal(torch.full((n, 2), 2.0), 1.0),
        torch.empty(n, 2).normal_(),
        torch.empty(n, 2).normal_(mean=3.0, std=2.0),
        torch.rand(n, 2),
        torch.rand_like(like),
        torch.empty(n, 2).uniform_(-1, 3),
        torch.empty(n, 2).uniform_(),
        torch.randn(n, 2, dtype=torch.float64),
    ]


MEANS = [0, 0, 0, 0, 2, 2, 0, 3, 0.5, 0.5, 1, 0.5, 0]


def test_zero_puts_the_mean() -> None:
    with Still(None):
        drawn = everything(3)
    for tensor, mean in zip(drawn, MEANS, strict=True):
        assert tensor.shape == (3, 2)
        assert bool((tensor == mean).all())
    assert drawn[-1].dtype == torch.float64


def test_fixed_is_one_draw_for_every_row_and_batch() -> None:
    draws = []
    for batch in (3, 5):
        with Listener() as listener:
            everything(batch)
        draws.append(listener.draws)
    assert len(draws[0]) == len(MEANS)
    assert {law for law, _ in draws[0]} == {"normal", "uniform"}
    fixed = draw_once(draws, [3, 5])
    assert all(tensor.shape == (1, 2) for tensor in fixed)
    with Still(fixed):
        three = everything(3)
    with Still(fixed):
        seven = everything(7)
    for index, (a, b) in enumerate(zip(three, seven, strict=True)):
        assert bool((a == a[0]).all())
        assert torch.equal(a[0], b[0])
        assert index == 4 or a.unique().numel() > 1  # the fifth has no spread
    assert torch.equal(three[7][0], fixed[7][0] * 2 + 3)
    assert not torch.equal(three[0], three[1])


def test_a_listener_changes_nothing() -> None:
    torch.manual_seed(3)
    expected = everything(2)
    torch.manual_seed(3)
    with Listener():
        heard = everything(2)
    assert all(torch.equal(a, b) for a, b in zip(expected, heard, strict=True))


def source(noise: str, folder: Path) -> Source:
    path = folder / "g.pth"
    torch.manual_seed(0)
    torch.save(networks.lively(networks.Noisy()).state_dict(), path)
    return live_source(path, Answers(live=LiveAnswers(f"{networks.__file__}:Noisy", noise=noise)))


@pytest.mark.parametrize("noise", ["zero", "fixed"])
def test_a_noisy_module_repeats_itself(noise: str, tmp_path: Path) -> None:
    found = source(noise, tmp_path)
    z = torch.randn(4, 6)
    with torch.no_grad():
        first, again, alone = found.module(z), found.module(z), found.module(z[2:3])
    assert torch.equal(first, again)
    assert torch.allclose(first[2:3], alone, atol=1e-6)
    assert any(f"noise {noise}" in assumption for assumption in found.assumptions)


def test_zero_and_fixed_differ_and_runs_agree(tmp_path: Path) -> None:
    z = torch.randn(2, 6)
    with torch.no_grad():
        zero, fixed, again = (source(n, tmp_path).module(z) for n in ("zero", "fixed", "fixed"))
    assert not torch.allclose(zero, fixed, atol=1e-3)
    assert torch.equal(fixed, again)


def test_memory_that_was_never_written_is_cleared() -> None:
    like = torch.full((3, 2), torch.nan)
    with Cleared():
        made = [torch.empty(3, 2), torch.empty_like(like), like.new_empty(3, 2), like.new_empty(3, 2).fill_(0.0)]
    for tensor in made:
        torch.testing.assert_close(tensor, torch.zeros(3, 2), rtol=0, atol=0)
