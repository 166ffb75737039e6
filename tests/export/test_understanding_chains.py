"""Chains of any naming: the true structure is among the candidates, and told the truth a draft is exact."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from torch import nn

from export.chains import CASES, EXACT, IDENTITY, RELU, Case, View, nested_blocks, told
from export.foreign_networks import difference, examples_dcgan, sequential, settled
from gan_core.errors import GanportError
from gan_core.spec.generator_spec import flat
from gan_export.draft import Draft, Evidence
from gan_export.understanding.edit import with_value
from gan_export.understanding.understand import draft_candidates


@pytest.mark.parametrize("name", CASES)
def test_the_truth_is_among_the_first_candidates(name: str) -> None:
    case = CASES[name]
    module = settled(case.make())
    drafts = draft_candidates(module.state_dict())
    assert 1 <= len(drafts) <= 12
    fits = [
        i for i, draft in enumerate(drafts) if draft.spec.interface.image == case.image and _exact(draft, case, module)
    ]
    assert fits, [draft.choices[0].value for draft in drafts]
    assert fits[0] < case.within


def _exact(draft: Draft, case: Case, module: nn.Module) -> bool:
    counts = [sum(choice.field == "activation" for choice in draft.choices)]
    return counts == [len(case.activations)] and difference(told(draft, case), module, case.z_shape) <= EXACT


@pytest.mark.parametrize("name", CASES)
def test_every_candidate_loads_and_runs(name: str) -> None:
    for draft in draft_candidates(CASES[name].make().state_dict()):
        held = {key: tuple(tensor.shape) for key, tensor in flat(draft.weights).items()}
        assert held == draft.spec.tensors()
        assert draft.spec.shapes[-1] == draft.spec.interface.image


@pytest.mark.parametrize("name", CASES)
def test_every_alternative_can_be_taken(name: str) -> None:
    """Forensics and the contact sheet take them unchecked."""
    draft = draft_candidates(CASES[name].make().state_dict())[0]
    for choice in draft.choices:
        for value in choice.alternatives:
            edited = with_value(draft, choice, value)
            assert edited.spec != draft.spec
            assert edited.spec.tensors() == draft.spec.tensors()
            assert with_value(edited, choice, choice.value).spec == draft.spec


def test_sorted_keys_are_put_in_order() -> None:
    """safetensors sorts: main.10 comes before main.2, and the body before the head."""
    module = settled(CASES["upsample and convolve, room in the numbering"].make())
    tensors = module.state_dict()
    draft = draft_candidates({key: tensors[key] for key in sorted(tensors)})[0]
    case = CASES["upsample and convolve, room in the numbering"]
    assert difference(told(draft, case), module) <= EXACT


def test_sorted_blocks_are_put_in_order() -> None:
    body = nn.Sequential(
        nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, 2, 1)
    )
    parts = [("z_in", nn.Linear(6, 8 * 64)), ("view", View(8, 8, 8)), ("deconvs", body), ("out", nn.Tanh())]
    module = settled(nn.Sequential(OrderedDict(parts)))
    tensors = module.state_dict()
    draft = draft_candidates({key: tensors[key] for key in sorted(tensors)})[0]
    truth = Case(nested_blocks, (3, 32, 32), (IDENTITY, RELU))
    assert difference(told(draft, truth), module) <= EXACT


def test_evidence_of_a_structure() -> None:
    usual = draft_candidates(nested_blocks().state_dict())[0].choices[0]
    assert (usual.field, usual.evidence) == ("structure", Evidence.STRONG)
    assert "convT k4 s1 p0" in usual.value
    body = [nn.Linear(6, 8 * 64), View(8, 8, 8)]
    for takes, makes in ((8, 8), (8, 4), (4, 3)):
        body.append(nn.Conv2d(takes, makes, 3, padding=1))
    many = draft_candidates(nn.ModuleList(body).state_dict())
    assert len(many) > 2
    assert many[0].choices[0].evidence is Evidence.WEAK
    flat = draft_candidates(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 784)).state_dict())
    assert [draft.choices[0].evidence for draft in flat] == [Evidence.PROVED]


def test_numbering_without_room_for_an_activation() -> None:
    module = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh())
    draft = draft_candidates(module.state_dict())[0]
    activations = [choice for choice in draft.choices if choice.field == "activation"]
    assert [choice.value["name"] for choice in activations] == ["identity", "leaky_relu"]
    assert [choice.evidence for choice in activations] == [Evidence.WEAK, Evidence.NONE]


def test_a_square_kernel_is_read_both_ways() -> None:
    """8 → 8 channels fit both ways round."""
    module = sequential(
        nn.ConvTranspose2d(5, 8, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8),
        nn.ReLU(), nn.ConvTranspose2d(8, 3, 8, 4, 2), nn.Tanh(),
    )  # fmt: skip
    drafts = draft_candidates(settled(module).state_dict(), image=(3, 32, 32))
    assert {draft.spec.layers[4].kind for draft in drafts} >= {"conv", "conv_transpose"}
    truth = Case(nested_blocks, (3, 32, 32), (RELU, RELU))
    assert any(difference(told(draft, truth), module, (5, 1, 1)) <= EXACT for draft in drafts)


def test_a_one_hot_label_is_offered_where_the_numbers_suggest_it() -> None:
    def mlp(z: int) -> nn.Module:
        return nn.Sequential(nn.Linear(z, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh())

    drafts = draft_candidates(mlp(110).state_dict())
    assert [(draft.spec.interface.z_dim, draft.spec.interface.n_classes) for draft in drafts] == [(110, 0), (100, 10)]
    assert "one-hot" in drafts[1].notes[0]
    assert [draft.spec.interface.n_classes for draft in draft_candidates(mlp(100).state_dict())] == [0]


@pytest.mark.slow
def test_the_image_can_be_given() -> None:
    tensors = examples_dcgan(64, prefix="net").state_dict()
    assert draft_candidates(tensors)[0].spec.interface.image == (3, 64, 64)
    assert {draft.spec.interface.image for draft in draft_candidates(tensors, image=(3, 68, 68))} == {(3, 68, 68)}
    with pytest.raises(GanportError, match="no strides and paddings make an image of 3x1030x1030") as caught:
        draft_candidates(tensors, image=(3, 1030, 1030))
    assert "`image" in caught.value.hint
    with pytest.raises(GanportError, match="gives 3 channels, expected an image of 1 channels"):
        draft_candidates(tensors, image=(1, 64, 64))


@pytest.mark.slow
def test_nothing_in_a_file_makes_the_search_explode() -> None:
    """Twenty square kernels read both ways, any of them upsampled before: still answered at once."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(5, 8, 4)]
    layers += [nn.Conv2d(8, 8, 3, padding=1) for _ in range(20)]
    drafts = draft_candidates(nn.ModuleList([*layers, nn.Conv2d(8, 3, 3, padding=1)]).state_dict())
    assert len(drafts) <= 12
