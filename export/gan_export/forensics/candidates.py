"""What is tried for a choice: the values that people's generators have, the usual ones first.

The order is the habit that decides where the statistics do not: ReLU before LeakyReLU 0.01, eps 1e-5 before 1e-3.
"""

from __future__ import annotations

from typing import Any

from gan_core.spec.layers import LIMITED, SLOPED
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.statistics import witnesses

SLOPES = (0.2, 0.1, 0.01, 0.3)
ACTIVATIONS: tuple[dict[str, Any], ...] = (
    {"name": "relu", "slope": None},
    *({"name": "leaky_relu", "slope": slope} for slope in SLOPES),
    {"name": "identity", "slope": None},
    {"name": "elu", "slope": None},
    {"name": "selu", "slope": None},
    {"name": "gelu", "slope": None},
    {"name": "silu", "slope": None},
    {"name": "tanh", "slope": None},
    {"name": "softplus", "slope": None},
    {"name": "sigmoid", "slope": None},
)
EPS = (1e-5, 0.8, 1e-3, 0.1)
"""torch's default; the PyTorch-GAN family's (who mean momentum); Keras's and TensorFlow's; and one between."""
LAWS = ("normal", "uniform")
NEAR = 0.01
"""Two eps whose effect differs by less than this share are near-identical."""
INVISIBLE = 5e-4
"""Two eps whose effect differs by less than this share are not worth a run of their own."""

_USUAL: dict[str, tuple[Any, ...]] = {"activation": ACTIVATIONS, "eps": EPS, "latent": LAWS}
_NOT_TRIED = ("structure", "output", "value_range")


def values_to_try(choice: Choice) -> tuple[Any, ...]:
    """The values of `choice` worth running, without repeats: what a known family or the file's names suggest, then the
    usual ones, then the rest. A proved choice has one."""
    if choice.evidence is Evidence.PROVED or choice.field in _NOT_TRIED:
        return (choice.value,)
    values: list[Any] = []
    suggested = (choice.value,) if choice.evidence is not Evidence.NONE else ()
    for value in (*suggested, *_USUAL.get(choice.field, ()), choice.value, *choice.alternatives):
        if not any(same(choice.field, value, known) for known in values):
            values.append(value)
    return tuple(values)


def same(field: str, a: Any, b: Any) -> bool:
    """Whether two values mean the same network; LeakyReLU without a slope has 0.01."""
    return bool(_canonical(field, a) == _canonical(field, b))


def alike(draft: Draft, choice: Choice, a: Any, b: Any) -> bool:
    """Whether two values make networks so near that habit may decide between them: ReLU and LeakyReLU 0.01, or two eps
    that scale this BatchNorm's channels to within `NEAR` of each other (median channel)."""
    if choice.field == "eps" and choice.layer is not None:
        return eps_effect(draft, choice.layer, a, b) < NEAR
    if choice.field == "activation":
        return bool(_kind(a) == _kind(b))
    return same(choice.field, a, b)


def eps_effect(draft: Draft, layer: int, a: float, b: float) -> float:
    """By which share the outputs of the BatchNorm at `layer` differ between two eps (median channel)."""
    held = draft.weights[layer]
    if "running_var" not in held:
        return 0.0 if a == b else 1.0
    var = held["running_var"].double()
    return abs(float(((var + a) / (var + b)).sqrt().median()) - 1.0)


def segment_of(draft: Draft, choice: Choice) -> int:
    """Which witness (see `statistics.witnesses`) a choice shows in: 0 for the first; their number when after all.

    What a BatchNorm remembers depends on what stands before it. Its own eps shows only in the next.
    """
    if choice.layer is None:
        return 0
    return sum(index <= choice.layer for index in witnesses(draft))


def _canonical(field: str, value: Any) -> Any:
    if field == "activation":
        name, slope = value["name"], value.get("slope")
        limits = value.get("limits") or LIMITED.get(name)
        return name, SLOPED.get(name) if slope is None else slope, None if limits is None else tuple(limits)
    return value


def _kind(activation: dict[str, Any]) -> Any:
    canonical = _canonical("activation", activation)
    return ("relu", None, None) if canonical == ("leaky_relu", 0.01, None) else canonical
