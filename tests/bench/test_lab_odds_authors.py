"""Random generators as strangers write them: each kind builds, is its seed's own, and is saved as it draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gan_export.reading import read_checkpoint
from gan_trainer.networks.generator import build
from lab.odds import authors, naming, trained
from lab.odds.examples import find_examples
from lab.odds.scoring import strides
from lab.odds.trained import Trained

pytestmark = pytest.mark.slow


def test_every_kind_of_author_builds_and_is_its_seeds_own() -> None:
    seen = {kind: set[str]() for kind in authors.KINDS}
    for seed in range(150):
        written = authors.write(seed)
        assert written == authors.write(seed)
        seen[written.kind].add(strides(written.spec))
        assert (written.side != written.spec.interface.image[1]) or written.kind != "resized" or written.side == 28
    assert all(len(one) > 1 for kind, one in seen.items() if kind not in ("mlp", "mlp with BatchNorm", "vae"))
    assert set(seen) == {kind for kind, one in seen.items() if one}


def kind_of(kind: str) -> Trained:
    """The first author of `kind`, hardly trained."""
    every = ((seed, authors.write(seed)) for seed in range(400))
    seed, written = next((seed, one) for seed, one in every if one.kind == kind and one.side < 64)
    images = torch.rand(64, *written.image, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return trained.train(written, seed, images, torch.arange(64) % 10, 2)


@pytest.mark.parametrize("kind", [kind for kind in authors.KINDS if kind != "vae"])
def test_what_is_saved_is_what_the_true_network_draws(kind: str, tmp_path: Path) -> None:
    made, again = kind_of(kind), kind_of(kind)
    trained.save(made, tmp_path, "t")
    (example,) = find_examples([tmp_path])
    assert (example.name, example.kind, example.discriminator is not None) == ("t", kind, made.files.beside is not None)
    assert example.spec == made.written.spec
    truth = example.truth()
    assert truth.image.shape[1:] == made.written.image
    held = again.generator.body.state_dict()
    assert all(torch.equal(tensor, held[name]) for name, tensor in made.generator.body.state_dict().items())
    with torch.inference_mode():
        label = torch.zeros(len(truth.z), dtype=torch.int64) if truth.label is None else truth.label
        assert torch.equal(made.generator(truth.z, label), truth.image)
    saved = sum(tensor.numel() for tensor in read_checkpoint(example.checkpoint).tensors.values() if tensor.ndim)
    assert saved == sum(tensor.numel() for tensor in held.values() if tensor.ndim)


def test_no_two_modules_share_a_name() -> None:
    for seed in range(60):
        spec = authors.write(seed).spec
        module = build(spec)
        rng = np.random.default_rng(seed)
        named = naming.name_modules(spec, module, rng)
        assert len(named.tensors) == len(module.state_dict())
        assert named.style in naming.STYLES
