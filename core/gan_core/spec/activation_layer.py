"""Activations: everything that maps each number by itself, and a softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

from gan_core.fields import Features, Number, Range, Shape
from gan_core.spec.layer import Layer, Reach, expect

ActivationName = Literal[
    "relu", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus",
    "tanh", "sigmoid", "hardtanh", "identity",
    "gelu_tanh", "hardsigmoid", "hardswish", "softsign", "log_sigmoid", "tanhshrink", "hardshrink", "softshrink",
    "threshold", "softmax", "log_softmax",
]  # fmt: skip
ACTIVATIONS: tuple[ActivationName, ...] = get_args(ActivationName)
SLOPED: dict[str, float] = {"leaky_relu": 0.01, "elu": 1.0, "celu": 1.0, "hardshrink": 0.5, "softshrink": 0.5}
"""Activations that have a `slope`, and torch's default."""
LIMITED: dict[str, tuple[float, float]] = {"hardtanh": (-1.0, 1.0), "softplus": (1.0, 20.0), "threshold": (0.0, 0.0)}
"""Activations that have `limits`, and torch's default."""

_CLASSES: dict[ActivationName, str] = {
    "relu": "ReLU", "leaky_relu": "LeakyReLU", "prelu": "PReLU", "elu": "ELU", "selu": "SELU", "celu": "CELU",
    "gelu": "GELU", "gelu_tanh": "GELU", "silu": "SiLU", "mish": "Mish", "softplus": "Softplus", "tanh": "Tanh",
    "sigmoid": "Sigmoid", "hardtanh": "Hardtanh", "identity": "Identity", "hardsigmoid": "Hardsigmoid",
    "hardswish": "Hardswish", "softsign": "Softsign", "log_sigmoid": "LogSigmoid", "tanhshrink": "Tanhshrink",
    "hardshrink": "Hardshrink", "softshrink": "Softshrink", "threshold": "Threshold", "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
}  # fmt: skip
"""The class of torch.nn that computes each."""


Bound = Annotated[float, Range(1e-6, 1e6)]


@dataclass(frozen=True)
class Activation(Layer):
    """An elementwise function, or a softmax over dimension 1.

    slope     LeakyReLU's negative slope, alpha of ELU and CELU, lambda of the shrinks; None is torch's default
    limits    hardtanh's (least, greatest), softplus's (beta, threshold), threshold's (threshold, value); None likewise
    features  PReLU's slopes, its tensor `weight`: 1 or the number of channels
    gain      what the function's value is multiplied by; None for 1
    clamp     bounds the product to -clamp … clamp; None for no bound
    """

    kind: ClassVar[str] = "activation"
    name: ActivationName
    slope: Number | None = None
    features: Features = 1
    limits: tuple[Number, Number] | None = None
    gain: Number | None = None
    clamp: Bound | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(self.slope is None or self.name in SLOPED, f"slope has no meaning for {self.name}, got {self.slope}")
        expect(self.limits is None or self.name in LIMITED, f"limits have no meaning for {self.name}")
        expect(self.features == 1 or self.name == "prelu", f"features have no meaning for {self.name}")
        if self.limits is not None:
            low, high = self.limits
            expect(self.name != "hardtanh" or low < high, f"limits must be (least, greatest), got {self.limits}")
            expect(self.name != "softplus" or low != 0, f"limits must be (beta, threshold), beta not 0: {self.limits}")

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        fits = self.name != "prelu" or self.features in (1, shape[0])
        expect(fits, f"has {self.features} slopes, gets {shape[0]} features")
        return shape

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.features,)} if self.name == "prelu" else {}

    def reach(self) -> Reach:
        return Reach()

    def words(self) -> str:
        limits = "" if self.limits is None else " ({:g}, {:g})".format(*self.limits)
        gain = "" if self.gain is None else f" x {self.gain:.6g}"
        clamp = "" if self.clamp is None else f", at most {self.clamp:g}"
        return self.name + (f" {self.slope:g}" if self.slope is not None else "") + limits + gain + clamp

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        x = module(x)
        x = x if self.gain is None else x * self.gain
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)

    def module(self, nn: Any, shape: Shape) -> Any:
        """`slope` and `limits` fall back to torch's defaults."""
        made = getattr(nn, _CLASSES[self.name])
        if self.name in SLOPED:
            return made(SLOPED[self.name] if self.slope is None else self.slope)
        if self.name in LIMITED:
            return made(*(LIMITED[self.name] if self.limits is None else self.limits))
        settings: dict[ActivationName, dict[str, Any]] = {
            "prelu": {"num_parameters": self.features},
            "gelu_tanh": {"approximate": "tanh"},
            "softmax": {"dim": 1},
            "log_softmax": {"dim": 1},
        }
        return made(**settings.get(self.name, {}))
