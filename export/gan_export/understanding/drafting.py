"""One chain, one geometry, one head → one complete draft, with every open choice written down.

A skip without weights leaves no tensor, so a residual network
may pass for a chain: names may tell (`res1.conv2`), and two convolutions of one shape, C → C, in a block of their own
are how most residual blocks are written. A BatchNorm behind the block settles it: what reaches it through the chain is
what it remembers, or it is not.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.draft import Choice, Draft, Evidence, Skip
from gan_export.understanding import slots
from gan_export.understanding.chaining import Chain, Step
from gan_export.understanding.geometry import Geometry
from gan_export.understanding.heads import Head
from gan_export.understanding.registered import Registered
from gan_export.understanding.rules import Rule
from gan_export.understanding.units import Gap, gap_between

TOLD = re.compile(
    r"downsample|short_?cut|bypass|skip|resid|res(net)?_?(block|layer|unit)s?|c_sc|conv_sc|identity_conv", re.IGNORECASE
)
"""Parts of names that residual blocks have."""
ALONE = re.compile(r"res(net)?_?\d*s?", re.IGNORECASE)
"""Whole names of modules that residual blocks have."""


def skip_of(chain: Chain, registered: Registered) -> Skip | None:
    """Why `chain` may be no chain, or of other layers than it is read as; or None."""
    told = [i for i, step in enumerate(chain.steps) if _telling(step.unit.name)]
    if told:
        block = _telling(chain.steps[told[0]].unit.name)
        inside = [i for i in told if f"{chain.steps[i].unit.name}.".startswith(f"{block}.")]
        convs = sum(chain.steps[i].unit.kind == "conv" for i in inside)
        if convs < 2:  # one convolution of a block that others belong to
            block = chain.steps[told[0]].unit.name.rpartition(".")[0]
            inside = [
                i for i, step in enumerate(chain.steps) if f"{step.unit.name}.".startswith(f"{block}." * bool(block))
            ]
        last = inside[-1]
        names = ", ".join(chain.steps[i].unit.first_key for i in told[:2])
        return Skip(
            f"this is no plain sequence of layers but a residual network: it has {names}", True, _trained(chain, last)
        )
    attends = next((i for i, step in enumerate(chain.steps) if step.unit.kind == "attention"), None)
    if attends is not None:
        reason = f"{chain.steps[attends].unit.name} is read as self-attention of SAGAN's kind; nothing shows that it is"
        return Skip(reason, False, _trained(chain, attends))
    parent = _twins(chain, registered)
    if parent is None:
        return None
    inside = [i for i, step in enumerate(chain.steps) if step.unit.name.startswith(f"{parent}.")]
    reason = f"{parent} has two convolutions of one shape, as residual blocks have; nothing shows that no skip is there"
    return Skip(reason, False, _trained(chain, inside[-1]))


def _telling(name: str) -> str:
    """The dotted name up to the part that tells of a residual block; empty when none does."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if TOLD.search(part) or ALONE.fullmatch(part):
            following = i + 1 if i + 1 < len(parts) - 1 and parts[i + 1].isdecimal() else i
            return ".".join(parts[: following + 1])
    return ""


def _twins(chain: Chain, registered: Registered) -> str | None:
    """The first module, not the network itself, with two convolutions C → C of one shape in a row."""
    convs = [step for step in chain.steps if step.unit.kind == "conv"]
    everything = _common([step.unit.name for step in chain.steps if step.in_trunk])
    for first, second in itertools.pairwise(convs):
        shape = first.unit.shape
        parent = _common([first.unit.name, second.unit.name])
        alike = shape == second.unit.shape and shape[0] == shape[1] and shape[-1] > 1
        if alike and len(parent) > len(everything) and not _listed(first, second, registered):
            return parent
    return None


def _listed(first: Step, second: Step, registered: Registered) -> bool:
    """Whether the file says that nothing but what it lists runs between them."""
    between = registered.between(first.unit.name, second.unit.name)
    parents = first.unit.name.split(".")[:-1]
    above = [".".join(parents[:n]) for n in range(len(parents) + 1)]
    return bool(between and between.certain) and all(registered.class_name(name) == "Sequential" for name in above)


def _common(names: Sequence[str]) -> str:
    """The dotted name of the innermost module that holds all of `names`."""
    split = [name.split(".")[:-1] for name in names]
    same = 0
    while split and all(len(parts) > same and parts[same] == split[0][same] for parts in split):
        same += 1
    return ".".join(split[0][:same]) if split else ""


def _trained(chain: Chain, last: int) -> int:
    """How many BatchNorms that saw training stand up to step `last`."""
    return sum(step.unit.kind == "batch_norm" and step.unit.trained for step in chain.steps[: last + 1])


NORM_KINDS = ("batch_norm", "norm", "layer_norm")
GROUPS = (32, 16, 8, 4, 2)


def draft_chain(
    chain: Chain, geometry: Geometry, head: Head, image: tuple[int, int, int], registered: Registered, structure: Choice
) -> Draft:
    """The draft of one candidate. Raises `SpecError` when the layers do not make `image`."""
    builder = _Builder(chain, geometry, registered)
    builder.open(head)
    for index in range(len(chain.steps)):
        builder.step(index)
    value_range = builder.close(image)
    spec = GeneratorSpec(
        Interface(head.z_dim, image, value_range=value_range, n_classes=head.n_classes),
        tuple(builder.layers),
        name=f"chain-{image[1]}",
    )
    choices = (structure, slots.latent_choice(), *head.choices, *builder.choices)
    notes = (*head.notes, *builder.notes)
    return Draft(spec, tuple(builder.weights), choices, notes=notes, skip=skip_of(chain, registered))


def default_activation(chain: Chain) -> slots.Value:
    """What generators of this kind mostly have: ReLU with transposed convolutions, else LeakyReLU 0.2."""
    transposed = any("conv_transpose" in step.kinds for step in chain.steps)
    return slots.RELU if transposed else slots.LEAKY


@dataclass
class _Builder:
    chain: Chain
    geometry: Geometry
    registered: Registered
    layers: list[L.Layer] = field(default_factory=list)
    weights: list[dict[str, Tensor]] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    flat: bool = True
    ahead: bool = False
    """Whether an activation already stands before the norm of the block at hand."""

    def open(self, head: Head) -> None:
        if head.layer is not None:
            self._add(head.layer, head.embedding.tensors if head.embedding is not None else {})

    def step(self, index: int) -> None:
        step, rule = self.chain.steps[index], self.geometry.rules[index]
        self._reshape(step)
        if rule is not None and rule.upsample > 1:
            self._upsample(index, rule)
        self._layer(step, rule)
        if index < len(self.chain.steps) - 1:
            self._activation(index)

    def close(self, image: tuple[int, int, int]) -> tuple[float, float]:
        """Adds what comes after the last step; gives the range of values."""
        if self.chain.shuffle > 1:
            self._add(L.PixelShuffle(self.chain.shuffle))
        if self.geometry.resized:
            value = slots.UPSAMPLE_VALUES[0]
            reason = "the last layer's image is of another size: the author resized it"
            others = slots.others(value, slots.UPSAMPLE_VALUES)
            self.choices.append(Choice(len(self.layers), "upsample", value, Evidence.WEAK, reason, others))
            self._add(L.Upsample(size=image[1:], **value))
        between = self.registered.between(self.chain.steps[-1].unit.name, None)
        output = slots.output_choice(len(self.layers), between)
        self._slot(output)
        if self.flat:
            self._add(L.Reshape(image))
        black, white = output.value["value_range"]
        return black, white

    def _reshape(self, step: Step) -> None:
        if step.reshape is not None:
            self._add(L.Reshape(step.reshape))
            self.flat = False
        elif step.unit.kind == "conv" and self.flat:
            self._add(L.Reshape((step.takes, 1, 1)))
            self.flat = False
        if step.shuffle > 1:
            self._add(L.PixelShuffle(step.shuffle))

    def _upsample(self, index: int, rule: Rule) -> None:
        here = len(self.layers)
        before, after = self.chain.steps[index - 1].unit.name, self.chain.steps[index].unit.name
        listed = self.registered.upsample_mode(before, after)
        mode, corners = listed or ("nearest", False)
        self._add(L.Upsample(rule.upsample, mode, corners))
        value = {"mode": mode, "align_corners": corners}
        if listed:
            choice = Choice(here, "upsample", value, Evidence.PROVED, f"the file says so before {after}")
        else:
            reason = f"an upsampling before {after} leaves no tensor; nearest is torch's default"
            choice = Choice(here, "upsample", value, Evidence.WEAK, reason, slots.others(value, slots.UPSAMPLE_VALUES))
        self.choices.append(choice)

    def _layer(self, step: Step, rule: Rule | None) -> None:
        unit, here = step.unit, len(self.layers)
        self._add(self._made(step, rule), unit.tensors)
        if unit.kind == "batch_norm":
            proved = self.registered.eps(unit.name)
            self.choices.append(slots.eps_choice(here, proved, unit.name))
        if unit.kind == "norm" and not self.flat and not self.registered.class_name(unit.name):
            values = [L.GroupNorm(groups, step.features) for groups in GROUPS if step.features % groups == 0]
            reason = f"{unit.name} has no running statistics: an instance norm or a group norm"
            alternatives = tuple(value.to_json() for value in values)
            self.choices.append(Choice(here, "norm", self.layers[here].to_json(), Evidence.NONE, reason, alternatives))

    def _made(self, step: Step, rule: Rule | None) -> L.Layer:
        unit = step.unit
        match unit.kind:
            case "linear":
                return L.Linear(step.takes, step.features, bias=unit.bias)
            case "conv":
                assert rule is not None
                return _convolution(step, rule)
            case "slope":
                return L.Activation("prelu", features=unit.shape[0])
            case "layer_norm":
                return L.LayerNorm(unit.shape, eps=self.registered.eps(unit.name) or 1e-5)
            case "norm":
                return self._norm(step)
            case "attention":
                keys = unit.tensors["query.weight"].shape[0]
                self.notes.append(f"{unit.name} is self-attention over the places of {step.features} channels")
                return L.Attention(step.features, keys, step.features, pool=1, bias=True)
            case _:
                return L.BatchNorm(
                    unit.shape[0], eps=self.registered.eps(unit.name) or 1e-5, affine="weight" in unit.tensors
                )

    def _norm(self, step: Step) -> L.Layer:
        name, eps = step.unit.name, self.registered.eps(step.unit.name) or 1e-5
        if self.flat:
            return L.LayerNorm((step.features,), eps=eps)
        if self.registered.class_name(name) == "GroupNorm":
            return L.GroupNorm(int(self.registered.hyper(name).get("num_groups", 1)), step.features, eps=eps)
        return L.InstanceNorm(step.features, eps=eps, affine=True)

    def _activation(self, index: int) -> None:
        """The slot after a step: none around a PReLU or behind attention, and before a norm where something shows."""
        step, following = self.chain.steps[index], self.chain.steps[index + 1]
        where = step.unit.name
        if step.unit.kind in ("slope", "attention") or following.unit.kind == "slope":
            return
        gap, between = self._gap(index), self.registered.between(where, following.unit.name)
        habit = self.registered.habit()
        default = slots.value_of(habit) if habit else default_activation(self.chain)
        if following.unit.kind in NORM_KINDS:
            listed = between is not None and between.activation() is not None
            coded = self.registered.behind(where)
            self.ahead = listed or coded is not None or (gap.least > 0 and not (between and between.certain))
            if not self.ahead:
                return
            later = self._gap(index + 1) if index + 2 < len(self.chain.steps) and coded is None else Gap()
            default = slots.IDENTITY if later.least else coded or default
            self.ahead = default != slots.IDENTITY
        elif self.ahead:
            default, self.ahead = slots.IDENTITY, False
        self._slot(slots.activation_choice(len(self.layers), default, gap, between, where))

    def _gap(self, index: int) -> Gap:
        """The modules after a step that are not accounted for by what the next one needs before it."""
        step, rule = self.chain.steps[index + 1], self.geometry.rules[index + 1]
        gap = gap_between(self.chain.steps[index].unit.name, step.unit.name)
        upsampled = rule is not None and rule.upsample > 1
        unflattened = step.reshape is not None and gap.most is not None
        return gap.room(upsampled + unflattened + (step.shuffle > 1))

    def _slot(self, choice: Choice) -> None:
        self._add(slots.activation(choice.value))
        self.choices.append(choice)

    def _add(self, layer: L.Layer, tensors: dict[str, Tensor] | None = None) -> None:
        self.layers.append(layer)
        self.weights.append(dict(tensors or {}))


def _convolution(step: Step, rule: Rule) -> L.Layer:
    kernel, bias = step.unit.shape[-1], step.unit.bias
    if rule.kind == "conv_transpose":
        return L.ConvTranspose(
            step.takes, step.features, kernel, rule.stride, rule.padding, rule.output_padding, rule.dilation, bias=bias
        )
    return L.Conv(
        step.takes,
        step.features,
        kernel,
        rule.stride,
        rule.padding,
        rule.dilation,
        step.groups,
        bias,
        rule.padding_mode,
    )
