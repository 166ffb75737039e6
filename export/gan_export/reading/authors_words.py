"""What the author's code says, once it is known to be the generator's: see `authors_code`."""

from __future__ import annotations

import ast
import contextlib
import itertools
import operator
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, get_args

from gan_core.spec.layers import PaddingMode

ACTIVATIONS = {
    "ReLU": "relu", "relu": "relu", "relu_": "relu", "LeakyReLU": "leaky_relu", "leaky_relu": "leaky_relu",
    "ELU": "elu", "elu": "elu", "SELU": "selu", "selu": "selu", "GELU": "gelu", "gelu": "gelu", "SiLU": "silu",
    "silu": "silu", "Tanh": "tanh", "tanh": "tanh", "Sigmoid": "sigmoid", "sigmoid": "sigmoid", "Softplus": "softplus",
}  # fmt: skip
SLOPES = {"leaky_relu": ("negative_slope", 0.01), "elu": ("alpha", 1.0)}
ENDS = {"tanh": [-1.0, 1.0], "sigmoid": [0.0, 1.0]}
BEHIND = {"relu": [0.0, 1.0], "softplus": [0.0, 1.0]}
"""The range of images that end in an activation of hidden layers; [-1, 1] behind the others."""
OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}
NORMS = ("BatchNorm1d", "BatchNorm2d")
CONVOLUTIONS = {
    "Conv2d": ("stride", "padding", "dilation"), "ConvTranspose2d": ("stride", "padding", "output_padding"),
}  # fmt: skip
"""The arguments behind channels and kernel that say a convolution's size, in torch's order."""
UNSIZED = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
OTHERS = ("bias", "in_channels", "out_channels", "kernel_size", "padding_mode")
UPSAMPLES = ("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d", "interpolate", "upsample")
LIMITS = ("clamp", "clamp_", "clip", "Hardtanh", "hardtanh")
NORMAL, UNIFORM = ("randn", "randn_like", "normal", "standard_normal"), ("uniform", "uniform_", "rand", "random_sample")
OTHERWISE_USED = re.compile(r"(?i)\b(?:alpha|eps|epsilon|labels?|targets?|y_?|weight|bias)\b")
"""Names of what takes a random number that is no latent."""
LABELS = re.compile(r"(?i)label|class|cond|emb|one_?hot|^[yc]_?$")
"""What code calls a label, in what it joins."""
COUNTED = re.compile(r"(?i)\b(?:n|nb|num)_")
"""A number of classes, which is no label."""
JOINS = ("cat", "concat", "concatenate", "hstack")
PRODUCTS = {"Mult": "multiply", "mul": "multiply", "multiply": "multiply", "Add": "add", "add": "add"}
"""Operators and functions that join a label as wide as z with it."""
INPUTS = ("merge", "crop", BEYOND := "beyond")
SAID = ("activation", "output", "eps", "rule", ORDER := "order", *INPUTS)
"""The fields of what a class says; `BEYOND` is what it does that no list of layers says, in words, `ORDER` that of the
checkpoint's parts as they run."""


@dataclass(frozen=True)
class Fact:
    """Something that the code says: a choice's field, its value, and where it stands, for people.

    place  the part of the checkpoint at which, or behind which, it says so; "" for throughout
    """

    field: str
    value: Any
    where: str
    place: str = ""


@dataclass(frozen=True)
class Ran:
    """A layer or function where it runs: its part of the checkpoint, "" for none; what torch calls it; its call."""

    part: str
    kind: str
    call: ast.Call


class LostError(Exception):
    """The code does what is not followed."""


@dataclass(frozen=True)
class Piece:
    """Parsed code, the file it is from, and what a line of it is called: "gan.py line ", "gan.ipynb cell 3 line "."""

    tree: ast.Module
    path: Path
    label: str


def calls_of(node: ast.AST) -> list[tuple[str, ast.Call]]:
    """(last part of the name, call) of every call inside `node`, in the order of lines."""
    found = []
    for call in (one for one in ast.walk(node) if isinstance(one, ast.Call)):
        found.append((name_of(call), call))
    return sorted(found, key=lambda pair: (pair[1].lineno, pair[1].col_offset))


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def passed_by(call: ast.Call, names: Sequence[str]) -> dict[str, ast.expr]:
    """What a call passes, by the `names` of the parameters."""
    return dict(zip(names, call.args, strict=False)) | {one.arg: one.value for one in call.keywords if one.arg}


def said_by(node: ast.AST, label: str) -> list[Fact]:
    """What one class, or list of layers, says throughout."""
    calls, found = calls_of(node), []
    active = [(value, call) for name, call in calls if name in ACTIVATIONS and (value := activation_of(name, call))]
    ends = [(value, call) for value, call in active if value["name"] in ENDS]
    hidden = [(value, call) for value, call in active if value["name"] not in ENDS]
    learned = any(name == "PReLU" for name, _ in calls)
    known = not learned and all(value["name"] is not None for value, _ in active)
    if hidden and known and all(value == hidden[0][0] for value, _ in hidden):
        found.append(Fact("activation", hidden[0][0], where(label, hidden[0][1])))
    if (hidden or learned) and ends and all(value == ends[0][0] for value, _ in ends):
        value, call = ends[-1]
        found.append(Fact("output", value | {"value_range": ENDS[value["name"]]}, where(label, call)))
    norms = [(literal(call, 1, "eps", 1e-5), call) for name, call in calls if name in NORMS]
    if norms and norms[0][0] is not None and all(eps == norms[0][0] for eps, _ in norms):
        found.append(Fact("eps", float(norms[0][0]), where(label, norms[0][1])))
    return found + (_joined(calls, label) or _multiplied(node, label)) + _cropped(node, label)


def said_in_order(ran: list[Ran], owners: Collection[str], known: Mapping[str, int], label: str) -> Iterator[Fact]:
    """What each part that has weights, and what runs behind it, says. Raises `LostError` where two activations stand
    behind one another, or one is computed."""
    at = [i for i, one in enumerate(ran) if one.part in owners]
    upsamples: list[Ran] = []
    for i, following in zip(at, [*at[1:], len(ran)], strict=True):
        one, behind = ran[i], ran[i + 1 : following]
        active = [other for other in behind if other.kind in ACTIVATIONS or other.kind in LIMITS]
        values = [_activation(other) for other in active]
        if len(active) > 1 or any(value["name"] is None for value in values):
            raise LostError
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


def _cropped(node: ast.AST, label: str) -> list[Fact]:
    """The side of the images that a class cuts out of larger ones: 28 of `x[:, :, :28, :28]`, unless it does so under a
    condition. A border cut off on both sides is a padding."""
    under = {id(one) for branch in ast.walk(node) if isinstance(branch, ast.If) for one in ast.walk(branch)}
    found: dict[int, ast.expr] = {}
    for one in ast.walk(node):
        match one:
            case ast.Subscript(slice=ast.Tuple(elts=[*rest, ast.Slice() as rows, ast.Slice() as columns])) if (
                len(rest) == 2 or ast.unparse(rest[0]) == "..."
            ) and id(one) not in under:
                lower = 0 if rows.lower is None else number(rows.lower, {})
                upper = None if rows.upper is None else number(rows.upper, {})
                alike = ast.unparse(rows) == ast.unparse(columns) and rows.step is None
                if alike and lower is not None and upper is not None:
                    found.setdefault(upper - lower, one)
    return [Fact("crop", side, where(label, one)) for side, one in found.items() if len(found) == 1 and side > 0]


def _multiplied(node: ast.AST, label: str) -> list[Fact]:
    """What the methods of a class say of z and a label as wide: that one is multiplied with the other, or added."""
    found: dict[str, ast.expr] = {}
    methods = [one for one in ast.walk(node) if isinstance(one, ast.FunctionDef) and one.name != "__init__"]
    for one in itertools.chain.from_iterable(map(ast.walk, methods)):
        match one:
            case ast.BinOp(left=left, op=op, right=right):
                kind, pair = type(op).__name__, (left, right)
            case ast.Call(func=ast.Attribute(value=left), args=[right]):
                kind, pair = name_of(one), (left, right)
            case ast.Call(args=[left, right]):
                kind, pair = name_of(one), (left, right)
            case _:
                continue
        texts = [ast.unparse(each) for each in pair]
        others = [text for text in texts if LABELS.search(text) is None]
        if (
            kind in PRODUCTS
            and len(others) < 2
            and "self." not in "".join(others)
            and not any(map(COUNTED.search, texts))
        ):
            found.setdefault(PRODUCTS[kind] if others else "", one)
    return [Fact("merge", value, where(label, call)) for value, call in found.items() if value and len(found) == 1]


def _joined(calls: Sequence[tuple[str, ast.Call]], label: str) -> list[Fact]:
    """What calls say of z and its label: their order, that there are more of them, or that the label is changed."""
    for name, call in calls:
        inner = call.args[0] if call.args else None
        if name in ACTIVATIONS and isinstance(inner, ast.Call) and LABELS.search(name_of(inner)):
            return [Fact(BEYOND, "has an activation behind its label", where(label, call), name_of(inner))]
    joins = [
        (call.args[0].elts, call)
        for name, call in calls
        if name in JOINS and call.args and isinstance(call.args[0], (ast.List, ast.Tuple)) and call.args[0].elts
    ]
    more = [(len(parts), call) for parts, call in joins if len(parts) > 2]
    if more:
        return [Fact(BEYOND, f"joins {more[0][0]} inputs", where(label, more[0][1]))]
    orders = {
        ("label_z" if first else "z_label"): call
        for parts, call in joins
        if (first := bool(LABELS.search(ast.unparse(parts[0])))) != bool(LABELS.search(ast.unparse(parts[-1])))
    }
    return [Fact("merge", order, where(label, call)) for order, call in orders.items() if len(orders) == 1]


def activation_of(name: str, call: ast.Call) -> dict[str, Any]:
    """A call as a choice's value; {"name": None} where its slope is computed."""
    kind = ACTIVATIONS[name]
    slope = None
    if kind in SLOPES:
        keyword, usual = SLOPES[kind]
        slope = literal(call, 0 if name[0].isupper() else 1, keyword, usual)
        if slope is None:
            return {"name": None}
    return {"name": kind, "slope": float(slope) if kind == "leaky_relu" and slope is not None else None}


def literal(call: ast.Call, place: int, keyword: str, usual: float) -> float | None:
    """A number that is written out as an argument, `usual` where there is none; None where it is computed."""
    given = [*(one.value for one in call.keywords if one.arg == keyword), *call.args[place : place + 1]]
    if not given:
        return usual
    value = given[0].value if isinstance(given[0], ast.Constant) else None
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 10 else None


def where(label: str, call: ast.expr) -> str:
    return f"{label}{call.lineno}: {shorten(ast.unparse(call), 60, placeholder=' …')}"


def number(node: ast.AST, known: Mapping[str, int]) -> int | None:
    """A whole number that is written out, or made of such; None for any other."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        left, right = number(node.left, known), number(node.right, known)
        if left is not None and right:
            return int(OPERATIONS[type(node.op)](left, right))
    return None


def whole(node: ast.AST, known: Mapping[str, int]) -> int | None:
    """As `number`, or the number that a pair has twice."""
    if isinstance(node, (ast.Tuple, ast.List)):
        said = {number(one, known) for one in node.elts}
        return said.pop() if len(said) == 1 else None
    return number(node, known)


def drawn_in(pieces: Iterable[Piece]) -> list[tuple[str, ast.Call, str]]:
    """(law, "" for one that has no name here; call; label) of every random number that code draws, but for those that
    it plainly uses otherwise, as for weights or labels."""
    found: list[tuple[str, ast.Call, str]] = []
    for piece in pieces:
        assigned: dict[int, str] = {}
        reckoned: set[int] = set()
        for node in ast.walk(piece.tree):
            if isinstance(node, ast.Assign):
                assigned |= {id(call): ast.unparse(node.targets[0]) for _, call in calls_of(node.value)}
            elif isinstance(node, ast.BinOp):
                reckoned |= {id(call) for _, call in calls_of(node)}
        for name, call in calls_of(piece.tree):
            used = assigned.get(id(call), ast.unparse(call.func))
            if (name in NORMAL or name in UNIFORM) and not OTHERWISE_USED.search(used):
                found.append((_law(name, call, reckoned=id(call) in reckoned), call, piece.label))
    return found


def _law(name: str, call: ast.Call, *, reckoned: bool) -> str:
    """The law of what a call draws; "" where it has no name here. Uniform numbers with which the code `reckoned` may be
    anything."""
    if name in NORMAL:
        return "normal"
    said = re.sub(r"\s|\.0?(?=[,)])|low=|high=", "", ast.unparse(call))
    if "-1,1" in said:
        return "uniform"
    return "uniform01" if (name in ("rand", "random_sample") or "(0,1" in said) and not reckoned else ""


def law_of(drawn: Sequence[tuple[str, ast.Call, str]]) -> list[Fact]:
    """The latent distribution, where all random numbers are of one."""
    laws = {law for law, _, _ in drawn}
    if len(laws) != 1 or "" in laws:
        return []
    law, call, label = drawn[0]
    return [Fact("latent", law, where(label, call))]
