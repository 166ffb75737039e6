"""Where a label enters the first layer, from the sizes of its columns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gan_export.draft import Evidence
from gan_export.understanding.heads import columns_of
from gan_export.understanding.understand import draft_candidates


def first_layer(z_dim: int, wide: int, *, behind: bool, seed: int = 0, times: float = 3.0) -> Tensor:
    """Weights (64, z_dim + wide) whose label columns are `times` as large as the others."""
    random = torch.Generator().manual_seed(seed)
    z, label = torch.randn(64, z_dim, generator=random), times * torch.randn(64, wide, generator=random)
    return torch.cat((z, label) if behind else (label, z), dim=1)


@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize(("z_dim", "wide"), [(100, 10), (64, 26), (30, 6)])
def test_the_columns_of_a_label_are_seen(z_dim: int, wide: int, *, behind: bool) -> None:
    columns = columns_of(first_layer(z_dim, wide, behind=behind))
    assert columns.label == (wide, behind)
    assert (columns.behind(wide) > 4.6) == behind
    assert abs(columns.behind(wide)) > 4.6


@pytest.mark.parametrize("inputs", [8, 100, 110, 128])
def test_alike_columns_are_no_label(inputs: int) -> None:
    for seed in range(20):
        columns = columns_of(first_layer(inputs - 2, 2, behind=True, seed=seed, times=1.0))
        assert columns.label is None
        assert abs(columns.behind(10 if inputs > 20 else 2)) < 4.6


def test_a_label_as_wide_as_z_shows_no_order() -> None:
    assert columns_of(first_layer(10, 10, behind=True)).behind(10) == 0.0


def test_a_transposed_convolution_has_columns_too() -> None:
    weight = first_layer(40, 10, behind=False).T.reshape(50, 16, 2, 2)
    assert columns_of(weight).label == (10, False)


@pytest.mark.parametrize("behind", [True, False])
def test_a_one_hot_label_is_drafted_where_its_columns_stand(*, behind: bool) -> None:
    net = nn.Sequential(nn.Linear(95, 64), nn.ReLU(), nn.Linear(64, 784), nn.Tanh())
    with torch.no_grad():
        net[0].weight.copy_(first_layer(90, 5, behind=behind))  # type: ignore[operator]
    draft = draft_candidates(net.state_dict())[0]
    assert (draft.spec.interface.z_dim, draft.spec.interface.n_classes) == (90, 5)
    merge = next(choice for choice in draft.choices if choice.field == "merge")
    assert merge.value == ("z_label" if behind else "label_z")
    assert merge.evidence is Evidence.STRONG
