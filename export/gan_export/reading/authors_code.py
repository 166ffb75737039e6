"""What the author's own code, read and never run, says: activations, eps, the output, the latent distribution.

Python files and notebooks are parsed (`ast`). A class speaks for a checkpoint when its attributes have the names of the
checkpoint's parts and the sizes that it writes out are among the checkpoint's shapes. It says something where it says
it throughout: one hidden activation, one eps. Where classes that speak disagree, none is heard.

It does not know: values that are computed, positions of different activations, code that the file was not made by.
"""

from __future__ import annotations

import ast
import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import Tensor

from gan_core.errors import GanportError
from gan_export.reading.roles import role_of_name
from gan_export.source import check_file

SUFFIXES = (".py", ".ipynb")
MOST_FILES, MOST_ENTRIES, MOST_BYTES = 24, 2000, 4 << 20
ACTIVATIONS = {
    "ReLU": "relu", "relu": "relu", "relu_": "relu", "LeakyReLU": "leaky_relu", "leaky_relu": "leaky_relu",
    "ELU": "elu", "elu": "elu", "SELU": "selu", "selu": "selu", "GELU": "gelu", "gelu": "gelu", "SiLU": "silu",
    "silu": "silu", "Tanh": "tanh", "tanh": "tanh", "Sigmoid": "sigmoid", "sigmoid": "sigmoid", "Softplus": "softplus",
}  # fmt: skip
SLOPES = {"leaky_relu": ("negative_slope", 0.01), "elu": ("alpha", 1.0)}
ENDS = {"tanh": [-1.0, 1.0], "sigmoid": [0.0, 1.0]}
NORMS = ("BatchNorm1d", "BatchNorm2d")
SIZED = ("Linear", "ConvTranspose2d", "Conv2d", "Embedding")
NORMAL, UNIFORM = ("randn", "randn_like", "normal", "standard_normal"), ("uniform", "uniform_", "rand", "random_sample")


@dataclass(frozen=True)
class Fact:
    """Something that the code says: a choice's field, its value, and where it stands, for people."""

    field: str
    value: Any
    where: str


@dataclass(frozen=True)
class _Piece:
    """Parsed code, and what a line of it is called: "gan.py line ", "gan.ipynb cell 3 line "."""

    tree: ast.Module
    label: str


def facts_of(tensors: Mapping[str, Tensor], checkpoint: Path, named: Path | None = None) -> tuple[list[Fact], str]:
    """(what the code in `named`, or beside `checkpoint`, says of the generator with these tensors; a note where it was
    looked at in vain, or ""). Raises `GanportError` when `named` cannot be read, or holds no code."""
    pieces = list(_pieces(check_file(named, "source"), strict=True)) if named else list(_beside(checkpoint))
    heard: list[list[Fact]] = []
    names: list[str] = []
    for piece in pieces:
        for node in ast.walk(piece.tree):
            if isinstance(node, ast.ClassDef) and _speaks(node, tensors):
                heard.append(_said(node, piece.label))
                names.append(node.name)
    if not heard:
        return [], f"no class in {named.name} has the names and sizes of this checkpoint's parts" if named else ""
    found = []
    for field in ("activation", "output", "eps"):
        facts = [fact for said in heard for fact in said if fact.field == field]
        if len(facts) == len(heard) and all(fact.value == facts[0].value for fact in facts):
            found.append(facts[0])
    if not found:
        return [], f"in the author's code {', '.join(dict.fromkeys(names))} say nothing, or different things"
    return found + _law(pieces), ""


def _beside(checkpoint: Path) -> Iterator[_Piece]:
    """The code in the folder of `checkpoint`; what cannot be read is passed over."""
    with contextlib.suppress(OSError):
        entries = [path for path, _ in zip(checkpoint.parent.iterdir(), range(MOST_ENTRIES), strict=False)]
        for path in sorted(path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file())[:MOST_FILES]:
            with contextlib.suppress(GanportError, OSError):
                yield from _pieces(path)


def _pieces(path: Path, *, strict: bool = False) -> Iterator[_Piece]:
    """`path` parsed. Raises `GanportError` when `strict` and nothing in it parses."""
    hint = "name the author's .py or .ipynb file, with the generator's class in it"
    if path.stat().st_size > MOST_BYTES:
        raise GanportError(f"{path} has over {MOST_BYTES:,} bytes, expected code", hint=hint)
    text = path.read_text(encoding="utf-8", errors="replace")
    found = []
    if path.suffix.lower() == ".ipynb":
        with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
            for number, cell in enumerate(json.loads(text).get("cells", []), 1):
                source = cell.get("source", "")
                lines = source if isinstance(source, list) else source.splitlines(keepends=True)
                if cell.get("cell_type") == "code":
                    plain = "".join("\n" if line.lstrip()[:1] in ("%", "!") else line for line in lines)
                    found.append((plain, f"{path.name} cell {number} line "))
    else:
        found.append((text, f"{path.name} line "))
    parsed = 0
    for source, label in found:
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # strangers' strings have odd escapes
            tree = ast.parse(source)
            parsed += 1
            yield _Piece(tree, label)
    if strict and not parsed:
        raise GanportError(f"{path} is no Python that can be read", hint=hint)


def _calls(node: ast.AST) -> list[tuple[str, ast.Call]]:
    """(last part of the name, call) of every call inside `node`, in the order of lines."""
    found = []
    for call in (one for one in ast.walk(node) if isinstance(one, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        found.append((name, call))
    return sorted(found, key=lambda pair: (pair[1].lineno, pair[1].col_offset))


def _speaks(node: ast.ClassDef, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a class may have made a checkpoint's tensors."""
    if role_of_name(node.name) not in ("", "generator"):
        return False
    attributes = {
        target.attr
        for one in ast.walk(node)
        if isinstance(one, (ast.Assign, ast.AnnAssign))
        for target in (one.targets if isinstance(one, ast.Assign) else [one.target])
        if isinstance(target, ast.Attribute)
    }
    parts = {name.partition(".")[0] for name in tensors}
    named = {part for part in parts if not part.isdecimal()}
    sized = [call.args[:2] for name, call in _calls(node) if name in SIZED]
    written = [tuple(arg.value for arg in args if isinstance(arg, ast.Constant)) for args in sized]
    written = [pair for pair in written if len(pair) == 2]
    shapes = {tuple(tensor.shape[:2]) for tensor in tensors.values() if tensor.dim() > 1}
    if not named <= attributes or not all(pair in shapes or pair[::-1] in shapes for pair in written):
        return False
    return bool(named) or bool(written)


def _said(node: ast.ClassDef, label: str) -> list[Fact]:
    """What one class says throughout."""
    calls, found = _calls(node), []
    active = [(value, call) for name, call in calls if name in ACTIVATIONS and (value := _activation(name, call))]
    ends = [(value, call) for value, call in active if value["name"] in ENDS]
    hidden = [(value, call) for value, call in active if value["name"] not in ENDS]
    if hidden and all(value == hidden[0][0] for value, _ in hidden) and None not in (v.get("name") for v, _ in active):
        found.append(Fact("activation", hidden[0][0], _where(label, hidden[0][1])))
    if hidden and ends and all(value == ends[0][0] for value, _ in ends):
        value, call = ends[-1]
        found.append(Fact("output", value | {"value_range": ENDS[value["name"]]}, _where(label, call)))
    norms = [(_literal(call, 1, "eps", 1e-5), call) for name, call in calls if name in NORMS]
    if norms and norms[0][0] is not None and all(eps == norms[0][0] for eps, _ in norms):
        found.append(Fact("eps", float(norms[0][0]), _where(label, norms[0][1])))
    return found


def _activation(name: str, call: ast.Call) -> dict[str, Any]:
    """A call as a choice's value; {"name": None} where its slope is computed."""
    kind = ACTIVATIONS[name]
    slope = None
    if kind in SLOPES:
        keyword, usual = SLOPES[kind]
        slope = _literal(call, 0 if name[0].isupper() else 1, keyword, usual)
        if slope is None:
            return {"name": None}
    return {"name": kind, "slope": float(slope) if kind == "leaky_relu" and slope is not None else None}


def _literal(call: ast.Call, place: int, keyword: str, usual: float) -> float | None:
    """A number that is written out as an argument, `usual` where there is none; None where it is computed."""
    given = [*(one.value for one in call.keywords if one.arg == keyword), *call.args[place : place + 1]]
    if not given:
        return usual
    value = given[0].value if isinstance(given[0], ast.Constant) else None
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 10 else None


def _where(label: str, call: ast.Call) -> str:
    return f"{label}{call.lineno}: {shorten(ast.unparse(call), 60, placeholder=' …')}"


def _law(pieces: list[_Piece]) -> list[Fact]:
    """The latent distribution, where all random numbers of the code are of one."""
    drawn = [(name, call, piece.label) for piece in pieces for name, call in _calls(piece.tree)]
    normal = [(call, label) for name, call, label in drawn if name in NORMAL]
    uniform = [(call, label) for name, call, label in drawn if name in UNIFORM]
    if normal and not uniform:
        return [Fact("latent", "normal", _where(normal[0][1], normal[0][0]))]
    symmetric = [call for call, _ in uniform if "-1,1" in ast.unparse(call).replace(" ", "").replace(".0", "")]
    if uniform and not normal and len(symmetric) == len(uniform):
        return [Fact("latent", "uniform", _where(uniform[0][1], uniform[0][0]))]
    return []
