"""The three shared checkpoints: other people's files, and the images that PyTorch drew of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gan_core.spec.generator_spec import flat
from gan_core.spec.layers import Activation, BatchNorm
from gan_export.draft import Draft, Evidence
from gan_export.understanding.edit import with_value
from gan_export.understanding.understand import draft_candidates, drafts_with_spec
from gan_trainer.networks.generator import build
from real_files import FOLDER, state_dict

OPEN = (Activation, BatchNorm)
LEAKY, IDENTITY = {"name": "leaky_relu", "slope": 0.2}, {"name": "identity", "slope": None}
FILES = ("mlp_mnist.ckpt", "mixed_faces32.pt", "conditional_mnist.pth")


def structure(draft: Draft) -> list[dict[str, object]]:
    """The layers that names and shapes are to find; a family's eps and activations are not among them."""
    return [layer.to_json() for layer in draft.spec.layers if not isinstance(layer, OPEN)]


def worst(draft: Draft, name: str) -> float:
    """max |Δ| against the reference images."""
    reference = np.load(FOLDER / f"{Path(name).stem}.reference.npz")
    module = build(draft.spec).eval()
    module.load_state_dict(flat(draft.weights), strict=False)
    labels = (torch.from_numpy(reference["label"]),) if "label" in reference else ()
    with torch.no_grad():
        images = module(torch.from_numpy(reference["z"]).flatten(1), *labels)
    return float(np.abs(images.numpy() - reference["image"]).max())


def test_conditional_mnist_is_a_known_family() -> None:
    draft = draft_candidates(state_dict("conditional_mnist.pth"))[0]
    assert draft.family == "mnist-conditional-wgan-gp"
    assert draft.open_choices == ()
    assert (draft.spec.interface.z_dim, draft.spec.interface.n_classes, draft.spec.interface.image) == (
        10,
        10,
        (1, 28, 28),
    )
    assert worst(draft, "conditional_mnist.pth") <= 1e-4


def test_mlp_mnist_by_its_default() -> None:
    draft = draft_candidates(state_dict("mlp_mnist.ckpt"))[0]
    assert (draft.spec.interface.z_dim, draft.spec.interface.image) == (64, (1, 28, 28))
    assert {choice.field for choice in draft.open_choices} == {"activation", "output", "latent"}
    assert worst(draft, "mlp_mnist.ckpt") <= 1e-4


def test_mixed_faces_has_its_true_structure_first() -> None:
    draft = draft_candidates(state_dict("mixed_faces32.pt"))[0]
    assert (draft.family, draft.spec.interface.z_dim, draft.spec.interface.image) == ("chain", 100, (3, 32, 32))
    assert draft.choices[0].evidence is Evidence.STRONG
    slots = [choice for choice in draft.choices if choice.field == "activation"]
    for slot, value in zip(slots, (IDENTITY, LEAKY, LEAKY, LEAKY), strict=True):
        draft = with_value(draft, slot, value)
    assert worst(draft, "mixed_faces32.pt") <= 1e-4


@pytest.mark.parametrize("name", FILES)
def test_a_written_spec_fits_again(name: str) -> None:
    tensors = state_dict(name)
    draft = draft_candidates(tensors)[0]
    (again,) = drafts_with_spec(tensors, draft.spec.to_json())
    assert all(a is b for a, b in zip(flat(again.weights).values(), flat(draft.weights).values(), strict=True))


@pytest.mark.parametrize("name", FILES)
def test_renamed_keys_still_give_the_structure(name: str) -> None:
    """Without its names the family is gone; shapes still find the network, and put it first."""
    tensors, parts = state_dict(name), dict[str, str]()
    renamed = {}
    for key, tensor in tensors.items():
        prefix, _, local = key.rpartition(".")
        stem = "label_emb" if "label_emb" in prefix else "part"
        renamed[f"{parts.setdefault(prefix, f'{stem}{len(parts)}')}.{local}"] = tensor
    truth = draft_candidates(tensors)[0].spec
    draft = draft_candidates(renamed)[0]
    assert draft.family == "chain"
    assert draft.spec.interface.image == truth.interface.image
    assert structure(draft) == structure(replace(draft, spec=truth))
