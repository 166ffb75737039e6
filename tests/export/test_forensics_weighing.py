"""Odds with the noise of the evidence in them: what overrules a known family, what is strong, what nothing shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export import forensics_nets as nets
from export.foreign_networks import GanConv, fed
from gan_core.spec.layers import Activation
from gan_export.draft import Choice, Draft, Evidence
from gan_export.families.registry import family_drafts
from gan_export.forensics import investigate, runner
from gan_export.forensics.weighing import MOST, STRONG, Weigher, reweigh
from gan_export.understanding.edit import with_value

pytestmark = pytest.mark.slow

LEAKY = nets.leaky(0.2)
FRESH = 100_000
"""The first seed of latents that nothing else runs on."""


def remembering(module: nn.Module, z_dim: int, batches: int, seed: int, batch: int = 64) -> dict[str, Tensor]:
    """The state_dict of `module` after `batches` of N(0, 1) in train mode."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.weight, 1.0, 0.02)
            elif isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, 0.0, 0.02)
    fed(module, z_dim, batches=batches, batch=batch, seed=seed)
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def pytorch_gan(seed: int, batches: int = nets.ENOUGH, batch: int = 64, first_eps: float = 1e-5) -> Draft:
    """The draft of PyTorch-GAN's dcgan, whose file is of a network with `first_eps` in its first BatchNorm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = GanConv(z_dim=100, side=2)
    body: Any = net.conv_blocks
    body[0].eps = first_eps
    (draft,) = family_drafts(remembering(net, 100, batches, seed, batch))
    return draft


def first_eps(draft: Draft) -> Choice:
    return next(choice for choice in draft.choices if choice.field == "eps")


def overruled(draft: Draft, value: float) -> Draft:
    """`draft` as the search leaves it that found `value` to fit better than the family's eps."""
    family = first_eps(draft)
    return with_value(draft, family, value, evidence=Evidence.STRONG, reason=f"overrules {family.value}")


@pytest.mark.parametrize(
    ("seed", "batches", "batch"),
    [
        (0, nets.ENOUGH, 64),
        (3, nets.ENOUGH, 32),
        pytest.param(1, 150, 64, marks=pytest.mark.long),
        pytest.param(2, 150, 128, marks=pytest.mark.long),
        pytest.param(4, 2000, 16, marks=pytest.mark.long),
        pytest.param(5, 400, 64, marks=pytest.mark.long),
    ],
)
@torch.inference_mode()
def test_noise_does_not_overrule_a_family(seed: int, batches: int, batch: int) -> None:
    draft = pytorch_gan(seed, batches, batch)
    family = first_eps(draft)
    changed = overruled(draft, 0.01)
    found = reweigh(changed, {(family.layer, "eps"): family}, Weigher(changed, 2048, FRESH))
    judged = first_eps(found)
    assert (judged.value, judged.evidence) == (1e-5, Evidence.STRONG)
    assert judged.odds is not None
    assert judged.odds > 1
    assert judged.alternatives[0] == 0.01
    assert found.spec == draft.spec
    assert "too little to overrule it" in judged.reason


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
@torch.inference_mode()
def test_a_family_whose_eps_was_edited_is_overruled(seed: int) -> None:
    draft = pytorch_gan(seed, first_eps=0.1)
    family = first_eps(draft)
    changed = overruled(draft, 0.1)
    found = reweigh(changed, {(family.layer, "eps"): family}, Weigher(changed, 2048, FRESH))
    judged = first_eps(found)
    assert (judged.value, judged.evidence) == (0.1, Evidence.STRONG)
    assert "overrules" in judged.reason


def variants(truth: Any, rival: Any, seed: int) -> tuple[Draft, Draft, int]:
    """A DCGAN with `truth` behind its first BatchNorm, the same with `rival` there, and where they first differ."""
    spec = nets.dcgan(truth, LEAKY)
    right = replace(nets.blank(spec, nets.trained(spec, seed=seed)), spec=spec)
    choice = next(c for c in right.choices if c.field == "activation")
    right = with_value(right, choice, truth)
    return right, with_value(right, choice, rival), 1


@torch.inference_mode()
def odds(right: Draft, wrong: Draft, first: int, seed: int = FRESH) -> tuple[float, float]:
    return Weigher(right, 1024, seed).odds(wrong, first), Weigher(wrong, 1024, seed).odds(right, first)


@pytest.mark.parametrize("seed", range(8))
def test_close_rivals_are_never_called_strong_when_they_are_wrong(seed: int) -> None:
    right, wrong, first = variants(nets.RELU, nets.leaky(0.01), seed)
    of_truth, of_rival = odds(right, wrong, first)
    assert of_rival < STRONG
    assert of_truth * of_rival == pytest.approx(1, rel=0.9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("truth", "rival"), [(LEAKY, nets.leaky(0.3)), (LEAKY, nets.RELU), (nets.RELU, {"name": "gelu", "slope": None})]
)
def test_what_is_clear_is_strong_on_any_latents(truth: Any, rival: Any, seed: int) -> None:
    right, wrong, first = variants(truth, rival, seed)
    for latents_from in (FRESH, 2 * FRESH):
        of_truth, of_rival = odds(right, wrong, first, latents_from)
        assert of_truth > STRONG
        assert of_rival < 1 / STRONG
    assert of_truth <= MOST


def settled(draft: Draft) -> list[Choice]:
    return [choice for choice in draft.choices if choice.evidence is Evidence.STRONG]


def test_what_stands_behind_a_batch_norm_that_nothing_fits_is_not_strong() -> None:
    spec = nets.mlp(LEAKY, LEAKY, LEAKY)
    weights = nets.trained(spec)
    weights["layers.4.running_var"] = weights["layers.4.running_var"] * 3
    found = investigate([nets.blank(spec, weights)], samples=1024)
    by_place = {(c.layer, c.field): c.evidence for c in found.choices}
    assert by_place[None, "latent"] is Evidence.STRONG
    assert not any(e.settled for (layer, field), e in by_place.items() if layer is not None and field != "structure")


def test_a_family_has_its_output_activation_as_an_assumption() -> None:
    spec = nets.mlp(nets.RELU)
    draft = replace(nets.blank(spec, nets.trained(spec, gain=3.0), Evidence.STRONG), family="known")
    last = max(i for i, layer in enumerate(spec.layers) if isinstance(layer, Activation))
    output = next(c for c in investigate([draft], samples=256).choices if c.layer == last)
    assert output.evidence is Evidence.WEAK
    assert "nothing in the file shows it" in output.reason


@pytest.mark.parametrize("cores", [1, 3, 9])
def test_parts_of_a_list_side_by_side(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "usable_cores", lambda: cores)
    parts: list[int] = []

    def squares(items: Sequence[int]) -> list[int]:
        parts.append(len(items))
        return [item**2 for item in runner.side_by_side(lambda inner: [len(inner)] * len(inner), items)]

    before = torch.get_num_threads()
    found = runner.side_by_side(squares, range(7))
    assert sorted(found) == sorted(n**2 for n in parts for _ in range(n)), "within a part, nothing is divided"
    assert len(parts) == min(cores, runner.MOST_SIDES, 7)
    assert runner.side_by_side(lambda part: [3 * item for item in part], range(11)) == [3 * item for item in range(11)]
    with pytest.raises(ZeroDivisionError):
        runner.side_by_side(lambda part: [1 // item for item in part], range(3))
    assert torch.get_num_threads() == before
    assert runner.side_by_side(squares, []) == []
