"""Why a file is no generator that a spec can say: one precise sentence, from names and shapes."""

from __future__ import annotations

import math
import re

from gan_core.errors import GanportError
from gan_core.interface import IMAGE_CHANNELS
from gan_export.understanding.chaining import Break, Chain
from gan_export.understanding.geometry import SIZE_COSTS
from gan_export.understanding.units import OWN_CODE, Unit, needs_code

PICK = 'gan-export inspect lists what the file holds; `key="a.b.c"` picks the generator'
TAKES_IMAGE = "gan-export takes generators that draw from a latent, not super-resolvers or image-to-image networks"
PARTS = "gan-export inspect lists what else the file holds"

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
    _check_dimensions(units)
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


def _check_dimensions(units: list[Unit]) -> None:
    """Convolutions of one and of three dimensions, which draw no images."""
    what = {3: ("one", "a sequence, such as sound"), 5: ("three", "a volume or a video")}
    keys = [f"{unit.name}.{local}" for unit in units for local in unit.tensors]
    if any(re.search(pattern, key, re.IGNORECASE) for pattern, _ in SIGNS for key in keys):
        return  # StyleGAN2 keeps an image's kernels in five dimensions
    for unit in units:
        weight = unit.tensors.get("weight")
        if weight is None or weight.dim() not in what or unit.kind == "layer_norm":
            continue
        count, drawn = what[weight.dim()]
        raise GanportError(
            f"{unit} is a convolution of {count} dimension{'s' * (count != 'one')}: the network makes {drawn}, "
            "no images",
            hint='ganport exports generators of images; pick another part of the file with `key="a.b.c"`',
        )


def check_ends(chain: Chain) -> None:
    """Raises `GanportError` when units chain, but not from a latent to an image: a classifier, an autoencoder."""
    first, last = chain.steps[0].unit, chain.steps[-1].unit
    if chain.flat and not _image_side(chain.flat) and chain.flat < chain.latent:
        raise GanportError(
            f"expected a generator, which ends in an image; {last.first_key} gives {_role(chain.flat, False)}",
            hint=PICK,
        )
    side = _image_side(chain.latent)
    if side and first.kind == "linear" and chain.flat == chain.latent:
        raise _not_latent(first, f"{chain.latent} numbers, an image of {side}", "and gives as many: an autoencoder")


def check_role(units: list[Unit]) -> None:
    """Raises `GanportError` when units that do not chain begin with an image."""
    trunk = [unit for unit in units if unit.kind in ("linear", "conv")]
    first, last = trunk[0], trunk[-1]
    image_in = _image_in(first)
    unknown_before = any(unit.kind == "unknown" for unit in units[: units.index(first)])
    if image_in is None or first is last or unknown_before:
        return
    if any(re.search(r"(^|[._])(enc|encoder|encode)([._\d]|$)", unit.name) for unit in units):
        raise GanportError(
            f"the file holds an encoder, {first.first_key} takes {image_in}: an autoencoder or image to image",
            hint='if it has a decoder that draws from a latent, pick it with `key="decoder"`',
        )
    if last.kind == "linear" and not _image_side(last.shape[0]):
        raise _not_latent(first, image_in, f"{last.first_key} gives {_role(last.shape[0])}")
    if last.kind == "conv" and last.shape[0] == 1 < last.shape[1] and not _ends_like_it_begins(first, last):
        raise _not_latent(first, image_in, f"{last.first_key} gives 1 channel: a discriminator")
    raise _not_latent(
        first, image_in, f"{last.first_key} ends it: an image-to-image network", f"{TAKES_IMAGE}; {PARTS}"
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


def _image_in(first: Unit) -> str | None:
    """What image the first layer takes, in words; None when it may take a latent."""
    if first.kind == "conv":
        takes, makes = first.shape[1], first.shape[0]
        if takes in (1, 3) and makes > takes:
            bias = first.shapes["bias"][0] if first.bias else makes
            return f"an image of {takes} channel{'s' * (takes > 1)}" if bias == makes else None
        return None
    takes, makes = first.shape[1], first.shape[0]
    side = _image_side(takes)
    if side and takes >= 784 and makes < takes:
        return f"{takes} numbers, an image of {side}"
    return None


def _image_side(n: int) -> str | None:
    for channels in (1, 3):
        side = math.isqrt(n // channels)
        if channels * side**2 == n and side in SIZE_COSTS and side >= 28:
            return f"{channels}x{side}x{side}"
    return None


def _ends_like_it_begins(first: Unit, last: Unit) -> bool:
    """Whether the last convolution goes back from the width that the first one made: image to image."""
    return first.shape[0] == last.shape[1] and first.shape[1] == last.shape[0]


def _role(out: int, takes_image: bool = True) -> str:
    if out == 1:
        return "1 number: a discriminator"
    return f"{out} numbers: a classifier or an encoder{'' if takes_image else ', or a generator of rows of a table'}"


def _not_latent(first: Unit, image_in: str, what: str, hint: str = PICK) -> GanportError:
    return GanportError(
        f"expected a generator, whose input is a latent; {first.first_key} takes {image_in}, {what}",
        hint=hint,
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _or(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" or {numbers[-1]}"
