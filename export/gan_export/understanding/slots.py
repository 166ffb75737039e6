"""Activations, norms and outputs: what a drafted layer leaves open, with its default and its alternatives."""

from __future__ import annotations

from typing import Any

from gan_core.latents import LATENT_LAWS
from gan_core.spec.layers import Activation
from gan_export.draft import Choice, Evidence
from gan_export.understanding.registered import Between
from gan_export.understanding.torch_modules import bounds_of
from gan_export.understanding.units import Gap

Value = dict[str, Any]

RELU: Value = {"name": "relu", "slope": None}
LEAKY: Value = {"name": "leaky_relu", "slope": 0.2}
IDENTITY: Value = {"name": "identity", "slope": None}
ACTIVATION_VALUES: tuple[Value, ...] = (
    RELU,
    LEAKY,
    {"name": "leaky_relu", "slope": 0.1},
    {"name": "leaky_relu", "slope": 0.01},
    {"name": "leaky_relu", "slope": 0.3},
    {"name": "leaky_relu", "slope": 0.05},
    IDENTITY,
    {"name": "elu", "slope": 1.0},
    {"name": "selu", "slope": None},
    {"name": "gelu", "slope": None},
    {"name": "silu", "slope": None},
    {"name": "tanh", "slope": None},
    {"name": "softplus", "slope": None},
)
EPS_VALUES = (1e-5, 0.8, 1e-3, 1e-4, 1e-2, 1e-6, 1e-8)

TANH: Value = {"name": "tanh", "slope": None, "value_range": [-1.0, 1.0]}
SIGMOID: Value = {"name": "sigmoid", "slope": None, "value_range": [0.0, 1.0]}
UPSAMPLE_VALUES: tuple[Value, ...] = (
    {"mode": "nearest", "align_corners": False},
    {"mode": "bilinear", "align_corners": False},
    {"mode": "bilinear", "align_corners": True},
)
OUTPUT_VALUES: tuple[Value, ...] = (
    TANH,
    SIGMOID,
    IDENTITY | {"value_range": [-1.0, 1.0]},
    IDENTITY | {"value_range": [0.0, 1.0]},
)


def activation(value: Value) -> Activation:
    """The layer of an activation's or output's value."""
    limits = value.get("limits")
    return Activation(value["name"], slope=value["slope"], limits=None if limits is None else tuple(limits))


def value_of(layer: Activation) -> Value:
    """An activation layer as a choice's value, a LeakyReLU's slope written out."""
    slope = 0.01 if layer.name == "leaky_relu" and layer.slope is None else layer.slope
    value = {"name": layer.name, "slope": slope}
    return value if layer.limits is None else value | {"limits": list(layer.limits)}


def activation_choice(layer: int, default: Value, gap: Gap, between: Between | None, where: str) -> Choice:
    """The activation after the unit `where`: what the file lists there, else `default`, else none where none fits."""
    if between is not None and (between.certain or between.activation() is not None):
        listed = between.activation()
        value = value_of(listed) if listed else IDENTITY
        evidence = Evidence.PROVED if between.certain else Evidence.WEAK
        reason = f"the file lists {listed.name if listed else 'no activation'} after {where}"
        alternatives = () if between.certain else others(value, ACTIVATION_VALUES)
        return Choice(layer, "activation", value, evidence, reason, alternatives)
    if gap.most == 0:
        reason = f"the numbering leaves no room for a module after {where}"
        return Choice(layer, "activation", IDENTITY, Evidence.WEAK, reason, others(IDENTITY, ACTIVATION_VALUES))
    if gap.least:
        reason = f"the numbering shows a module without weights after {where}, not which"
    else:
        reason = f"shapes do not show what stands after {where}"
    return Choice(layer, "activation", default, Evidence.NONE, reason, others(default, ACTIVATION_VALUES))


def output_choice(layer: int, between: Between | None) -> Choice:
    """The last activation and the range of values."""
    listed = between.activation() if between is not None else None
    if between is not None and listed is not None and (between.certain or bounds_of(listed)):
        value = _output_value(listed)
        evidence = Evidence.PROVED if between.certain else Evidence.WEAK
        alternatives = () if between.certain else others(value, OUTPUT_VALUES)
        return Choice(layer, "output", value, evidence, f"the file lists {listed.name} at the end", alternatives)
    reason = "nothing in the file shows what follows the last weights: tanh and images in [-1, 1] are assumed"
    return Choice(layer, "output", TANH, Evidence.NONE, reason, others(TANH, OUTPUT_VALUES))


def _output_value(listed: Activation) -> Value:
    value_range = [0.0, 1.0] if bounds_of(listed) == (0.0, 1.0) else [-1.0, 1.0]
    return value_of(listed) | {"value_range": value_range}


def eps_choice(layer: int, proved: float | None, where: str, default: float = 1e-5) -> Choice:
    """A norm's eps."""
    if proved is not None:
        return Choice(layer, "eps", proved, Evidence.PROVED, f"the file says so for {where}")
    reason = f"shapes do not show the eps of {where}"
    return Choice(layer, "eps", default, Evidence.NONE, reason, others(default, EPS_VALUES))


def latent_choice() -> Choice:
    """The law of z."""
    reason = "nothing in the file names the distribution of z"
    return Choice(None, "latent", "normal", Evidence.NONE, reason, LATENT_LAWS[1:])


def others(value: Any, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """`values` without `value`."""
    return tuple(other for other in values if other != value)
