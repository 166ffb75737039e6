"""Which of a forward's parameters is the latent and which the label, and how wide both may be: from the signature, the
module's attributes and its layers.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from gan_core.errors import GanportError
from gan_core.said import Inputs
from gan_export.reading.roles import tokens, words

LABEL_NAMES = words(
    "label labels y c cls class_ class_id class_ids classes class_label class_labels class_idx target targets "
    "gen_labels one_hot onehot y_onehot cond condition conditions category categories digit digits"
)
LABEL_WORDS = words("label labels class classes onehot hot category categories digit digits y")
"""Words that name a class and nothing else: a condition may be any vector."""
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Forward:
    """A forward's parameters.

    named       all that have a name, in order
    free        those that no constant answers
    required    those of them without a default
    open_ended  it takes *args: the signature does not say what
    text        the signature for people
    """

    named: tuple[inspect.Parameter, ...]
    free: tuple[inspect.Parameter, ...]
    required: tuple[inspect.Parameter, ...]
    open_ended: bool
    text: str

    @property
    def label(self) -> inspect.Parameter | None:
        """The parameter that is a label by its name, or by being the second one required."""
        named = [p for p in self.free if p.name.lower() in LABEL_NAMES]
        named = named or [p for p in self.free if says_label(p.name)]
        if named:
            return named[0]
        return self.required[1] if len(self.required) == 2 else None


def says_label(name: str) -> bool:
    """Whether a parameter's or a layer's name has a word for a class in it: "onehot_label", "y"."""
    return bool(LABEL_WORDS & set(tokens(name.replace(".", "_"))))


def forward_of(module: nn.Module, constants: Collection[str]) -> Forward:
    """The signature of `module.forward`. Raises `GanportError` for a constant that it does not take."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):  # scripted, or written in C
        return Forward((), (), (), True, "forward(…)")
    parameters = list(signature.parameters.values())
    named = [p for p in parameters if p.kind in (*_POSITIONAL, p.KEYWORD_ONLY)]
    keywords = any(p.kind is p.VAR_KEYWORD for p in parameters)
    text = f"forward({', '.join(_plain(p) for p in parameters)})"
    for name in constants:
        if not keywords and name not in {p.name for p in named if p.kind is not p.POSITIONAL_ONLY}:
            raise GanportError(
                f"`constant` {name}: {text} has no parameter of that name", hint="name one of its parameters"
            )
    free = tuple(p for p in named if p.name not in constants)
    required = tuple(p for p in free if p.default is p.empty)
    return Forward(tuple(named), free, required, not free and any(p.kind is p.VAR_POSITIONAL for p in parameters), text)


SWITCHES = {"noise_mode": '"const"', "randomize_noise": "false"}
"""Parameters that switch a network's random noise, and the value that keeps it the same, as JSON."""
FULL = "force_fp32"
"""The parameter by which NVlabs' networks compute all in float32."""


def takes(module: nn.Module, name: str) -> bool:
    """Whether `module.forward` takes a parameter of that name, itself or by handing on what it is given by name."""
    try:
        parameters = inspect.signature(module.forward).parameters
    except (TypeError, ValueError):
        return False
    handed_on = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return name in parameters or (handed_on and any(takes(child, name) for child in module.children()))


def given_inputs(forward: Forward, inputs: Inputs) -> Inputs:
    """The `inputs` that were said, checked against the signature."""
    names = {p.name for p in forward.free}
    for _, name in inputs:
        if name is not None and names and name not in names:
            raise GanportError(
                f"`inputs` names {name!r}, {forward.text} has no such parameter",
                hint=f"parameters that can be fed: {', '.join(sorted(names))}",
            )
    return inputs


def possible_inputs(forward: Forward, conditional: bool | None) -> list[Inputs]:
    """The ways to pass a latent and, where `conditional` allows it, a label; the likelier first.

    conditional  True: with a label. False: without. None: as the signature says.
    Raises `GanportError` when the forward wants more than two inputs.
    """
    if forward.open_ended:
        with_label: list[Inputs] = [(("z", None), ("label", None)), (("label", None), ("z", None))]
        return ([] if conditional is False else with_label if conditional else []) or [(("z", None),)]
    if len(forward.required) > 2:
        rest = ", ".join(p.name for p in forward.required[1:] if p is not forward.label)
        raise GanportError(
            f"{forward.text} wants {len(forward.required)} inputs, expected a latent and at most a label",
            hint=f"fix the others: `constant` NAME=VALUE for those of {rest} that are neither",
        )
    label = forward.label
    if conditional and label is None and len(forward.free) > 1:
        label = forward.free[1]
    must = label is not None and label in forward.required and len(forward.required) == 2
    if label is None or conditional is False or (conditional is None and not must):
        if must and conditional is False:
            raise GanportError(
                f"{forward.text} wants a label or another input, and there are no classes",
                hint=f"`classes` N, or `constant` {label.name if label else 'NAME'}=VALUE when it is no label",
            )
        latent = next((p for p in (*forward.required, *forward.free) if p is not label), None)
        return [] if latent is None else [(_passed(forward, [("z", latent)]))]
    latents = [p for p in (*forward.required, *forward.free) if p is not label]
    if not latents:
        return []
    pairs = [(latents[0], label)]
    if label.name.lower() not in LABEL_NAMES:
        pairs.append((label, latents[0]))
    order = list(forward.free)
    return [_passed(forward, sorted([("z", z), ("label", y)], key=lambda pair: order.index(pair[1]))) for z, y in pairs]


def _passed(forward: Forward, pairs: list[tuple[str, inspect.Parameter]]) -> Inputs:
    """By position as far as the signature's order allows it, the rest by name."""
    found: list[tuple[str, str | None]] = []
    in_order = True
    for index, (role, parameter) in enumerate(pairs):
        in_order = in_order and parameter.kind in _POSITIONAL and forward.named[index] is parameter
        found.append((role, None if in_order else parameter.name))
    return tuple(found)


def _plain(parameter: inspect.Parameter) -> str:
    text = str(parameter.replace(annotation=parameter.empty))
    return text if len(text) <= 40 else f"{parameter.name}=…"


Z_NAMES = words(
    "z_dim nz latent_dim dim_z style_dim noise_dim latent_size z_size noise_size dim_latent encoding_dims code_dim "
    "latent_channels num_z_units n_z zdim input_dim in_dim z_channels latent noise"
)
CLASS_NAMES = words("n_classes num_classes nclasses n_class num_class label_dim c_dim n_labels num_labels label_nc")
_CONFIGS = ("config", "cfg", "opt", "opts", "args", "hparams", "params")
MOST_LAYERS = 8
MOST_WIDE = 1 << 20


def latent_widths(module: nn.Module, n_classes: int) -> list[int]:
    """Candidates for z_dim, the likelier first: attributes, then what the first layers take, less room for a label.

    A label may have a layer of its own: its width comes last, and what it makes is room in the layers behind it.
    """
    embedded = [part.embedding_dim for part in module.modules() if isinstance(part, nn.Embedding)]
    found = list(_attributes(module, Z_NAMES))
    layers = list(_layer_inputs(module))[:MOST_LAYERS]
    own = [
        part.out_features for part in module.modules() if isinstance(part, nn.Linear) and part.in_features == n_classes
    ]
    for width in layers:
        found += [width - taken for taken in (n_classes, *embedded, *own) if n_classes and taken]
        found.append(width)
    return sorted(_distinct(found), key=lambda width: n_classes > 0 and width == n_classes)  # stable: only that moves


def counts_taken(module: nn.Module) -> list[int]:
    """What the first layers take, as numbers of classes of a one-hot label that has a layer of its own; at least two.

    Layers that a label's name stands for come first.
    """
    first = [
        (name, part.in_features if isinstance(part, nn.Linear) else part.in_channels)
        for name, part in module.named_modules()
        if isinstance(part, (nn.Linear, nn.ConvTranspose2d))
    ][:MOST_LAYERS]
    if len(first) < 2:
        return []
    named = [width for name, width in first if says_label(name)]
    return [n for n in _distinct([*named, *(width for _, width in first)]) if n > 1]


def class_counts(module: nn.Module) -> list[int]:
    """Candidates for the number of classes: attributes, then embeddings."""
    tables = [part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding)]
    return [n for n in _distinct([*_attributes(module, CLASS_NAMES), *tables]) if n > 1]


def without_classes(module: nn.Module) -> bool:
    """Whether attributes say that there are 0 classes."""
    return {*_attributes(module, CLASS_NAMES)} == {0}


def counts_beside(module: nn.Module, z_dim: int | None) -> list[int]:
    """What the first layers take beyond a latent of `z_dim`, or of what attributes say: room for a one-hot label."""
    widths = [z_dim] if z_dim is not None else list(_attributes(module, Z_NAMES))
    beyond = [taken - width for taken in list(_layer_inputs(module))[:MOST_LAYERS] for width in widths]
    return [n for n in _distinct(beyond) if n > 1]


def _attributes(module: nn.Module, names: frozenset[str]) -> Iterator[int]:
    """Whole numbers of these names: the module's, its configuration's, its direct parts'."""
    holders: list[Any] = [module, *(getattr(module, name, None) for name in _CONFIGS), *module.children()]
    for holder in holders:
        values = holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})
        for name, value in values.items():
            if name in names and isinstance(value, int) and not isinstance(value, bool):
                yield value


def _layer_inputs(module: nn.Module) -> Iterator[int]:
    for part in module.modules():
        if isinstance(part, nn.Linear):
            yield part.in_features
        elif isinstance(part, (nn.ConvTranspose2d, nn.Conv2d)):
            yield part.in_channels
        elif type(part) not in _KNOWN and not list(part.children()):
            for name, parameter in part.named_parameters(recurse=False):  # layers of the author's, such as EqualLinear
                if name.endswith("weight") and parameter.dim() in (2, 4):
                    yield int(parameter.shape[1])
                    yield int(parameter.shape[0])


_KNOWN = {nn.Embedding, nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.PReLU}


def _distinct(values: list[int]) -> list[int]:
    return list(dict.fromkeys(value for value in values if 0 < value <= MOST_WIDE))
