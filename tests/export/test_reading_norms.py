"""Folded norms are the weights that torch's modules (and the authors' classes) compute in eval mode, to the bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from gan_export.reading import read_checkpoint
from gan_export.reading.weights import fold

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 5), (2, 6)),
    "square linear": (lambda: nn.Linear(5, 5), (2, 5)),
    "conv": (lambda: nn.Conv2d(4, 3, 3), (2, 4, 5, 5)),
    "square conv": (lambda: nn.Conv2d(4, 4, 3), (2, 4, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 3, 4, 2, 1), (2, 4, 3, 3)),
    "square transposed": (lambda: nn.ConvTranspose2d(4, 4, 4, 2, 1), (2, 4, 3, 3)),
    "one output": (lambda: nn.Conv2d(4, 1, 3), (2, 4, 5, 5)),
    "embedding": (lambda: nn.Embedding(7, 4), ()),
}


def old_spectral(module: nn.Module) -> nn.Module:
    return _quietly(nn.utils.spectral_norm, module)


def old_weight(module: nn.Module, **options: Any) -> nn.Module:
    return _quietly(nn.utils.weight_norm, module, **options)


def _quietly(norm: Callable[..., nn.Module], module: nn.Module, **options: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return norm(module, **options)


NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "spectral": old_spectral,
    "spectral parametrization": parametrizations.spectral_norm,
    "weight": old_weight,
    "weight dim 1": lambda module: old_weight(module, dim=1),
    "weight dim None": lambda module: old_weight(module, dim=None),
    "weight parametrization": parametrizations.weight_norm,
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("norm", NORMS)
def test_folding_equals_torch_in_eval_mode(tmp_path: Path, kind: str, norm: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer: Any = NORMS[norm](make())
    x = torch.randn(shape) if shape else torch.arange(7)
    for _ in range(3):  # train mode: the power iteration settles
        layer(x)
    layer.eval()
    layer(x)
    net = nn.Sequential(nn.Linear(3, 3), layer, nn.Linear(3, 784))
    torch.save({"netG": net.state_dict()}, tmp_path / "g.pt")
    reading = read_checkpoint(tmp_path / "g.pt")
    assert torch.equal(reading.tensors["1.weight"], layer.weight.detach())
    plain = nn.Sequential(nn.Linear(3, 3), make(), nn.Linear(3, 784))
    plain.load_state_dict(reading.tensors)
    assert torch.equal(plain[1](x), layer(x))
    assert any("folded into 1 plain weight" in note for note in reading.notes)
    assert set(reading.saved) == set(net.state_dict())


def pruned(layer: nn.Module) -> nn.Module:
    prune.l1_unstructured(layer, "weight", 0.4)
    if getattr(layer, "bias", None) is not None:
        prune.random_unstructured(layer, "bias", 0.5)
    return layer


@pytest.mark.parametrize("kind", LAYERS)
def test_pruned_weights_are_masked(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer = pruned(make())
    x = torch.randn(shape) if shape else torch.arange(7)
    net = nn.Sequential(nn.Linear(3, 3), layer, nn.Linear(3, 784))
    torch.save({"netG": net.state_dict()}, tmp_path / "g.pt")
    reading = read_checkpoint(tmp_path / "g.pt")
    plain = nn.Sequential(nn.Linear(3, 3), make(), nn.Linear(3, 784))
    plain.load_state_dict(reading.tensors)
    assert torch.equal(plain[1](x), layer(x))
    assert int((reading.tensors["1.weight"] == 0).sum()) > 0
    assert any("pruning masks folded into 1 plain weight" in note for note in reading.notes)


def test_a_mask_of_another_shape_is_left_alone() -> None:
    state = {"a.weight_orig": torch.ones(3, 3), "a.weight_mask": torch.ones(3, 2)}
    assert set(fold(state)[0]) == set(state)


def test_the_weight_stands_where_its_first_part_stood() -> None:
    state = {
        "a.bias": torch.ones(3),
        "a.weight_g": torch.ones(3, 1),
        "a.weight_v": torch.eye(3),
        "b.weight": torch.ones(2, 3),
    }
    assert list(fold(state)[0]) == ["a.bias", "a.weight", "b.weight"]


def test_a_stale_weight_gives_way() -> None:
    """Before torch 1.0 the computed weight was saved too."""
    state = {"a.weight": torch.zeros(3, 3), "a.weight_g": torch.ones(3, 1), "a.weight_v": torch.eye(3)}
    folded = fold(state)[0]
    assert list(folded) == ["a.weight"]
    assert torch.equal(folded["a.weight"], torch.eye(3))


class SpectralBar(nn.Module):
    """christiancosgrove/pytorch-spectral-normalization-gan, as its forward computes the weight."""

    module: Any

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module
        weight = module.weight
        height = weight.shape[0]
        del module._parameters["weight"]
        module.register_parameter("weight_u", nn.Parameter(F.normalize(torch.randn(height), dim=0)))
        module.register_parameter("weight_v", nn.Parameter(torch.randn(weight[0].numel())))
        module.register_parameter("weight_bar", nn.Parameter(weight.data))

    def weight(self) -> Tensor:
        w = self.module.weight_bar.data
        matrix, u = w.view(w.shape[0], -1), self.module.weight_u.data
        v = matrix.t().mv(u)
        v = v / (v.norm() + 1e-12)
        u = matrix.mv(v)
        u = u / (u.norm() + 1e-12)
        folded: Tensor = w / u.dot(matrix.mv(v))
        return folded


@pytest.mark.parametrize("kind", ["conv", "transposed", "linear"])
def test_weight_bar_classes(kind: str) -> None:
    torch.manual_seed(0)
    wrapped = SpectralBar(LAYERS[kind][0]())
    folded = fold({f"l1.0.{name}": tensor.detach() for name, tensor in wrapped.state_dict().items()})[0]
    assert list(folded) == ["l1.0.bias", "l1.0.weight"]
    assert torch.allclose(folded["l1.0.weight"], wrapped.weight(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("u_name", "sigma_name"), [("sn_u", "sn_sigma"), ("u0", "sv0")])
def test_mimicry_and_biggan(u_name: str, sigma_name: str) -> None:
    torch.manual_seed(0)
    weight, u = torch.randn(4, 3, 3, 3), torch.randn(1, 4)
    matrix = weight.view(4, -1)
    v = F.normalize(u @ matrix, eps=1e-12)
    u_next = F.normalize(v @ matrix.t(), eps=1e-12)
    sigma = (u_next @ matrix @ v.t()).squeeze()
    folded = fold({"a.weight": weight, f"a.{u_name}": u, f"a.{sigma_name}": torch.ones(1)})[0]
    assert list(folded) == ["a.weight"]
    assert torch.allclose(folded["a.weight"], weight / sigma, rtol=1e-6, atol=1e-7)


def test_fp16_norms_are_folded_in_float32(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer: Any = old_weight(nn.Linear(6, 784)).half()
    torch.save(layer.state_dict(), tmp_path / "g.pt")
    folded = read_checkpoint(tmp_path / "g.pt").tensors["weight"]
    assert folded.dtype == torch.float32
    assert torch.equal(folded, torch._weight_norm(layer.weight_v.float(), layer.weight_g.float(), 0))


@pytest.mark.parametrize(
    "state",
    [
        {"a.weight_g": torch.ones(4, 1), "a.weight_v": torch.ones(3, 3)},
        {"a.weight_g": torch.ones(3, 3), "a.weight_v": torch.ones(3, 3)},
        {"a.weight_orig": torch.ones(3, 4), "a.weight_u": torch.ones(5), "a.weight_v": torch.ones(4)},
        {"a.weight_orig": torch.ones(3, 4), "a.weight_u": torch.ones(3)},
        {"a.weight": torch.ones(3, 4), "a.sn_u": torch.ones(1, 9), "a.sn_sigma": torch.ones(1)},
        {"gain_weight_g": torch.ones(3, 1), "gain_weight_v": torch.ones(3, 3)},
    ],
)
def test_what_only_looks_like_a_norm_is_left_alone(state: dict[str, Tensor]) -> None:
    folded, notes = fold(state)
    assert list(folded) == list(state)
    assert notes == []
