"""The layers that a `GeneratorSpec` is made of: plain data, with every number that the weights do not carry.

Each kind is one class, which knows its JSON fields, the shape it makes of a sample's shape, the tensors it owns, its
work and its module (`layer.Layer`). Another package adds kinds with entry points of the group "ganport.layers": the
kind's name, and the module that defines its class.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from gan_core.fields import Shape, SpecError, from_json, shown
from gan_core.spec import LAYER_KINDS, Layer, json_name
from gan_core.spec.norm_layers import (
    ACTIVATIONS,
    LIMITED,
    SLOPED,
    Activation,
    ActivationName,
    BatchNorm,
    ChannelNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LocalResponseNorm,
    PixelNorm,
    RmsNorm,
)
from gan_core.spec.shape_layers import (
    AdaptivePool,
    ChannelShuffle,
    Glu,
    Pad,
    PaddingMode,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    Reshape,
    Upsample,
    UpsampleMode,
)
from gan_core.spec.style_layers import Bias, Constant, Fir, FourierInput, ModulatedConv, Noise, Styles
from gan_core.spec.value_layers import (
    Add,
    Concat,
    LabelEmbedding,
    LabelOneHot,
    LinearAttention,
    Load,
    LocalAttention,
    Merge,
    Modulate,
    Multiply,
    Slice,
)
from gan_core.spec.weight_layers import Attention, Conv, ConvTranspose, Linear

__all__ = [
    "ACTIVATIONS", "LAYER_KINDS", "LIMITED", "SLOPED", "Activation", "ActivationName", "AdaptivePool", "Add",
    "Attention", "BatchNorm", "Bias", "ChannelNorm", "ChannelShuffle", "Concat", "Constant", "Conv", "ConvTranspose",
    "Fir", "FourierInput", "Glu", "GroupNorm", "InstanceNorm", "LabelEmbedding", "LabelOneHot", "Layer", "LayerNorm",
    "Linear", "LinearAttention", "Load", "LocalAttention", "LocalResponseNorm", "Merge", "Modulate", "ModulatedConv",
    "Multiply", "Noise", "Pad", "PaddingMode", "PixelNorm", "PixelShuffle", "PixelUnshuffle", "Pool", "Reshape",
    "RmsNorm", "Shape", "Slice", "SpecError", "Styles", "Upsample", "UpsampleMode", "layer_from_json", "layer_kind",
]  # fmt: skip

GROUP = "ganport.layers"


def layer_kind(kind: object) -> type[Layer] | None:
    """The class of a kind of layer, of ganport's own or of an entry point; None where there is none."""
    if not isinstance(kind, str):
        return None
    if kind not in LAYER_KINDS:
        from importlib import metadata  # which nobody needs for a kind that is known

        for entry_point in metadata.entry_points(group=GROUP, name=kind):
            entry_point.load()
    return LAYER_KINDS.get(kind)


def layer_from_json(values: Any) -> Layer:
    """One layer from its JSON object. Raises `SpecError` for an unknown kind, and for a field that is unknown, missing,
    of another type or out of its range."""
    kinds = f"kinds: {', '.join(LAYER_KINDS)}"
    if not isinstance(values, dict) or "kind" not in values:
        raise SpecError("a layer must be an object with a 'kind'", hint=kinds)
    kind = values["kind"]
    cls = layer_kind(kind)
    if cls is None:
        raise SpecError(f"unknown layer kind {shown(kind)}", hint=kinds)
    known = {json_name(field.name): field for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(known) - {"kind"})
    missing = sorted(
        name for name, field in known.items() if field.default is dataclasses.MISSING and name not in values
    )
    for words, names in (("unknown field", unknown), ("lacks the field", missing)):
        if names:
            raise SpecError(f"{kind}: {words} {shown(names[0])}", hint=f"fields of {kind}: {', '.join(sorted(known))}")
    return from_json(cls, {known[name].name: value for name, value in values.items() if name != "kind"})
