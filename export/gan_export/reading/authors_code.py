"""The author's own code, read and never run: which speaks for a checkpoint, and what all that does says.

Python files and notebooks are parsed (`ast`): those beside the checkpoint and, where none of them speaks, the rest of
its repository. A class speaks for a checkpoint when its attributes have the names of the checkpoint's parts, the sizes
that it writes out are among the checkpoint's shapes, and each `nn.Sequential` that it lists has its layers where the
checkpoint has them. A checkpoint whose names are numbers alone is spoken for by such a list itself. Code says
something where it says it throughout: one hidden activation, one eps. Where several that speak disagree, none is heard.

Where the order in which a class runs its layers can be followed (`authors_order`), it is heard on each of them.

It does not know: values that are computed, code that the file was not made by.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

from torch import Tensor

from gan_core.errors import GanportError
from gan_export.reading.authors_order import Defined, defined_in, facts_by_place
from gan_export.reading.authors_words import (
    ACTIVATIONS,
    BEYOND,
    INPUTS,
    NORMS,
    SAID,
    Fact,
    Piece,
    calls_of,
    drawn_in,
    law_of,
    name_of,
    number,
    said_by,
)
from gan_export.reading.roles import role_of_name
from gan_export.source import check_file

SUFFIXES = (".py", ".ipynb")
MOST_FILES, MOST_ENTRIES, MOST_BYTES = 24, 2000, 4 << 20
MOST_OF_ALL, MOST_ABOVE = 96, 4
"""Files of a repository that are parsed, and how many folders above the checkpoint its top is looked for."""
NOT_THE_AUTHORS = frozenset({"site-packages", "node_modules", "venv", "env", "dist", "build"})
SIZED = ("Linear", "ConvTranspose2d", "Conv2d", "Embedding")
DIMENSIONS = dict.fromkeys((*NORMS, "PReLU"), 1) | {"Linear": 2, "Embedding": 2, "ConvTranspose2d": 4, "Conv2d": 4}
"""Of the weight of each layer that has one."""


def facts_of(tensors: Mapping[str, Tensor], checkpoint: Path, named: Path | None = None) -> tuple[list[Fact], str]:
    """(what the code in `named`, or beside `checkpoint`, or else in the rest of its repository, says of the generator
    with these tensors; a note where it was looked at in vain, or ""). Raises `GanportError` when `named` cannot be
    read, or holds no code."""
    if named is not None:
        pieces = list(pieces_of(check_file(named, "source"), strict=True))
        found, note = _heard(pieces, tensors, [pieces])
        if not found and not note:
            note = f"nothing in {named.name} has the names and sizes of this checkpoint's parts"
        return found, note
    beside = list(_beside(checkpoint))
    found, note = _heard(beside, tensors, [beside])
    if found or note:
        return found, note
    everywhere = list(_around(checkpoint))
    return _heard(everywhere, tensors, [beside, everywhere])


def classes_of(tensors: Mapping[str, Tensor], checkpoint: Path, named: Path | None = None) -> list[tuple[Path, str]]:
    """(file, name) of the classes that may have made these tensors: in the file or notebook `named`, or beside
    `checkpoint`, or else in the rest of its repository. Raises `GanportError` when `named` cannot be read."""
    if named is not None:
        return list(_classes(pieces_of(check_file(named, "Python"), strict=True), tensors))
    around = ((Path(os.path.relpath(path)), name) for path, name in _classes(_around(checkpoint), tensors))
    return list(_classes(_beside(checkpoint), tensors)) or list(around)


def _classes(pieces: Iterable[Piece], tensors: Mapping[str, Tensor]) -> Iterator[tuple[Path, str]]:
    """Those in files first, then those in notebooks."""
    for piece in sorted(pieces, key=lambda piece: piece.path.suffix != ".py"):
        found = _speakers(piece.tree, tensors, _numbers(piece.tree))
        yield from ((piece.path, name) for name, node in found if isinstance(node, ast.ClassDef))


def _heard(pieces: list[Piece], tensors: Mapping[str, Tensor], draws: Sequence[list[Piece]]) -> tuple[list[Fact], str]:
    """(what `pieces` say of these tensors; why they say nothing though they have the author's network, or ""). The
    latent distribution is that of the first of `draws` that draws something."""
    heard: list[list[Fact]] = []
    placed: list[list[Fact] | None] = []
    names: list[str] = []
    owners = {name.rpartition(".")[0] for name in tensors}
    outside: dict[str, Defined] = {}
    for piece in reversed(pieces):
        outside |= defined_in(piece.tree)
    for piece in pieces:
        known = _numbers(piece.tree)
        for name, node in _speakers(piece.tree, tensors, known):
            heard.append(said_by(_with_helpers(node, piece.tree), piece.label))
            placed.append(facts_by_place(node, piece.tree, owners, known, piece.label, outside))
            names.append(name)
    if not heard:
        return [], ""
    found = _agreed(heard)
    beyond = [[fact for fact in said or () if fact.field == BEYOND and not fact.place] for said in placed]
    if any(beyond) and not all(beyond):  # not the same networks
        found = []
    elif None not in placed:  # what is heard of each place counts, not what is said throughout
        found = [fact for fact in found if fact.field in INPUTS]
        found += _agreed([said for said in placed if said is not None])
    if not found:
        return [], f"in the author's code {', '.join(dict.fromkeys(names))} say nothing, or different things"
    drawn = next((some for each in draws if (some := drawn_in(each))), [])
    return found + law_of(drawn), ""


def _with_helpers(node: ast.AST, tree: ast.Module) -> ast.AST:
    """`node` and the functions and classes of its file that it calls, and those that they call: a block of layers is
    often written once, outside of the network."""
    outside = {one.name: one for one in tree.body if isinstance(one, (ast.FunctionDef, ast.ClassDef))}
    found: list[ast.AST] = [node]
    for one in found:
        called = (outside.get(name) for name, _ in calls_of(one))
        found += [other for other in dict.fromkeys(called) if other is not None and other not in found]
    return ast.Module([one for one in found if isinstance(one, ast.stmt)], []) if len(found) > 1 else node


def _agreed(heard: Sequence[list[Fact]]) -> list[Fact]:
    """What all of `heard` say alike of a field, wherever they say something of it."""
    found: list[Fact] = []
    for field in SAID:
        said = [[fact for fact in facts if fact.field == field] for facts in heard]
        first = {fact.place: fact.value for fact in said[0]}
        if all({fact.place: fact.value for fact in facts} == first for facts in said):
            found += said[0]
    return found


def _beside(checkpoint: Path) -> Iterator[Piece]:
    """The code in the folder of `checkpoint`; what cannot be read is passed over."""
    with contextlib.suppress(OSError):
        entries = [path for path, _ in zip(checkpoint.parent.iterdir(), range(MOST_ENTRIES), strict=False)]
        for path in sorted(path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file())[:MOST_FILES]:
            with contextlib.suppress(GanportError, OSError):
                yield from pieces_of(path)


def _around(checkpoint: Path) -> Iterator[Piece]:
    """The code in the repository of `checkpoint`, whose top has a .git; nothing where it is in none."""
    with contextlib.suppress(OSError):
        above = list(itertools.islice(checkpoint.absolute().parents, MOST_ABOVE + 1))
        top = next((folder for folder in above if (folder / ".git").exists()), None)
        if top is None:
            return
        found: list[Path] = []
        seen = 0
        for folder, inner, names in os.walk(top):
            inner[:] = sorted(n for n in inner if n not in NOT_THE_AUTHORS and not n.startswith("."))
            found += [Path(folder, name) for name in sorted(names) if name.lower().endswith(SUFFIXES)]
            seen += len(names) + len(inner)
            if len(found) >= MOST_OF_ALL or seen > MOST_ENTRIES:
                break
        for path in found[:MOST_OF_ALL]:
            with contextlib.suppress(GanportError, OSError):
                yield from pieces_of(path, top)


def pieces_of(path: Path, top: Path | None = None, *, strict: bool = False) -> Iterator[Piece]:
    """`path` parsed, named from `top` on. Raises `GanportError` when `strict` and nothing in it parses."""
    name = path.name if top is None else path.relative_to(top).as_posix()
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
                    found.append((plain, f"{name} cell {number} line "))
    else:
        found.append((text, f"{name} line "))
    parsed = 0
    for source, label in found:
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # strangers' strings have odd escapes
            tree = ast.parse(source)
            parsed += 1
            yield Piece(tree, path, label)
    if strict and not parsed:
        raise GanportError(f"{path} is no Python that can be read", hint=hint)


def _speakers(
    tree: ast.Module, tensors: Mapping[str, Tensor], known: Mapping[str, int]
) -> Iterator[tuple[str, ast.AST]]:
    """(name, node) of every class, or list of layers, that may have made a checkpoint's tensors."""
    if all(name.partition(".")[0].isdecimal() for name in tensors):
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and _is_list(node.value):
                name = ast.unparse(node.targets[0]).rpartition(".")[2]
                fits = role_of_name(name) in ("", "generator") and _aligned(node.value, "", tensors, known)
                if fits:
                    yield name, node.value
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and _speaks(node, calls_of(_with_helpers(node, tree)), tensors, known):
            yield node.name, node


def _speaks(
    node: ast.ClassDef,
    calls: Sequence[tuple[str, ast.Call]],
    tensors: Mapping[str, Tensor],
    known: Mapping[str, int],
) -> bool:
    """Whether a class, with `calls` in it and in its helpers, may have made a checkpoint's tensors."""
    if role_of_name(node.name) not in ("", "generator"):
        return False
    assigned = [
        (target.attr, one.value)
        for one in ast.walk(node)
        if isinstance(one, (ast.Assign, ast.AnnAssign))
        for target in (one.targets if isinstance(one, ast.Assign) else [one.target])
        if isinstance(target, ast.Attribute)
    ]
    attributes = {name for name, _ in assigned}
    parts = {name.partition(".")[0] for name in tensors}
    named = {part for part in parts if not part.isdecimal()}
    sized = [call.args[:2] for name, call in calls if name in SIZED]
    written = [tuple(arg.value for arg in args if isinstance(arg, ast.Constant)) for args in sized]
    written = [pair for pair in written if len(pair) == 2]
    shapes = {tuple(tensor.shape[:2]) for tensor in tensors.values() if tensor.dim() > 1}
    if (
        not sized
        or not named
        or not named <= attributes
        or not all(pair in shapes or pair[::-1] in shapes for pair in written)
    ):
        return False
    lists = [(name, value) for name, value in assigned if name in named and value is not None and _is_list(value)]
    return all(_aligned(value, f"{name}.", tensors, known) is not False for name, value in lists)


def _is_list(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether `node` is `nn.Sequential(…)`."""
    return isinstance(node, ast.Call) and name_of(node) == "Sequential"


def _aligned(listed: ast.Call, prefix: str, tensors: Mapping[str, Tensor], known: Mapping[str, int]) -> bool | None:
    """Whether the layers of an `nn.Sequential` stand where a checkpoint has weights under `prefix`, of the same kinds
    and of the sizes that are written out; None where the list is computed."""
    if listed.keywords or not listed.args or any(not isinstance(arg, ast.Call) for arg in listed.args):
        return None
    numbers = {name.removeprefix(prefix).partition(".")[0] for name in tensors if name.startswith(prefix)}
    for place, call in enumerate(listed.args):
        assert isinstance(call, ast.Call)
        kind, weight = name_of(call), tensors.get(f"{prefix}{place}.weight")
        if kind not in DIMENSIONS:
            if kind in ACTIVATIONS and str(place) in numbers:
                return False
        elif weight is None or weight.dim() != DIMENSIONS[kind] or not _sized(call, kind, weight, known):
            return False
        numbers.discard(str(place))
    return not numbers


def _sized(call: ast.Call, kind: str, weight: Tensor, known: Mapping[str, int]) -> bool:
    """Whether the sizes that a layer's call writes out are those of its weight."""
    shape = tuple(weight.shape[:3])
    sizes = shape[1::-1] + shape[2:] if kind in ("Linear", "Conv2d") else shape
    if kind == "PReLU":
        return True
    said = [number(arg, known) for arg in call.args[: len(sizes)]]
    return all(one is None or one == size for one, size in zip(said, sizes, strict=False))


def _numbers(tree: ast.Module) -> dict[str, int]:
    """The names that a file gives one whole number each, at its top level."""
    found: dict[str, set[int | None]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, set()).add(number(node.value, {}))
    return {name: value for name, values in found.items() if len(values) == 1 and (value := values.pop()) is not None}
