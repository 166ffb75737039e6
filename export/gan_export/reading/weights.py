"""From the chosen lazy tensors to a plain state_dict: float32 on the CPU, numbers checked, norms folded.

Weights that a file keeps in parts become what the networks compute of them in eval mode:

    pruning        w = w0 · mask        weight_orig, weight_mask; biases likewise (torch.nn.utils.prune)
    weight_norm    w = g v / |v|        weight_g, weight_v; parametrizations.weight.original0 (g), original1 (v)
    spectral_norm  w = w0 / (uᵀ W v)    weight_orig, weight_u, weight_v; parametrizations.weight.original, 0._u, 0._v
    own classes    the same, after one  weight_bar, weight_u, weight_v (christiancosgrove's, SAGAN's);
                   power iteration      weight with sn_u, sn_sigma (mimicry) or u0, sv0 (BigGAN)

Salimans & Kingma 2016 (arXiv:1602.07868), Miyato et al. 2018 (arXiv:1802.05957). W is the weight as a matrix, the
output channels first: dimension 0, for transposed convolutions dimension 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.errors import GanportError
from gan_export.reading.lazy import LazyTensor
from gan_export.reading.modules import ModuleInfo

MAX_GROWTH = 8
"""Times the file's size that the weights may take in memory: fp16 doubles, shared storages count once each."""
SLACK_BYTES = 16 << 20


def materialise(lazy: dict[str, LazyTensor], file_bytes: int, source: str) -> tuple[dict[str, Tensor], list[str]]:
    """(tensors, notes): floating tensors as float32, others (counters, masks) as they are; contiguous, on the CPU.

    `source` names the place in the file, for errors. Raises `GanportError` for quantised, complex, empty-handed and
    non-finite tensors, and for claims that the file's size belies.
    """
    for name, tensor in lazy.items():
        if tensor.problem:
            raise GanportError(f"{name} cannot be read: {tensor.problem}", hint=_hint(tensor))
        if tensor.dtype.is_complex:
            raise GanportError(
                f"{name} is complex ({tensor.dtype}), ganport exports real weights", hint="save real tensors"
            )
        quantised = not tensor.dtype.is_floating_point and len(tensor.shape) in (2, 4) and name.endswith("weight")
        if quantised and tensor.dtype != torch.bool:
            raise GanportError(f"{name} is quantised ({_short(tensor.dtype)})", hint="export the unquantised weights")
    claimed = sum(tensor.numel * 4 for tensor in lazy.values())
    if claimed > MAX_GROWTH * file_bytes + SLACK_BYTES:
        raise GanportError(
            f"its tensors would take {claimed / 2**30:.3g} GiB, from a file of {file_bytes:,} bytes",
            hint="the file is made to exhaust memory; get it again from its author",
        )
    tensors: dict[str, Tensor] = {}
    for name, tensor in lazy.items():
        loaded = tensor.load()
        if loaded.dtype.is_floating_point:
            loaded = _checked(name, loaded, source)
        tensors[name] = loaded
    return tensors, _notes(lazy)


def _checked(name: str, tensor: Tensor, source: str) -> Tensor:
    single = tensor.to(torch.float32)
    bad = int((~torch.isfinite(single)).sum())
    if bad:
        where = f" at {source}" if source else ""
        if not torch.isfinite(tensor.to(torch.float64)).all():
            what = "NaN" if bool(torch.isnan(single).any()) else "infinite"
            raise GanportError(
                f"{name}{where} holds {bad:,} {what} of {single.numel():,} numbers: the training diverged",
                hint="take an earlier checkpoint of the run",
            )
        raise GanportError(
            f"{name}{where} holds {bad:,} numbers beyond float32", hint="ganport exports float32 weights"
        )
    return single


def _notes(lazy: dict[str, LazyTensor]) -> list[str]:
    notes = []
    kinds = Counter(tensor.dtype for tensor in lazy.values() if tensor.dtype.is_floating_point)
    for dtype, count in kinds.items():
        if dtype != torch.float32:
            notes.append(f"{count} tensors converted from {_short(dtype)} to float32")
    devices = sorted({tensor.location for tensor in lazy.values() if tensor.location not in ("cpu", "")})
    if devices:
        shown = ", ".join(device if device.isprintable() else ascii(device) for device in devices[:4])
        notes.append(f"saved on {shown}, read to the CPU")
    return notes


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _hint(tensor: LazyTensor) -> str:
    if "quantised" in tensor.problem:
        return "export the unquantised weights, and quantise the artefact: gan-export onnx … --precision int8"
    return "save the plain tensors: state_dict() after moving the network to the CPU"


_EPS = 1e-12


@dataclass(frozen=True)
class _Scheme:
    """`parts` are name endings; the first is where the weight goes. `target` is the ending it gets."""

    what: str
    parts: tuple[str, ...]
    target: str
    fold: Callable[[list[Tensor], ModuleInfo | None], Tensor]


def fold(
    tensors: Mapping[str, Tensor], modules: Mapping[str, ModuleInfo] | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """(tensors, notes): the state_dict `tensors` (float32) with every normalised weight replaced by the weight that it
    stands for, and what was folded, one sentence a kind.

    `modules` (of a whole-module pickle) settles which dimension holds the output channels; otherwise the
    sizes of u and v do, or, for square kernels, which of the two u and v belong to.
    """
    current = dict(tensors)
    counts: dict[str, int] = {}
    for scheme in _SCHEMES:
        first = scheme.parts[0]
        for name in [name for name in current if name.endswith(first)]:
            stem = name.removesuffix(first)
            if stem and not stem.endswith("."):
                continue
            names = [stem + part for part in scheme.parts]
            if not all(part in current for part in names):
                continue
            owner = stem.rstrip(".")
            info = (modules or {}).get(owner)
            try:
                weight = scheme.fold([current[part] for part in names], info)
            except (RuntimeError, IndexError):  # shapes that belong to some other scheme: left as they are
                continue
            current = _replace(current, names, stem + scheme.target, weight)
            counts[scheme.what] = counts.get(scheme.what, 0) + 1
    current = _unwrap(current, tensors)
    return current, [f"{what} folded into {count} plain weight{'s'[: count > 1]}" for what, count in counts.items()]


def _replace(tensors: dict[str, Tensor], parts: list[str], target: str, weight: Tensor) -> dict[str, Tensor]:
    """`target` stands where the first of `parts` stood; the others, and a stale `target`, go."""
    made: dict[str, Tensor] = {}
    done = False
    for name, tensor in tensors.items():
        if name in parts or name == target:
            if not done:
                made[target] = weight
            done = True
        else:
            made[name] = tensor
    return made


def _unwrap(folded: dict[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the wrapper module of `weight_bar`: "l1.module.weight" → "l1.weight", its bias too."""
    wrapped = {name.removesuffix("weight_bar") for name in before if name.endswith(".module.weight_bar")}
    names = {}
    for name in folded:
        stem = f"{name.rpartition('.')[0]}."
        names[name] = name.replace(stem, stem.removesuffix("module."), 1) if stem in wrapped else name
    return {names[name]: tensor for name, tensor in folded.items()}


def _weight_norm(parts: list[Tensor], _info: ModuleInfo | None) -> Tensor:
    """The norm runs over all dimensions but the one that g has; over all of them when g is one number."""
    g, v = parts
    if g.dim() == 0:
        return torch._weight_norm(v, g, -1)
    if g.dim() != v.dim():
        raise RuntimeError("g is no norm of v")
    kept = [dim for dim in range(v.dim()) if g.shape[dim] > 1] or [dim for dim in range(v.dim()) if v.shape[dim] == 1]
    if len(kept) == 0 or g.shape[kept[0]] != v.shape[kept[0]] or g.numel() != g.shape[kept[0]]:
        raise RuntimeError("g is no norm of v")
    return torch._weight_norm(v, g, kept[0])


def _pruned(parts: list[Tensor], _info: ModuleInfo | None) -> Tensor:
    weight, mask = parts
    if weight.shape != mask.shape:
        raise RuntimeError("the mask does not fit")
    return weight * mask


def _spectral_norm(parts: list[Tensor], info: ModuleInfo | None) -> Tensor:
    weight, u, v = parts
    matrix = _matrix(weight, _out_dim(weight, u, v, info))
    return weight / torch.dot(u, torch.mv(matrix, v))


def _power_iteration(parts: list[Tensor], _info: ModuleInfo | None) -> Tensor:
    """sigma after one power iteration from u, over dimension 0 whatever the layer: what these classes compute."""
    weight, u = parts[0], parts[1].reshape(-1)
    matrix = weight.reshape(weight.shape[0], -1)
    if u.numel() != matrix.shape[0]:
        raise RuntimeError("u does not fit")
    v = F.normalize(torch.mv(matrix.t(), u), dim=0, eps=_EPS)
    u = F.normalize(torch.mv(matrix, v), dim=0, eps=_EPS)
    return weight / torch.dot(u, torch.mv(matrix, v))


def _matrix(weight: Tensor, dim: int) -> Tensor:
    if dim:
        weight = weight.permute(dim, *(other for other in range(weight.dim()) if other != dim))
    return weight.reshape(weight.shape[0], -1)


def _out_dim(weight: Tensor, u: Tensor, v: Tensor, info: ModuleInfo | None) -> int:
    fits = [
        dim
        for dim in range(min(2, weight.dim()))
        if u.dim() == v.dim() == 1 and u.numel() == weight.shape[dim] and u.numel() * v.numel() == weight.numel()
    ]
    if not fits:
        raise RuntimeError("u and v do not fit")
    if info is not None:
        told = info.settings.get("SpectralNorm.weight.dim", 1 if info.kind.startswith("ConvTranspose") else 0)
        if told in fits:
            return int(told)

    def agreement(dim: int) -> float:
        """|cos| between u and W v: near 1 when they were iterated on this matrix."""
        return float(F.cosine_similarity(u, torch.mv(_matrix(weight, dim), v), dim=0, eps=_EPS).abs())

    return max(fits, key=agreement)


_SCHEMES = (
    _Scheme("pruning masks", ("weight_orig", "weight_mask"), "weight", _pruned),
    _Scheme("pruning masks of biases", ("bias_orig", "bias_mask"), "bias", _pruned),
    _Scheme("spectral_norm", ("weight_orig", "weight_u", "weight_v"), "weight", _spectral_norm),
    _Scheme("weight_norm", ("weight_g", "weight_v"), "weight", _weight_norm),
    _Scheme(
        "weight_norm (parametrization)",
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        "weight",
        _weight_norm,
    ),
    _Scheme(
        "spectral_norm (parametrization)",
        ("parametrizations.weight.original", "parametrizations.weight.0._u", "parametrizations.weight.0._v"),
        "weight",
        _spectral_norm,
    ),
    _Scheme(
        "spectral_norm by a class of the author's", ("weight_bar", "weight_u", "weight_v"), "weight", _power_iteration
    ),
    _Scheme("mimicry's spectral_norm", ("weight", "sn_u", "sn_sigma"), "weight", _power_iteration),
    _Scheme("BigGAN's spectral_norm", ("weight", "u0", "sv0"), "weight", _power_iteration),
)
