"""`investigate` from end to end: networks whose truth is known, files that cannot answer, the shared checkpoints."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from export import forensics_nets as nets
from gan_core.errors import GanportError
from gan_core.interface import Interface, with_interface
from gan_core.spec.generator_spec import GeneratorSpec, flat
from gan_core.spec.layers import BatchNorm, ConvTranspose, LabelEmbedding
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics import investigate, misfits_of
from gan_export.forensics.statistics import GOOD
from gan_export.understanding.edit import with_value
from gan_export.understanding.understand import draft_candidates
from gan_trainer.networks.generator import build
from real_files import FOLDER, state_dict

pytestmark = pytest.mark.slow

LEAKY = nets.leaky(0.2)
SAMPLES = 1024
SAMPLERS = {"normal": nets.normal, "uniform": nets.uniform, "uniform01": nets.half_uniform}


@pytest.mark.parametrize(
    ("first", "second", "eps", "law"),
    [
        (nets.RELU, nets.RELU, 1e-5, "normal"),
        (LEAKY, nets.RELU, 0.8, "uniform"),
        (nets.IDENTITY, LEAKY, 1e-5, "uniform"),
        (LEAKY, nets.RELU, 0.8, "uniform01"),
        ({"name": "elu", "slope": None}, LEAKY, 0.1, "normal"),
        ({"name": "gelu", "slope": None}, nets.RELU, 1e-5, "normal"),
        ({"name": "tanh", "slope": None}, nets.RELU, 0.8, "normal"),
    ],
)
@pytest.mark.parametrize("kind", ["mlp", "dcgan"])
def test_the_truth_is_found(kind: str, first: dict[str, Any], second: dict[str, Any], eps: float, law: str) -> None:
    spec = nets.mlp(first, second, eps=eps) if kind == "mlp" else nets.dcgan(first, second, eps=eps)
    draft = nets.blank(spec, nets.trained(spec, SAMPLERS[law]))
    found = investigate([draft], samples=SAMPLES)
    assert found.spec.interface.latent == law
    assert nets.found(found, "latent") == [(law, Evidence.STRONG)]
    assert nets.found(found, "activation")[0] == (first, Evidence.STRONG)
    assert nets.found(found, "eps")[0] == (eps, Evidence.STRONG)
    assert nets.found(found, "activation")[1][1] is Evidence.NONE
    assert nets.found(found, "eps")[1] == (eps, Evidence.NONE)
    assert found.fit is not None
    assert found.fit < GOOD / 2
    assert found.notes == ()


def test_what_is_said_is_in_the_spec() -> None:
    spec = nets.dcgan(LEAKY, LEAKY, n_classes=4, eps=0.8)
    draft = nets.blank(spec, nets.trained(spec, nets.uniform))
    found = investigate([draft], samples=SAMPLES)
    assert found.spec == with_interface(replace(spec, name=found.spec.name), latent="uniform")
    assert found.weights is draft.weights
    by_field = {(c.layer, c.field): c for c in found.choices}
    assert by_field[0, "merge"].evidence is Evidence.STRONG
    assert set(by_field[None, "latent"].alternatives) == {"normal", "uniform01"}
    assert "BatchNorm 1 (layer 3)" in by_field[None, "latent"].reason
    slope = by_field[4, "activation"]
    assert slope.alternatives[0] in (nets.leaky(0.1), nets.leaky(0.3))
    assert slope.value not in slope.alternatives


def test_the_label_before_the_latent_is_found() -> None:
    spec = nets.dcgan(LEAKY, LEAKY, n_classes=4)
    truth = replace(spec, layers=(replace(spec.layers[0], merge="label_z"), *spec.layers[1:]))  # type: ignore[call-arg]
    found = investigate([nets.blank(truth, nets.trained(truth))], samples=SAMPLES)
    assert nets.found(found, "merge") == [("label_z", Evidence.STRONG)]


@pytest.mark.parametrize("merge", ["multiply", "add"])
def test_how_a_label_as_wide_as_z_is_joined_is_found(merge: Literal["multiply", "add"]) -> None:
    head, *rest = nets.mlp(nets.RELU, nets.RELU).layers
    truth = GeneratorSpec(Interface(16, (1, 4, 4), n_classes=4), (LabelEmbedding(4, 16, merge), head, *rest))
    tensors = {name.replace("layers.0", "label_emb"): tensor for name, tensor in nets.trained(truth).items()}
    (draft,) = draft_candidates(tensors, image=(1, 4, 4))
    assert nets.found(draft, "merge") == [("multiply", Evidence.NONE)]
    assert nets.found(investigate([draft], samples=SAMPLES), "merge") == [(merge, Evidence.STRONG)]


def test_the_result_depends_on_the_arguments_only() -> None:
    spec = nets.mlp(LEAKY, nets.RELU)
    draft = nets.blank(spec, nets.trained(spec))
    torch.manual_seed(1)
    first = investigate([draft], samples=256)
    torch.manual_seed(2)
    assert investigate([draft], samples=256).choices == first.choices


def test_what_is_proved_stays() -> None:
    spec = nets.mlp(LEAKY, LEAKY, eps=0.8)
    draft = nets.blank(spec, nets.trained(spec))
    proved = tuple(replace(c, evidence=Evidence.PROVED) if c.layer == 2 else c for c in draft.choices)
    found = investigate([replace(draft, choices=proved)], samples=SAMPLES)
    assert next(c for c in found.choices if c.layer == 2) == next(c for c in proved if c.layer == 2)
    assert found.notes[0].startswith("nothing that was tried fits BatchNorm 2")


def test_an_author_whose_class_drifted_is_overruled() -> None:
    spec = nets.dcgan(nets.leaky(0.1), nets.RELU)
    family = nets.blank(spec, nets.trained(spec), Evidence.STRONG)
    found = investigate([family], samples=SAMPLES)
    choice = next(c for c in found.choices if c.layer == 3)
    assert (choice.value, choice.evidence) == (nets.leaky(0.1), Evidence.STRONG)
    assert "overrules relu, said before" in choice.reason
    assert nets.found(found, "activation")[1] == (nets.RELU, Evidence.STRONG)


def strides(stride: int, padding: int) -> Draft:
    """A structural candidate: the first block of the DCGAN at other strides, all else open."""
    spec = nets.dcgan(LEAKY, LEAKY)
    layers = list(spec.layers)
    layers[4] = ConvTranspose(32, 24, 4, stride, padding, bias=False)
    side = 2 * (3 * stride - 2 * padding + 4)
    spec = replace(spec, layers=tuple(layers), interface=replace(spec.interface, image=(1, side, side)))
    draft = nets.blank(spec, leaky_weights())
    structure = Choice(None, "structure", f"stride {stride}", Evidence.WEAK, "a guess")
    return replace(draft, choices=(structure, *draft.choices))


def leaky_weights() -> dict[str, Tensor]:
    return nets.trained(nets.dcgan(LEAKY, LEAKY))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_structure_is_found_among_candidates(order: tuple[int, ...]) -> None:
    candidates = [strides(2, 1), strides(1, 0), strides(4, 0)]
    found = investigate([candidates[i] for i in order], samples=512)
    assert found.spec.layers[4].to_json()["stride"] == 2
    choice = found.choices[0]
    assert (choice.value, choice.evidence) == ("stride 2", Evidence.STRONG)
    assert "times worse" in choice.reason
    assert nets.found(found, "activation")[0] == (LEAKY, Evidence.STRONG)


def test_structures_that_differ_behind_the_last_batch_norm_are_not_told_apart() -> None:
    first = strides(2, 1)
    layers = list(first.spec.layers)
    layers[7] = ConvTranspose(24, 1, 4, 4, 0)
    wider = replace(first.spec, layers=tuple(layers), interface=replace(first.spec.interface, image=(1, 32, 32)))
    second = replace(first, spec=wider)
    found = investigate([first, second], samples=512)
    assert found.spec.interface.image == (1, 16, 16)
    assert found.choices[0].evidence is Evidence.WEAK
    assert "1 more differ only where no BatchNorm remembers" in found.choices[0].reason


def test_no_batch_norm_no_evidence() -> None:
    spec = nets.mlp(LEAKY)
    bare = replace(spec, layers=tuple(layer for layer in spec.layers if not isinstance(layer, BatchNorm)))
    found = investigate([nets.blank(bare, nets.trained(bare, batches=1))])
    assert found.fit is None
    assert "no BatchNorm in this file" in found.notes[0]
    assert all(choice.evidence is Evidence.NONE for choice in found.choices)
    assert misfits_of(found, SAMPLES) == ()


def test_a_batch_norm_that_never_trained_is_no_evidence() -> None:
    spec = nets.mlp(LEAKY, LEAKY)
    weights = nets.trained(spec, batches=0)
    found = investigate([nets.blank(spec, weights)], samples=64)
    assert found.fit is None
    assert "never saw training" in found.notes[0]


def test_one_batch_norm_that_never_trained_is_said_and_passed_over() -> None:
    spec = nets.mlp(LEAKY, nets.RELU, nets.RELU)
    weights = nets.trained(spec)
    weights["layers.1.running_mean"], weights["layers.1.running_var"] = torch.zeros(64), torch.ones(64)
    found = investigate([nets.blank(spec, weights)], samples=SAMPLES)
    assert "1 BatchNorm never saw training" in found.notes[0]
    assert nets.found(found, "activation")[0] == (LEAKY, Evidence.STRONG)


@pytest.mark.parametrize("right", [nets.RELU, LEAKY])
def test_a_network_of_few_batches_is_read_by_its_counters(right: dict[str, Any]) -> None:
    spec = nets.dcgan(right, right)
    draft = nets.blank(spec, nets.trained(spec, batches=12))
    blurred = investigate([draft], samples=SAMPLES)
    assert max(blurred.fits) > GOOD
    found = investigate([replace(draft, batches=12)], samples=SAMPLES)
    assert max(found.fits) < GOOD
    assert nets.found(found, "latent") == [("normal", Evidence.STRONG)]
    assert nets.found(found, "activation")[0] == (right, Evidence.STRONG)


def test_a_latent_law_that_no_spec_has_is_described() -> None:
    spec = nets.dcgan(LEAKY, LEAKY)
    found = investigate(
        [nets.blank(spec, nets.trained(spec, lambda n, d: 2 * nets.half_uniform(n, d)))], samples=SAMPLES
    )
    assert found.notes[0].startswith("none of N(0, 1), U(-1, 1), U(0, 1) fits")
    assert re.search(r"mean (1|1\.0\d*|0\.99\d*) and variance 0\.3", found.notes[0])
    assert nets.found(found, "latent")[0][1] is Evidence.WEAK


def test_a_latent_law_of_another_width_does_not_blur_the_rest() -> None:
    spec = nets.dcgan(LEAKY, LEAKY)
    found = investigate([nets.blank(spec, nets.trained(spec, lambda n, d: 2 * nets.normal(n, d)))], samples=SAMPLES)
    assert re.search(r"mean -?0\.0\d+ and variance (3\.9|4\.?)", found.notes[0])
    assert nets.found(found, "latent")[0] == ("normal", Evidence.WEAK)
    assert nets.found(found, "activation")[0] == (LEAKY, Evidence.STRONG)


def test_statistics_of_other_weights_are_said() -> None:
    spec = nets.dcgan(LEAKY, LEAKY)
    weights, other = nets.trained(spec), nets.trained(spec, seed=1)
    foreign = {name: tensor if "running" in name else other[name] for name, tensor in weights.items()}
    found = investigate([nets.blank(spec, foreign)], samples=256)
    assert "its statistics belong to other weights" in found.notes[-1]
    assert not any(c.evidence.settled for c in found.choices if c.layer is not None)


def test_a_value_that_is_missing_from_the_list_is_not_strong() -> None:
    spec = nets.dcgan(nets.leaky(-1.0), nets.RELU)
    found = investigate([nets.blank(spec, nets.trained(spec))], samples=SAMPLES)
    assert nets.found(found, "activation")[0][1] is Evidence.WEAK
    assert found.notes[0].startswith("nothing that was tried fits BatchNorm 2")


def test_misfit_is_small_for_the_truth_and_large_for_another_network() -> None:
    spec = nets.dcgan(LEAKY, LEAKY)
    draft = Draft(spec, spec.by_layer(leaky_weights()))
    right = misfits_of(draft, 512)
    assert len(right) == 2
    assert max(right) < 0.02
    choice = Choice(3, "activation", LEAKY, Evidence.NONE, "")
    wrong = misfits_of(with_value(replace(draft, choices=(choice,)), choice, nets.RELU), 512)
    assert wrong[0] == right[0]
    assert wrong[1] > 10 * right[1]


def test_wrong_arguments() -> None:
    with pytest.raises(GanportError, match="expected at least one drafted generator"):
        investigate([], samples=64)
    with pytest.raises(GanportError, match="samples"):
        investigate([nets.blank(nets.dcgan(LEAKY, LEAKY), leaky_weights())], samples=1)


def test_notes_while_it_works() -> None:
    spec = nets.dcgan(LEAKY, LEAKY)
    said: list[str] = []
    investigate([nets.blank(spec, leaky_weights())], samples=128, on_note=said.append)
    assert [line[:11] for line in said] == ["BatchNorm 1", "BatchNorm 2"]


def worst(draft: Draft, name: str) -> float:
    reference = np.load(FOLDER / f"{Path(name).stem}.reference.npz")
    module = build(draft.spec).eval()
    module.load_state_dict(flat(draft.weights), strict=False)
    label = torch.from_numpy(reference["label"]) if "label" in reference else None
    with torch.no_grad():
        image = module(torch.from_numpy(reference["z"]).reshape(len(reference["z"]), -1), label)
    return float((image - torch.from_numpy(reference["image"])).abs().max())


@pytest.mark.long
def test_mixed_faces_gives_away_its_latent_law_and_its_missing_activation() -> None:
    name = "mixed_faces32.pt"
    found = investigate(draft_candidates(state_dict(name)), samples=512)
    assert nets.found(found, "latent") == [("uniform", Evidence.STRONG)]
    activations = nets.found(found, "activation")
    assert activations[0] == (nets.IDENTITY, Evidence.STRONG)
    assert activations[1:3] == [(LEAKY, Evidence.STRONG)] * 2
    assert activations[3] == (LEAKY, Evidence.NONE)
    assert found.fit is not None
    assert found.fit < 0.002
    assert worst(found, name) <= 1e-4


@pytest.mark.long
def test_conditional_mnist_shows_its_eps_without_its_family() -> None:
    name = "conditional_mnist.pth"
    known = draft_candidates(state_dict(name))[0]
    nameless = replace(
        known,
        family="chain",
        choices=tuple(
            replace(c, evidence=Evidence.PROVED if c.field == "upsample" else Evidence.NONE) for c in known.choices
        ),
    )
    for choice in nameless.choices:
        if choice.field == "eps":
            nameless = with_value(nameless, choice, 1e-3)
    found = investigate([nameless], samples=256)
    assert nets.found(found, "eps") == [(1e-5, Evidence.STRONG), (0.8, Evidence.STRONG), (0.8, Evidence.NONE)]
    assert nets.found(found, "latent") == [("normal", Evidence.STRONG)]
    assert nets.found(found, "merge") == [("z_label", Evidence.STRONG)]
    assert worst(found, name) <= 1e-4


def test_mlp_mnist_has_no_evidence_to_give() -> None:
    found = investigate(draft_candidates(state_dict("mlp_mnist.ckpt")))
    assert "no BatchNorm" in found.notes[0]
    assert not any(c.evidence.settled for c in found.choices if c.field in ("latent", "activation", "output"))
