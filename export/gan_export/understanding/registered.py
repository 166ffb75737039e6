"""What a pickled whole module says beyond its tensors: classes and hyperparameters, read without running anything.

Only torch's own classes are believed: what a stranger's `stride` means, nobody knows. No modules prove nothing. What
the author's code says of each layer stands beside it: strides, paddings and what comes before a norm are taken from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from torch import Tensor

from gan_core.spec.layers import Activation, SpecError, UpsampleMode
from gan_export.reading.authors_words import Fact
from gan_export.reading.modules import ModuleInfo
from gan_export.understanding.chaining import ConvKind, Step
from gan_export.understanding.module_tree import Part, Tree, UnsaidError
from gan_export.understanding.rules import Rule
from gan_export.understanding.torch_modules import ACTIVATION_ROWS, PADS, UPSAMPLES, bounds_of
from gan_export.understanding.units import needs_code

CONV_CLASSES: dict[str, ConvKind] = {"Conv2d": "conv", "ConvTranspose2d": "conv_transpose"}


@dataclass(frozen=True)
class Between:
    """The modules without tensors between two units, as (class, hyperparameters); the class is "" unless it is torch's.

    `certain` when both units sit in one `nn.Sequential`, which runs what it lists, in order.
    """

    modules: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    certain: bool = False

    def activation(self) -> Activation | None:
        """The last activation among them; None when there is none."""
        return next((layer for name, hyper in reversed(self.modules) if (layer := _activation(name, hyper))), None)


def _activation(kind: str, hyper: Mapping[str, Any]) -> Activation | None:
    """What an elementwise module of torch computes; None for other modules, and for numbers that are none."""
    if kind not in ACTIVATION_ROWS:
        return None
    try:
        layer = ACTIVATION_ROWS[kind](Part("", ModuleInfo(kind, dict(hyper)), {}))[0]
    except (UnsaidError, SpecError):
        return None
    return layer if isinstance(layer, Activation) else None


class Registered(Tree):
    """What the modules say between units; every answer is None (or empty) where the file does not say.

    said  what the author's code says of places
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], modules: Mapping[str, ModuleInfo], said: Sequence[Fact] = ()
    ) -> None:
        super().__init__(tensors, modules)
        self._said = {(fact.field, fact.place): fact for fact in said if fact.place}

    def coded(self, names: Sequence[str]) -> str:
        """Where the author's code says the sizes of the convolutions `names`; "" unless it says all."""
        facts = [self._said.get(("rule", name)) for name in names]
        return facts[0].where if facts and facts[0] is not None and None not in facts else ""

    def behind(self, name: str) -> dict[str, Any] | None:
        """The activation that the author's code has behind a unit, as a choice's value; None where it says none."""
        fact = self._said.get(("activation", name))
        return None if fact is None or fact.value["name"] == "identity" else fact.value

    def hyper(self, name: str) -> Mapping[str, Any]:
        """The hyperparameters of the module of that name."""
        info = self.modules.get(name)
        return info.settings if info is not None and info.from_torch else {}

    def class_name(self, name: str) -> str:
        """The class of the module of that name, if torch defines it, or empty."""
        info = self.modules.get(name)
        return info.kind if info is not None and info.from_torch else ""

    def habit(self) -> Activation | None:
        """The one activation that the author's own class holds apart, to use it in many places (`self.relu`); None
        when it holds none or several. Those that end a network are not counted."""
        found = []
        for name in self.leaves:
            layer = _activation(self.class_name(name), self.hyper(name))
            parent = name.rpartition(".")[0]
            if layer and self.class_name(parent) != "Sequential" and not bounds_of(layer) and layer not in found:
                found.append(layer)
        return found[0] if len(found) == 1 else None

    def eps(self, name: str) -> float | None:
        """A norm's eps."""
        value = self.hyper(name).get("eps")
        return None if value is None else float(value)

    def rule(self, step: Step, before: str | None) -> Rule | None:
        """Stride and padding of a convolution that comes after the unit `before`, a padding module's included.

        Raises `GanportError` for numbers that a spec cannot say.
        """
        name = step.unit.name
        kind = CONV_CLASSES.get(self.class_name(name))
        hyper = self.hyper(name)
        if kind is None or "stride" not in hyper or "padding" not in hyper or kind not in step.kinds:
            fact = self._said.get(("rule", name))
            return Rule(**fact.value) if fact is not None and fact.value["kind"] in step.kinds else None
        padding, mode = _square(hyper["padding"], name, "padding"), hyper.get("padding_mode", "zeros")
        between = self.between(before, name)
        for class_name, padder in between.modules if between else ():
            if class_name in PADS and padding == 0:
                padding = _square(padder.get("padding", 0), name, "padding")
                mode = PADS[class_name]
        return Rule(
            kind,
            _square(hyper["stride"], name, "stride"),
            padding,
            _square(hyper.get("output_padding", 0), name, "output_padding"),
            dilation=_square(hyper.get("dilation", 1), name, "dilation"),
            padding_mode=mode,
        )

    def between(self, before: str | None, after: str | None) -> Between | None:
        """What stands between two units (None: the start or the end); None when the file does not say."""
        if before is not None and before not in self.leaves:
            return None
        if after is not None and after not in self.leaves:
            return None
        start = -1 if before is None else self.leaves.index(before)
        end = len(self.leaves) if after is None else self.leaves.index(after)
        if end <= start:
            return None
        names = self.leaves[start + 1 : end]
        listed = tuple((self.class_name(name), self.hyper(name)) for name in names)
        return Between(listed, self._sequential(before, after, names))

    def upsampling(self, before: str | None, after: str) -> int | None:
        """The factor by which the image grows between two units by upsampling; None when the file does not say."""
        if (fact := self._said.get(("rule", after))) is not None:
            return int(fact.value["upsample"])
        between = self.between(before, after)
        if between is None:
            return None
        factor = 1
        for name, hyper in between.modules:
            if name in UPSAMPLES:
                factor *= _square(hyper.get("scale_factor", 2), after, "scale_factor")
        return factor if between.certain else None

    def upsample_mode(self, before: str | None, after: str) -> tuple[UpsampleMode, bool] | None:
        """(mode, align_corners) of the upsampling between two units."""
        between = self.between(before, after)
        for name, hyper in between.modules if between else ():
            if name in UPSAMPLES:
                default = "bilinear" if name == "UpsamplingBilinear2d" else "nearest"
                mode = hyper.get("mode", default)
                if mode in get_args(UpsampleMode):
                    return mode, bool(hyper.get("align_corners", default == "bilinear"))
        return None

    def _sequential(self, before: str | None, after: str | None, inside: list[str]) -> bool:
        """Whether all containers from one to the other run their modules in the order listed."""
        if before is None or after is None:
            parent = (before or after or "").rpartition(".")[0]
            return self.runs_in_order(parent) and {n.rpartition(".")[0] for n in inside} <= {parent}
        return self.together(before, after)


def _square(value: Any, name: str, field: str) -> int:
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(set(numbers)) != 1 or not isinstance(numbers[0], (int, float)) or int(numbers[0]) != numbers[0]:
        raise needs_code(f"{name} has {field} {value!r}, expected one whole number for height and width")
    return int(numbers[0])
