"""The latent distribution of a live module, by its BatchNorms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export import live_networks as networks
from gan_core.latents import LATENT_LAWS, LatentLaw, latents
from gan_export.answers import Answers, LiveAnswers
from gan_export.live.source import live_source
from gan_export.source import Source


def source(folder: Path, law: LatentLaw, trained: bool = True, shift: float = 0.0) -> Source:
    """A network whose BatchNorms saw a hundred batches of `law`, `shift` added to them."""
    torch.manual_seed(0)
    module = networks.lively(networks.Plain())
    if trained:
        module.train()
        with torch.no_grad():
            for step in range(100):
                module(torch.from_numpy(latents(range(64 * step, 64 * step + 64), 6, law))[..., None, None] + shift)
    torch.save(module.state_dict(), folder / "g.pth")
    return live_source(folder / "g.pth", Answers(live=LiveAnswers(f"{networks.__file__}:Plain")))


@pytest.mark.parametrize("law", LATENT_LAWS)
def test_remembered(law: LatentLaw, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    found = source(tmp_path, law)
    assert found.interface.latent == law
    assert not any("latent" in assumption for assumption in found.assumptions)
    assert f"latent distribution {law}: its BatchNorms remember it" in caplog.text


def test_nothing_in_the_module_changes(tmp_path: Path) -> None:
    found = source(tmp_path, "uniform")
    saved = torch.load(tmp_path / "g.pth")
    state = found.module.module.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(state[name], tensor) for name, tensor in saved.items())
    assert not any(part.training for part in found.module.modules())


def test_latents_of_another_law_are_said_to_be_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = source(tmp_path, "uniform", shift=2.0)
    assert found.interface.latent == "normal"
    assert any("first BatchNorm saw latents of another one" in assumption for assumption in found.assumptions)
    (record,) = (each for each in caplog.records if each.levelname == "WARNING")
    assert "latent distribution normal is likely wrong" in record.getMessage()


def test_statistics_that_fit_no_law_say_nothing(tmp_path: Path) -> None:
    found = source(tmp_path, "uniform", trained=False)
    assert found.interface.latent == "normal"
    assert any("latent distribution normal" in assumption for assumption in found.assumptions)


def test_no_batch_norm_says_nothing(tmp_path: Path) -> None:
    torch.save(networks.lively(networks.Flat()).state_dict(), tmp_path / "g.pth")
    found = live_source(tmp_path / "g.pth", Answers(live=LiveAnswers(f"{networks.__file__}:Flat")))
    assert any("latent distribution normal" in assumption for assumption in found.assumptions)
