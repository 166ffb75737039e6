"""Why a file is no generator that a spec can say: one precise sentence, from names and shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

from gan_core.errors import GanportError
from gan_core.image_input import IMAGE_CHANNELS
from gan_export.reading.kinds import WHAT, describe_role
from gan_export.understanding.chaining import Break, Chain
from gan_export.understanding.geometry import SIZE_COSTS
from gan_export.understanding.units import OWN_CODE, Unit, needs_code

PICK = 'gan-export inspect lists what the file holds; `key="a.b.c"` picks the generator'

SIGNS: tuple[tuple[str, str], ...] = (
    (
        r"mapping\.|modulat|to_?rgbs?\b|torgb|noise_strength|noise_const|style|adain|input\.const|const_input",
        "a StyleGAN-like network",
    ),
    (
        r"attn|attention|\bquery|\bkey_conv|\bvalue_conv|in_proj_weight|qkv|(^|\.)(theta|phi|snconv1x1_theta)\b",
        "a network with attention",
    ),
    (r"weight_[ih]h_l\d", "a recurrent network"),
    (r"downsample|shortcut|bypass|skip|resid|res_?blocks?\b|c_sc\b|conv_sc|identity_conv", "a residual network"),
    (r"cross_replica|ccbn|cbn|conditional_?bn|gain\.|gamma_embed|beta_embed", "a network with conditional norms"),
)
"""(pattern of keys, what they are a sign of): networks whose forward is no plain sequence."""


REMOVED = "torch.nn.utils.parametrize.remove_parametrizations on each layer, then save again; or "


def check_units(units: list[Unit]) -> None:
    """Raises `GanportError` when the file holds no weights, weights in parts that only code joins, or no images."""
    _check_parts(units)
    if not any(unit.kind in ("linear", "conv") for unit in units):
        raise GanportError(
            f"no layer with weights among {len(units)} entries, expected a generator's state_dict", hint=PICK
        )


def _check_parts(units: list[Unit]) -> None:
    """Weights that are made of others by code that no file holds; what is arithmetic was folded before."""
    mapped = {unit.name.removesuffix(".0") for unit in units if unit.name.endswith(".0") and "base" in unit.tensors}
    for unit in units:
        owner, _, parametrised = unit.name.rpartition(".")
        holder, _, parent = owner.rpartition(".")
        if parent == "parametrizations" or owner == "parametrizations":
            how = "an orthogonal map" if unit.name in mapped else "a function of the author's, or several in a row"
            name = ".".join(filter(None, (holder, parametrised.removesuffix(".0"))))
            raise GanportError(
                f"{name} is made of {unit.first_key} by torch.nn.utils.parametrize: {how}, which no file holds",
                hint=f"{REMOVED}{OWN_CODE}",
            )
        if "weight_orig" in unit.tensors:
            raise needs_code(
                f"{unit.name}.weight is made of {unit.name}.weight_orig by code that no file holds: an equalised "
                "learning rate?"
            )


def check_ends(chain: Chain) -> None:
    """Raises `GanportError` when units chain, but not from a latent to an image: a classifier, an autoencoder."""
    side = _image_side(chain.latent)
    if chain.flat and (
        (side and chain.flat == chain.latent) or (not _image_side(chain.flat) and chain.flat < chain.latent)
    ):
        raise GanportError(
            f"expected a generator, which makes an image of a few numbers; {chain.steps[0].unit.first_key} takes "
            f"{chain.latent} and {chain.steps[-1].unit.first_key} gives {chain.flat}",
            hint=PICK,
        )


def named(tensors: Mapping[str, Tensor], image: tuple[int, int, int] | None) -> GanportError | None:
    """The error that says what network `tensors` are of, where that is no generator of images; None where they may be.

    Rows of a table may be images all the same where the user gives their size.
    """
    report = describe_role(tensors)
    if report.role not in WHAT or (image is not None and report.role == "table"):
        return None
    what, hint = WHAT[report.role]
    return GanportError(
        f"this looks like {what}, expected a generator of images: it {report.reason}", hint, report.role
    )


def not_a_chain(units: list[Unit], broke: Break, channels: int | None = None) -> GanportError:
    """The error for units that do not chain: the tell-tale names where there are any, else where it breaks."""
    keys = [f"{unit.name}.{local}" for unit in units for local in unit.tensors]
    for pattern, sign in SIGNS:
        seen = [key for key in keys if re.search(pattern, key, re.IGNORECASE)]
        if seen:
            return needs_code(f"this is no plain sequence of layers but {sign}: it has {_some(seen)}")
    strange = [unit for unit in units if unit.kind == "unknown"]
    if strange:
        unit = strange[0]
        lacking = _lacking(unit)
        if lacking:
            return GanportError(
                f"{unit.name}.{lacking} is missing, the rest of {unit.name} is there",
                hint="it was saved or converted incompletely: get the whole file, or pick another part with `key`",
            )
        found = ", ".join(f"{local} {list(shape)}" for local, shape in unit.shapes.items())
        return needs_code(f"{unit.name or 'the root'} is no layer that a spec knows: it has {found}")
    if broke.position == 0 and broke.unit is None:
        return needs_code(f"{len(units)} modules with weights, more than any chain that is searched")
    if broke.unit is None:
        return needs_code(
            f"the last layer gives {broke.given}, expected an image of {channels or _or(IMAGE_CHANNELS)} channels"
        )
    return GanportError(
        f"the layers do not chain: {broke.unit} comes after {broke.given}, which it cannot take",
        hint=f"a branch, a skip or another order of layers: {OWN_CODE}",
    )


def _lacking(unit: Unit) -> str:
    """The one tensor that would make `unit` a BatchNorm or a layer with weights; empty when that is not it."""
    names = set(unit.tensors)
    statistics = {"running_mean", "running_var"} - names
    if len(statistics) == 1:
        return statistics.pop()
    return "weight" if names == {"bias"} else ""


def _image_side(n: int) -> str | None:
    for channels in (1, 3):
        side = math.isqrt(n // channels)
        if channels * side**2 == n and side in SIZE_COSTS and side >= 28:
            return f"{channels}x{side}x{side}"
    return None


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _or(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" or {numbers[-1]}"
