"""The order in which an author's code runs its layers, and what it says of each; read, and never run.

The statements of a method are followed one after the other, arguments before the call that takes them. Where they do
what no list of layers says (a loop, a branch, a sum, a part of another class), the reading ends, and nothing is said.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from gan_core.spec.layers import PaddingMode
from gan_export.reading.authors_words import (
    ACTIVATIONS,
    ENDS,
    NORMS,
    PRODUCTS,
    Fact,
    activation_of,
    literal,
    name_of,
    where,
    whole,
)

CONVOLUTIONS = {
    "Conv2d": ("stride", "padding", "dilation"), "ConvTranspose2d": ("stride", "padding", "output_padding"),
}  # fmt: skip
"""The arguments behind channels and kernel that say a convolution's size, in torch's order."""
UNSIZED = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
OTHERS = ("bias", "in_channels", "out_channels", "kernel_size", "padding_mode")
LAYERS = (*CONVOLUTIONS, *NORMS, "Linear", "LayerNorm", "InstanceNorm2d", "Embedding")
UPSAMPLES = ("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d", "interpolate", "upsample")
LIMITS = ("clamp", "clamp_", "clip", "Hardtanh", "hardtanh")
PASSING = ("Dropout", "Dropout1d", "Dropout2d", "AlphaDropout", "Flatten", "Unflatten", "Identity")
"""Modules that change no number in eval mode."""
WRAPPERS = ("spectral_norm", "weight_norm")
HARMLESS = ("print", "len", "int", "float", "list", "tuple", "range", "super", "isinstance")
ARITHMETIC = ("add", "sub", "mul", "div", "add_", "sub_", "mul_", "div_", "exp", "pow", "neg", "abs", "sqrt", "softmax")
DEPTH = 4
"""Methods that call each other."""
BEHIND = {"relu": [0.0, 1.0], "softplus": [0.0, 1.0]}
"""The range of images that end in an activation of hidden layers; [-1, 1] behind the others."""


class _LostError(Exception):
    """The code does what is not followed."""


@dataclass(frozen=True)
class Ran:
    """A layer or function where it runs: its part of the checkpoint, "" for none; what torch calls it; its call."""

    part: str
    kind: str
    call: ast.Call


def facts_by_place(
    node: ast.AST, tree: ast.AST, owners: Collection[str], known: Mapping[str, int], label: str
) -> list[Fact] | None:
    """What `node`, a class or list of layers in `tree`, says of each of `owners`, the parts of the checkpoint that have
    weights; None where its order is not followed. `known` has the whole numbers that names stand for."""
    try:
        return list(_said(_order(node, tree, owners), owners, known, label))
    except _LostError:
        return None


def _order(node: ast.AST, tree: ast.AST, owners: Collection[str]) -> list[Ran]:
    """What runs from the first of `owners` on. Raises `_LostError`."""
    if not isinstance(node, ast.ClassDef):
        walk = _Walk({}, {}, {})
        walk.made("", node)
        return _from_the_first(walk.ran, owners)
    methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
    start = methods.pop("__init__", None)
    if start is None:
        raise _LostError
    found: list[list[Ran]] = []
    for name in methods:
        walk = _Walk(_attributes(start), methods, _arguments(start, node.name, tree))
        with contextlib.suppress(_LostError):
            walk.method(name)
            found.append(_from_the_first(walk.ran, owners))
    if not found:
        raise _LostError
    return min(found, key=len)


def _from_the_first(ran: list[Ran], owners: Collection[str]) -> list[Ran]:
    """`ran` from the first of `owners` on. Raises `_LostError` unless each runs once, and nothing else has weights."""
    parts = [one.part for one in ran if one.part in owners]
    if sorted(parts) != sorted(owners):
        raise _LostError
    ran = ran[next(i for i, one in enumerate(ran) if one.part in owners) :]
    if any(one.kind in LAYERS and one.part not in owners and one.kind not in NORMS for one in ran):
        raise _LostError
    return ran


def _attributes(start: ast.FunctionDef) -> dict[str, ast.expr | None]:
    """What `__init__` makes of each attribute; None where that differs."""
    found: dict[str, ast.expr | None] = {}
    for one in ast.walk(start):
        targets = one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
        value = one.value if isinstance(one, (ast.Assign, ast.AnnAssign)) else None
        for target in targets:
            if isinstance(target, ast.Attribute) and value is not None:
                other = found.get(target.attr, value)
                same = other is not None and ast.unparse(other) == ast.unparse(value)
                found[target.attr] = value if same else None
    return found


def _arguments(start: ast.FunctionDef, name: str, tree: ast.AST) -> dict[str, ast.expr]:
    """What the arguments of `__init__` are: as the code calls the class where it does so in one way, else the
    defaults."""
    names = [argument.arg for argument in start.args.args]
    taken = dict(zip(reversed(names), reversed(start.args.defaults), strict=False))
    given: dict[str, dict[str, ast.expr]] = {}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and name_of(call) == name:
            said = dict(zip(names[1:], call.args, strict=False)) | {k.arg: k.value for k in call.keywords if k.arg}
            given[ast.unparse(call)] = said
    return taken | (next(iter(given.values())) if len(given) == 1 else {})


class _Walk:
    """Follows code and writes down what it runs, in `ran`."""

    def __init__(
        self,
        attributes: Mapping[str, ast.expr | None],
        methods: Mapping[str, ast.FunctionDef],
        arguments: Mapping[str, ast.expr],
    ) -> None:
        self.ran: list[Ran] = []
        self._attributes, self._methods, self._arguments = attributes, methods, arguments
        self._live: set[str] = set()
        self._depth = 0

    def method(self, name: str) -> None:
        if self._depth >= DEPTH:
            raise _LostError
        self._depth += 1
        self._live |= {argument.arg for argument in self._methods[name].args.args[1:]}
        for statement in self._methods[name].body:
            self._statement(statement)
        self._depth -= 1

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign() | ast.AnnAssign() | ast.Return() | ast.Expr():
                before = len(self.ran)
                if node.value is not None:
                    self._value(node.value)
                targets = node.targets if isinstance(node, ast.Assign) else []
                names = {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
                if len(self.ran) > before:
                    self._live |= names
            case ast.With():
                for inner in node.body:
                    self._statement(inner)
            case ast.If() if node.orelse and "data_parallel" in ast.unparse(node.body[0]):
                for inner in node.orelse:
                    self._statement(inner)
            case _ if any(isinstance(one, (ast.Call, ast.AugAssign, ast.BinOp)) for one in ast.walk(node)):
                before = len(self.ran)
                if isinstance(node, ast.If):  # one that runs no layer, such as a check of shapes
                    for one in (*node.body, *node.orelse):
                        self._statement(one)
                if not isinstance(node, (ast.If, ast.Assert, ast.Raise)) or len(self.ran) > before:
                    raise _LostError

    def _value(self, node: ast.AST) -> None:
        if isinstance(node, ast.Call):
            self._call(node)
            return
        before = len(self.ran)
        for child in ast.iter_child_nodes(node):
            self._value(child)
        ran = len(self.ran) > before
        if isinstance(node, ast.BinOp):
            ran = ran or any(isinstance(one, ast.Name) and one.id in self._live for one in (node.left, node.right))
        if isinstance(node, ast.BinOp) and self._joins(type(node.op).__name__, node.left, node.right):
            return
        if ran and isinstance(node, (ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Lambda, ast.comprehension)):
            raise _LostError

    def _joins(self, kind: str, *operands: ast.expr) -> bool:
        """Whether an operation joins a label with z, which is heard of apart: nothing but the label's table ran yet."""
        numbers = any(isinstance(one, ast.Constant) for one in operands)
        return kind in PRODUCTS and not numbers and {one.kind for one in self.ran} == {"Embedding"}

    def _call(self, call: ast.Call) -> None:
        func, name = call.func, name_of(call)
        own = isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "self"
        if isinstance(func, ast.Attribute) and not own:
            self._value(func.value)
        for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
            self._value(argument)
        if own:
            if name in self._methods:
                self.method(name)
            else:
                self.made(name, self._attributes.get(name))
        elif isinstance(func, ast.Call):
            self.made("", func)
        elif name in ACTIVATIONS or name in UPSAMPLES or name in LIMITS:
            self.ran.append(Ran("", name, call))
        else:
            unknown = isinstance(func, ast.Name) and name not in HARMLESS
            live = any(isinstance(one, ast.Name) and one.id in self._live for one in call.args)
            if self._joins(name, *call.args):
                return
            if name in ARITHMETIC or not isinstance(func, (ast.Attribute, ast.Name)) or (unknown and live):
                raise _LostError

    def made(self, part: str, node: ast.AST | None) -> None:
        """Runs what `node` makes, the checkpoint's `part`."""
        if isinstance(node, ast.Name):
            node = self._arguments.get(node.id)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self._arguments:
            given = ast.Call(self._arguments[node.func.id], node.args, node.keywords)
            node = ast.copy_location(given, node)
        if not isinstance(node, ast.Call):
            raise _LostError
        kind = name_of(node)
        if kind == "Sequential":
            for place, one in enumerate(node.args):
                self.made(f"{part}.{place}" if part else str(place), one)
        elif kind in WRAPPERS and node.args:
            self.made(part, node.args[0])
        elif kind in LAYERS or kind in ACTIVATIONS or kind in UPSAMPLES or kind in LIMITS or kind == "PReLU":
            self.ran.append(Ran(part, kind, node))
        elif kind not in PASSING:
            raise _LostError


def _said(ran: list[Ran], owners: Collection[str], known: Mapping[str, int], label: str) -> Iterator[Fact]:
    """What each part that has weights, and what runs behind it, says. Raises `_LostError` where two activations stand
    behind one another, or one is computed."""
    at = [i for i, one in enumerate(ran) if one.part in owners]
    upsamples: list[Ran] = []
    for i, following in zip(at, [*at[1:], len(ran)], strict=True):
        one, behind = ran[i], ran[i + 1 : following]
        active = [other for other in behind if other.kind in ACTIVATIONS or other.kind in LIMITS]
        values = [_activation(other) for other in active]
        if len(active) > 1 or any(value["name"] is None for value in values):
            raise _LostError
        if one.kind in NORMS and (eps := literal(one.call, 1, "eps", 1e-5)) is not None:
            yield Fact("eps", eps, where(label, one.call), one.part)
        if one.kind in CONVOLUTIONS and (rule := _rule(one, upsamples, known)) is not None:
            yield Fact("rule", rule, where(label, one.call), one.part)
        upsamples = [other for other in behind if other.kind in UPSAMPLES]
        value: dict[str, Any] = values[0] if active else {"name": "identity", "slope": None}
        said = where(label, active[0].call if active else one.call)
        if following < len(ran):
            yield Fact("activation", value, said, one.part)
        else:
            limits = value.get("limits") or ENDS.get(value["name"]) or BEHIND.get(value["name"], [-1.0, 1.0])
            limits = limits if active else None  # what is drawn may be squashed elsewhere, as with a loss of logits
            yield Fact("output", value | {"value_range": limits}, said, one.part)


def _activation(one: Ran) -> dict[str, Any]:
    """What a call computes, as a choice's value; {"name": None} where its numbers are computed."""
    if one.kind in ACTIVATIONS:
        return activation_of(one.kind, one.call)
    limits = []
    for given in (*one.call.args, *(keyword.value for keyword in one.call.keywords)):
        with contextlib.suppress(ValueError, TypeError):
            limits.append(float(ast.literal_eval(given)))
    if not limits and "tanh" in one.kind:
        limits = [-1.0, 1.0]
    return {"name": "hardtanh" if len(limits) == 2 else None, "slope": None, "limits": sorted(limits)}


def _rule(one: Ran, upsamples: list[Ran], known: Mapping[str, int]) -> dict[str, Any] | None:
    """Stride, padding … of a convolution, and by how much what runs before it enlarges; None where one is computed."""
    fields = CONVOLUTIONS[one.kind]
    rule: dict[str, Any] = {"kind": "conv" if one.kind == "Conv2d" else "conv_transpose", "upsample": 1}
    keywords = {keyword.arg: keyword.value for keyword in one.call.keywords}
    given = dict(zip(fields, one.call.args[3:], strict=False)) | keywords
    if len(one.call.args) > 6 or not {*given} <= {*UNSIZED, *OTHERS}:
        return None
    mode = given.get("padding_mode", ast.Constant("zeros"))
    rule["padding_mode"] = (
        mode.value if isinstance(mode, ast.Constant) and mode.value in get_args(PaddingMode) else None
    )
    for field in UNSIZED:
        rule[field] = UNSIZED[field] if field not in given else whole(given[field], known)
    for other in upsamples:
        factor = next((k.value for k in other.call.keywords if k.arg == "scale_factor"), None)
        place = 0 if other.kind[0].isupper() and other.kind != "Upsample" else 1 if other.kind == "Upsample" else 2
        factor = factor or next(iter(other.call.args[place : place + 1]), None)
        times = None if factor is None else whole(factor, known)
        rule["upsample"] = None if times is None or rule["upsample"] is None else rule["upsample"] * times
    return None if None in rule.values() else rule
