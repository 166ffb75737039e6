"""g.pt: a spec and its weights, read back without running code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.errors import GanportError
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import GeneratorCheckpoint, build, load_generator, save_generator


@pytest.fixture
def checkpoint() -> GeneratorCheckpoint:
    spec = network_spec("dcgan", 28, 1, width=4, z_dim=6)
    return GeneratorCheckpoint(spec, build(spec).state_dict(), "ema", {"data": "digits", "steps": 3})


def test_round_trip_is_exact(checkpoint: GeneratorCheckpoint, tmp_path: Path) -> None:
    save_generator(checkpoint, tmp_path / "g.pt")
    back = load_generator(tmp_path / "g.pt")
    assert (back.spec, back.which, back.training) == (checkpoint.spec, "ema", {"data": "digits", "steps": 3})
    assert back.weights.keys() == checkpoint.weights.keys()
    assert all(torch.equal(back.weights[name], tensor) for name, tensor in checkpoint.weights.items())
    z = torch.randn(2, 6)
    torch.testing.assert_close(back.module()(z), checkpoint.module()(z), rtol=0, atol=0)
    assert not back.module().training


def test_loads_with_weights_only(checkpoint: GeneratorCheckpoint, tmp_path: Path) -> None:
    save_generator(checkpoint, tmp_path / "g.pt")
    assert set(torch.load(tmp_path / "g.pt", weights_only=True)) == {"ganport", "spec", "weights", "which", "training"}


def test_is_small(checkpoint: GeneratorCheckpoint, tmp_path: Path) -> None:
    save_generator(checkpoint, tmp_path / "g.pt")
    weights = sum(t.numel() * t.element_size() for t in checkpoint.weights.values())
    assert (tmp_path / "g.pt").stat().st_size < weights + 16_000


def damaged(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (content | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ganport": 99}, "format 99, this ganport reads 1"),
        ({"weights": None}, "damaged ganport checkpoint"),
        ({"spec": "{"}, "damaged ganport checkpoint"),
        ({"spec": "[]"}, "a spec must be a JSON object"),
        ({"training": "3"}, "damaged ganport checkpoint"),
    ],
)
def test_damaged_checkpoints(
    checkpoint: GeneratorCheckpoint, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save_generator(checkpoint, tmp_path / "g.pt")
    content = torch.load(tmp_path / "g.pt", weights_only=True)
    torch.save(damaged(content, **changes), tmp_path / "g.pt")
    with pytest.raises(GanportError, match=message):
        load_generator(tmp_path / "g.pt")


def test_weights_that_do_not_fit_their_spec(checkpoint: GeneratorCheckpoint) -> None:
    weights = dict(checkpoint.weights)
    first = next(iter(weights))
    lacking = {name: tensor for name, tensor in weights.items() if name != first}
    with pytest.raises(GanportError, match=f"lacks {first}"):
        GeneratorCheckpoint(checkpoint.spec, lacking).module()
    with pytest.raises(GanportError, match="has shape"):
        GeneratorCheckpoint(checkpoint.spec, weights | {first: torch.zeros(1)}).module()
    with pytest.raises(GanportError, match="does not name"):
        GeneratorCheckpoint(checkpoint.spec, weights | {"layers.99.weight": torch.zeros(1)}).module()


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("touched"),))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps([1, 2]), pickle.dumps(Payload())])
def test_other_files_are_refused_and_run_nothing(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.pt").write_bytes(content)
    with pytest.raises(GanportError):
        load_generator(tmp_path / "g.pt")
    assert not (tmp_path / "touched").exists()


def test_a_flipped_bit_is_noticed(checkpoint: GeneratorCheckpoint, tmp_path: Path) -> None:
    save_generator(checkpoint, tmp_path / "g.pt")
    data = (tmp_path / "g.pt").read_bytes()
    first = next(iter(checkpoint.weights.values())).numpy().tobytes()
    assert data.count(first) == 1
    (tmp_path / "g.pt").write_bytes(data.replace(first, bytes([first[0] ^ 1]) + first[1:]))
    with pytest.raises(GanportError, match=r"g\.pt cannot be read as a checkpoint: it is damaged") as caught:
        load_generator(tmp_path / "g.pt")
    assert caught.value.hint.startswith("copy it again")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(GanportError, match="no file at"):
        load_generator(tmp_path / "g.pt")
