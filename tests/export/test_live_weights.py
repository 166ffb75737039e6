"""Weights of a checkpoint in a live module: prefixes, norms, and the error that lists what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.live_networks import Conditional, Plain, ResNet, lively
from gan_core.errors import GanportError
from gan_export.live.weights import load_weights, settle
from gan_export.reading import read_checkpoint

State = dict[str, Tensor]


def saved(module: nn.Module, change: Callable[[State], object] = lambda state: state) -> object:
    return change(dict(lively(module).state_dict()))


def load(content: object, module: nn.Module, path: Path, key: str | None = None) -> tuple[nn.Module, tuple[str, ...]]:
    torch.save(content, path)
    return load_weights(module, read_checkpoint(path, key=key), "net.py:G")


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state,
        lambda state: {"netG": state, "epoch": 3},
        prefixed("module."),
        prefixed("generator."),
        prefixed("module.generator."),
        prefixed("_orig_mod.net."),
        lambda state: {name.removeprefix("main."): tensor for name, tensor in state.items()},
        lambda state: {name: tensor for name, tensor in state.items() if "num_batches" not in name},
        lambda state: {name: tensor.double() for name, tensor in state.items()},
    ],
)
def test_weights_arrive(change: Callable[[State], object], tmp_path: Path) -> None:
    loaded, _ = load(saved(Plain(), change), Plain(), tmp_path / "g.pth")
    expected = lively(Plain()).state_dict()
    for name, tensor in loaded.state_dict().items():
        assert "num_batches" in name or torch.equal(tensor, expected[name]), name


def test_norms_stay_norms_where_the_module_has_them(tmp_path: Path) -> None:
    torch.manual_seed(1)
    original = lively(ResNet())
    z = torch.randn(3, 5)
    with torch.no_grad():
        expected = original(z)
        loaded, notes = load(original.state_dict(), ResNet(), tmp_path / "g.pth")
        assert notes == ()
        assert (loaded.eval()(z) - expected).abs().max() < 1e-5


class OldWeightNorm(nn.Module):
    """As pix2pix-era code had it; torch warns of it since."""

    def __init__(self) -> None:
        super().__init__()
        with pytest.warns(FutureWarning, match="weight_norm"):
            self.body = nn.utils.weight_norm(nn.Linear(4, 6))

    def forward(self, z: Tensor) -> Any:
        return self.body(z)


def test_folded_weights_fit_a_module_with_norms(tmp_path: Path) -> None:
    """The file holds plain weights, the module has weight norm: the norm is resolved, the numbers are the file's."""
    plain = nn.Linear(4, 6)
    module = OldWeightNorm()
    content = {f"body.{name}": tensor for name, tensor in plain.state_dict().items()}
    loaded, notes = load({"netG": content}, module, tmp_path / "g.pth", key="netG")
    assert "folded" in notes[0]
    z = torch.randn(3, 4)
    with torch.no_grad():
        assert torch.allclose(loaded(z), plain(z))


def test_settled_modules_can_be_copied() -> None:
    import copy

    module = OldWeightNorm()
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(module)
    settle(module)
    copy.deepcopy(module)


def test_a_list_without_names_is_taken_in_order(tmp_path: Path) -> None:
    original = lively(Conditional())
    content = {"g_ema": list(original.state_dict().values())}
    loaded, notes = load(content, Conditional(), tmp_path / "g.pth")
    assert "a list without names" in notes[0]
    assert torch.equal(loaded.model[0].weight, original.model[0].weight)  # type: ignore[index,union-attr]


def drop(*names: str) -> Callable[[State], State]:
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        (drop("main.0.weight"), "1 missing (main.0.weight)", "`args`"),
        (drop("main.1.running_mean", "main.1.running_var"), "2 missing", "`args`"),
        (lambda s: s | {"main.9.weight": torch.zeros(3, 3)}, "1 left over (main.9.weight)", "`args`"),
        (lambda s: s | {"main.0.weight": torch.zeros(9, 8, 4, 4)}, "main.0.weight 9x8x4x4 for 6x8x4x4", "`args`"),
        (
            lambda s: {name.replace("main.3.", "main.out.") if ".3." in name else name: t for name, t in s.items()},
            "2 missing (main.3.weight, main.3.bias); 2 left over (main.out.weight, main.out.bias)",
            "main.out.weight for main.3.weight?",
        ),
        (lambda s: {f"q{i}.kernel_{i}": t for i, t in enumerate(s.values())}, "missing", "no name agrees"),
    ],
)
def test_weights_that_do_not_fit(change: Callable[[State], object], message: str, hint: str, tmp_path: Path) -> None:
    content = {"netG": saved(Plain(), change)}
    with pytest.raises(GanportError) as raised:
        load(content, Plain(), tmp_path / "g.pth", key="netG")
    assert message in str(raised.value)
    assert hint in raised.value.hint


def test_long_lists_are_cut(tmp_path: Path) -> None:
    with pytest.raises(GanportError, match=r"and \d+ more"):
        load({"netG": saved(Plain())}, ResNet(), tmp_path / "g.pth", key="netG")
