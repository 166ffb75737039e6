"""Of what distribution the author's code draws latents, beside its checkpoint or elsewhere in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.test_authors_code import CODE, facts, tensors
from gan_export.reading.authors_code import facts_of


def test_latents_drawn_beside_the_checkpoint_outweigh_the_rest_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    models = tmp_path / "models"
    models.mkdir()
    (models / "show.py").write_text("z = np.random.uniform(-1.0, 1.0, size=(16, 20))")
    facts(tmp_path, CODE)
    found, _ = facts_of(tensors(), models / "netG.pth")
    assert {fact.field: fact.value for fact in found}["latent"] == "uniform"


@pytest.mark.parametrize(
    ("line", "heard"),
    [
        ("alpha = torch.rand(16, 1)", True),
        ("labels = torch.rand(16).long()", True),
        ("layer.weight.data.uniform_(-0.1, 0.1)", True),
        ("x = torch.rand(16, 20)", False),
        ("show(torch.rand(16, 20))", False),
    ],
)
def test_random_numbers_that_are_no_latents_do_not_count(tmp_path: Path, line: str, heard: bool) -> None:
    assert ("latent" in facts(tmp_path, f"{CODE}{line}\n")) is heard


@pytest.mark.parametrize(
    ("drawn", "law"),
    [
        ("np.random.uniform(-1, 1, (16, 20))", "uniform"),
        ("np.random.uniform(0.0, 1.0, (16, 20))", "uniform01"),
        ("torch.rand(16, 20)", "uniform01"),
    ],
)
def test_uniform_latents_are_heard(tmp_path: Path, drawn: str, law: str) -> None:
    assert facts(tmp_path, CODE.replace("torch.randn(16, 20)", drawn))["latent"].value == law
