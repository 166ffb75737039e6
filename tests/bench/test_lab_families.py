"""lab.families: the networks that it measures can be built, and its table says what was measured."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch

from bench.running import run
from gan_core.golden import inputs
from gan_export.families.biggan import BigGan
from gan_export.families.rosinality import Rosinality
from gan_trainer.networks.generator import load_generator
from lab import families


def test_every_network_has_a_size_of_its_own() -> None:
    for name, network in families.networks().items():
        side = name.rpartition("-")[2].removeprefix("x")
        assert network.refused is None
        assert network.interface.input is not None or network.interface.image[1] == int(side)


@pytest.mark.parametrize("family", [BigGan(), Rosinality()], ids=["biggan", "rosinality"])
def test_a_checkpoints_images_use_their_range(family: BigGan | Rosinality, tmp_path: Path) -> None:
    network = family.network(family.sample(Random(1)))  # type: ignore[arg-type]
    weights = families.write_checkpoint(network, "tiny", tmp_path / "g.pt")
    checkpoint = load_generator(tmp_path / "g.pt")
    assert weights >= checkpoint.spec.parameters
    label = torch.zeros(4, dtype=torch.int64) if network.interface.conditional else None
    with torch.no_grad():
        images = checkpoint.module().eval()(torch.from_numpy(inputs(network.interface, range(4))), label)
    assert images.isfinite().all()
    assert images.std() > 0.1


def test_the_table_divides_by_the_faster_of_torch() -> None:
    side = {"rows": {"ganport": {"images_per_s": 30.0}}, "ratio": 1.5}
    found = {
        "weights": 2_000_000, "export_s": 9.5, "export_peak_bytes": 3 << 30, "file_bytes": 8_100_000,
        "weight_bytes": 8_000_000, "batches": {"1": side, "8": side | {"ratio": None}},
    }  # fmt: skip
    lines = families.render({"networks": {"net-32": found}}).splitlines()
    assert lines[-1].split() == ["net-32", "2.0", "10", "3.0", "1.012", "30", "1.50", "30", "–"]


def test_a_network_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(families.app, "--only", "nothing") == 2
    assert "--only takes names out of pggan-128" in capsys.readouterr().err


def test_large_networks_get_fewer_rounds_and_none_fewer_than_three() -> None:
    assert families.rounds_of(8e9, 1, 6) == 6
    assert families.rounds_of(1e11, 1, 6) == 6
    assert families.rounds_of(2e11, 1, 6) == families.FEWEST_ROUNDS == families.rounds_of(1e12, 8, 6)
    assert families.rounds_of(1e12, 8, 2) == 2
