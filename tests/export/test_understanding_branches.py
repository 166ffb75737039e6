"""Skips leave no tensor: residual networks are not taken for chains, and chains of such names are not refused."""

from __future__ import annotations

import itertools
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from export import trained_nets as nets
from export.foreign_networks import sequential
from gan_export.assumptions import doubts_of
from gan_export.draft import Draft, Evidence
from gan_export.forensics import investigate
from gan_export.forensics.statistics import GOOD, witnesses
from gan_export.forensics.verdicts import contradiction
from gan_export.understanding.understand import draft_candidates

pytestmark = pytest.mark.slow


class Block(nn.Module):
    """conv, norm, ReLU, conv, norm in a row, under names of the author's choice; `skip` adds the input."""

    def __init__(self, width: int, names: tuple[str, ...], *, skip: bool, norm: bool = True) -> None:
        super().__init__()
        self.skip = skip
        parts: list[nn.Module] = []
        for _ in range(2):
            parts += [nn.Conv2d(width, width, 3, padding=1), *[nn.BatchNorm2d(width)] * norm]
        self.body = list(names if norm else names[::2])
        for name, part in zip(self.body, parts, strict=True):
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i, name in enumerate(self.body):
            y = getattr(self, name)(torch.relu(y) if i == len(self.body) // 2 else y)
        return torch.relu(x + y if self.skip else y)


PLAIN = ("a", "b", "c", "d")
NUMBERED = ("conv1", "bn1", "conv2", "bn2")


WIDTH = 16


def network(*blocks: tuple[str, Block]) -> nn.Module:
    """z 12 → 4x4, a block, 8x8, a block … → 3 x 16 x 16."""
    start = nn.Sequential(nn.ConvTranspose2d(12, WIDTH, 4), nn.BatchNorm2d(WIDTH), nn.ReLU())
    parts: list[tuple[str, nn.Module]] = [("start", start), *blocks[:1]]
    for i, named in enumerate((*blocks[1:], None)):
        parts += [(f"up{i}", nn.Upsample(scale_factor=2 if len(blocks) > 1 else 4))]
        parts += [named] if named else []
    return nn.Sequential(OrderedDict([*parts, ("end", nn.Conv2d(WIDTH, 3, 3, padding=1)), ("tanh", nn.Tanh())]))


def drafted(module: nn.Module, batches: int = 150) -> list[Draft]:
    return draft_candidates(nets.state(nets.fed(module, 12, 1, 1, batches=batches)), image=(3, 16, 16))


def found(module: nn.Module) -> Draft:
    return investigate(drafted(module), samples=128)


def evidence(draft: Draft) -> Evidence:
    return next(choice.evidence for choice in draft.choices if choice.field == "structure")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("res1", NUMBERED),
        ("resblock", NUMBERED),
        ("residual_layer", PLAIN),
        ("block", ("skip_conv1", "b", "conv2", "d")),
    ],
)
def test_names_tell(name: str, parts: tuple[str, ...]) -> None:
    """One block, and behind it no BatchNorm that would show whether its input is added."""
    drafts = drafted(network((name, Block(WIDTH, parts, skip=True))), batches=1)
    for draft in drafts:
        told = contradiction(draft, [1e-4] * len(witnesses(draft)))
        assert told is not None
        assert "a residual network: it has" in told
        assert name in told


@pytest.mark.long
def test_names_that_tell_stand_where_nothing_speaks_for_a_chain() -> None:
    draft = found(network(("res1", Block(WIDTH, NUMBERED, skip=True))))
    assert draft.contradiction is not None
    assert "a residual network: it has res1" in draft.contradiction


@pytest.mark.long
@pytest.mark.parametrize(
    ("names", "missing"), [(("res1", "res2"), "its names say a residual network"), (("one", "two"), "such as a skip")]
)
def test_statistics_tell(names: tuple[str, str], missing: str) -> None:
    draft = found(network(*((name, Block(WIDTH, NUMBERED, skip=True)) for name in names)))
    assert draft.contradiction is not None
    assert "no chain of these layers brings what BatchNorm 4" in draft.contradiction
    assert draft.contradiction.endswith(missing)
    assert not evidence(draft).settled


@pytest.mark.long
def test_a_chain_with_such_names_is_a_chain() -> None:
    """`res` may be a resolution: the BatchNorm behind the first block says that nothing is added."""
    draft = found(network(("res1", Block(WIDTH, NUMBERED, skip=False)), ("res2", Block(WIDTH, NUMBERED, skip=False))))
    assert draft.contradiction is None


@pytest.mark.long
def test_two_alike_in_a_block_at_the_end_are_asked_about() -> None:
    draft = found(network(("block", Block(WIDTH, PLAIN, skip=True))))
    assert draft.contradiction is None
    assert evidence(draft) is Evidence.WEAK
    reason = next(choice.reason for choice in draft.choices if choice.field == "structure")
    assert "block has two convolutions of one shape, as residual blocks have" in reason


def test_without_any_batch_norm_names_decide() -> None:
    start = nn.Sequential(nn.Linear(12, WIDTH * 64), nn.Unflatten(1, (WIDTH, 8, 8)))
    end = nn.Sequential(nn.ConvTranspose2d(WIDTH, 3, 8, 4, 2))
    for name, refused in (("res1", True), ("main", False)):
        block = Block(WIDTH, NUMBERED, skip=True, norm=False)
        module = nn.Sequential(OrderedDict([("start", start), (name, block), ("end", end)]))
        draft = investigate(draft_candidates(nets.state(module)))
        assert (draft.contradiction is not None) is refused
        assert evidence(draft) is Evidence.WEAK


def test_convolutions_of_one_list_are_no_block() -> None:
    """`main.3` and `main.6` of one nn.Sequential: nothing of the author's own runs between them."""
    body = sequential(
        nn.ConvTranspose2d(12, 16, 8), nn.BatchNorm2d(16), nn.ReLU(), nn.ConvTranspose2d(16, 16, 4, 2, 1),
        nn.BatchNorm2d(16), nn.ReLU(), nn.ConvTranspose2d(16, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 3, 3, 1, 1), nn.Tanh(),
    )  # fmt: skip
    assert all(draft.skip is None for draft in draft_candidates(nets.state(body)))


def test_where_no_skip_can_be_a_dropout_is_asked_about_and_not_refused() -> None:
    torch.manual_seed(0)
    widths, layers = (20, 32, 64, 96), list[nn.Module]()
    for makes, takes in itertools.pairwise(widths):
        layers += [nn.Linear(makes, takes), nn.BatchNorm1d(takes), nn.ReLU(), nn.Dropout(0.4)]
    net = nn.Sequential(*layers, nn.Linear(96, 784), nn.Tanh()).train()
    with torch.no_grad():
        for _ in range(100):
            net(torch.randn(64, 20))
    draft = investigate(draft_candidates(net.state_dict()), samples=512)
    assert max(draft.fits) > GOOD
    assert draft.contradiction is None
    assert "nothing that was tried fits BatchNorm" in " ".join(doubts_of(draft))
