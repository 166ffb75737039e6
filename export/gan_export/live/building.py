"""Builds the generator: calls the code's class, with the arguments that are said or that the checkpoint's tensors show.

To find them, the class is called again and again on torch's meta device, where tensors have shapes and no memory. One
argument after the other, then two at a time, takes the value that leaves the fewest tensors missing, left over or of
another shape. Values come from the settings beside the tensors, the calls in the code's own file, the defaults and the
checkpoint's sizes.

It does not know: arguments that change no shape. Where nothing says such a value and the code uses it, it is asked for.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import itertools
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gan_core.errors import GanportError
from gan_core.printable import shorten
from gan_export.live.loading import Code, check_arguments, users_code
from gan_export.live.weights import mismatch
from gan_export.reading import Reading
from gan_export.reading.authors_code import classes_of, pieces_of
from gan_export.reading.authors_words import name_of, passed_by

log = logging.getLogger(__name__)

SECONDS = 20.0
"""Of processor time, trying values."""
SMALL, LATENTS, SIDES = tuple(range(1, 9)), (100, 128, 64, 256, 512), (28, 32, 48, 64, 96, 128, 256, 512)
"""Counts, components of a latent and sides of images that are tried."""
LARGEST = 8192
"""Size of a tensor that is tried as a value: larger ones are products."""
AT_ONCE = 24
"""Values of each of two arguments that are tried together."""
SAME = 3
"""Values that change no shape, after which no more are tried."""
FEW = 8
"""Values that an argument may have as well, of those that are looked at."""

Args = dict[str, Any] | list[Any] | None


class _Options(dict[str, Any]):
    """An object of JSON, for code that reads `opt.nz` as well as for code that reads `opt["nz"]`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def build(code: Code, args: dict[str, Any] | list[Any] | None) -> nn.Module:
    """The generator: `code.target` called with `args`, or itself when it is an instance.

    An object among `args` has its values as attributes, too. DataParallel and torch.compile are unwrapped. Raises
    `GanportError` when it cannot be called so, when it raises, and when what comes out is no `nn.Module`.
    """
    target = code.target
    if isinstance(target, nn.Module):
        if args is not None:
            raise GanportError(f"{code.label} is an instance, `args` has no place", hint="name its class, or a factory")
        return _checked(target, code)
    if not callable(target):
        raise GanportError(
            f"{code.label} is {_a(type(target).__name__)}, expected a class, a factory or an nn.Module",
            hint="name the generator's class, or a function that returns it",
        )
    if isinstance(target, type) and not issubclass(target, nn.Module):
        raise GanportError(
            f"{code.label} is a class that is no torch.nn.Module", hint="name the generator's class, or a factory"
        )
    arguments = tuple(_options(args)) if isinstance(args, list) else ()
    keywords = _options(args) if isinstance(args, dict) else {}
    check_arguments(code, arguments, keywords)
    with users_code(code.path, f"building {code.label}"):
        made = target(*arguments, **keywords)
    return _checked(made, code)


def _options(value: Any) -> Any:
    """A copy of `value`, in which objects are `_Options`."""
    if isinstance(value, dict):
        return _Options({name: _options(inner) for name, inner in value.items()})
    return [_options(inner) for inner in value] if isinstance(value, list) else value


def _checked(made: Any, code: Code) -> nn.Module:
    while isinstance(made, (nn.DataParallel, nn.parallel.DistributedDataParallel)) or hasattr(made, "_orig_mod"):
        made = made._orig_mod if hasattr(made, "_orig_mod") else made.module
    if not isinstance(made, nn.Module):
        raise GanportError(
            f"{code.label} made {_a(type(made).__name__)}, expected a torch.nn.Module",
            hint="name the generator's class, or a function that returns the generator",
        )
    return made


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def class_in(file: str, reading: Reading) -> str:
    """ "FILE.py:NAME" of the class in `file` with the names of the tensors of `reading`. Raises `GanportError` where
    none or several have them."""
    names = list(dict.fromkeys(name for _, name in classes_of(reading.saved, reading.path, Path(file))))
    if len(names) != 1:
        has = f"the classes {', '.join(names)} have" if names else "no class has"
        raise GanportError(
            f"{file}: {has} the names of this checkpoint's parts, expected one", hint=f"name it: `module` {file}:NAME"
        )
    return f"{file}:{names[0]}"


def arguments_of(code: Code, args: Args, reading: Reading) -> Args:
    """`args`, completed by those with which `code` has the names and shapes of the tensors of `reading`, or comes
    nearest where it cannot be called without; `args` as they are where nothing better is found. Raises `GanportError`
    for an argument that must be said."""
    try:
        parameters = inspect.signature(code.target).parameters.values() if callable(code.target) else ()
    except (TypeError, ValueError):
        return args  # written in C
    if isinstance(args, list) or not code.rebuildable:
        return args
    given = {} if args is None else args
    named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    search = _Search(code, reading, given)
    plain = search.tried({})
    if plain == 0:
        return args
    tree = _tree(code)
    search.run([one for each in named if each.name not in given for one in _tried_for(each, code, tree, reading)])
    found = search.arguments(search.best)
    if search.least > 0:  # what does not fit is said when the weights are loaded
        return found if search.least < plain == math.inf else args
    undecided = search.undecided(tree)
    if undecided:
        others = search.arguments({name: value for name, value in search.best.items() if name not in undecided})
        raise GanportError(
            f"{code.label} takes {', '.join(undecided)}, which the weights do not show",
            hint=f"the others are {json.dumps(others)}: give them all with `args`",
        )
    log.info(f"{code.label} has this checkpoint's tensors with `args` {shorten(json.dumps(found), 300)}")
    return found


@dataclass(frozen=True)
class _Argument:
    """What is tried for an argument, likeliest first: `values`, at least one, of which something says the `said` ones.
    "opt.nz" is nz of the object opt."""

    name: str
    values: tuple[Any, ...]
    said: tuple[Any, ...]


class _Search:
    """Tries values; `best` are those that left the `least` wrong."""

    def __init__(self, code: Code, reading: Reading, given: Mapping[str, Any]) -> None:
        self.best: dict[str, Any] = {}
        self.least = math.inf
        self._code, self._reading, self._given = code, reading, given
        self._arguments: Sequence[_Argument] = ()
        self._shapes: Mapping[str, torch.Size] = {}
        self._idle: set[str] = set()
        self._ends = time.process_time() + SECONDS

    def arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` by dotted name, with those that were given, as the code is called with them."""
        called = dict(self._given)
        for name, value in values.items():
            outer, dot, inner = name.partition(".")
            called[outer] = {**called.get(outer, {}), inner: value} if dot else value
        return called

    def tried(self, values: Mapping[str, Any]) -> float:
        """How many tensors are wrong with `values`; infinity where all are, the code cannot be called so, or fails."""
        return self._built(values)[0]

    def _built(self, values: Mapping[str, Any]) -> tuple[float, Mapping[str, torch.Size]]:
        """`tried`, and the shapes of the tensors."""
        try:
            with contextlib.redirect_stderr(io.StringIO()), torch.device("meta"):
                return mismatch(build(self._code, self.arguments(values)), self._reading)
        except GanportError:
            return math.inf, {}

    def run(self, arguments: Sequence[_Argument]) -> None:
        """Sets `best` and `least`, from the first of all values on; no others are tried of a network none of whose
        names is in the file."""
        self._arguments = arguments
        self.best = {each.name: each.values[0] for each in arguments}
        self.least, self._shapes = self._built(self.best)
        if self._shapes and self.least == math.inf:
            return
        while self.least > 0 and time.process_time() < self._ends:
            if not any(self._improves(count) for count in (1, 2)):
                return

    def _improves(self, count: int) -> bool:
        """Whether other values of `count` arguments at a time leave less wrong; these are taken."""
        before = self.least
        for some in itertools.combinations([each for each in self._arguments if each.name not in self._idle], count):
            unchanged = 0
            for values in itertools.product(*(each.values if count == 1 else each.values[:AT_ONCE] for each in some)):
                if self.least == 0 or time.process_time() > self._ends or unchanged == SAME:
                    break
                other = self.best | dict(zip((each.name for each in some), values, strict=True))
                wrong, shapes = (math.inf, {}) if other == self.best else self._built(other)
                unchanged += count == 1 and bool(shapes) and shapes == self._shapes
                if wrong < self.least:
                    self.best, self.least, self._shapes = other, wrong, shapes
            if unchanged == SAME:
                self._idle.add(some[0].name)
        return self.least < before

    def undecided(self, tree: ast.Module) -> list[str]:
        """The arguments that `tree` uses and whose value nothing says, or several things, where others fit."""
        found = []
        for each in self._arguments:
            taken = self.best[each.name]
            others = [value for value in (each.said if taken in each.said else each.values) if value != taken]
            fits = any(self.tried(self.best | {each.name: other}) == 0 for other in others[:FEW])
            if fits and not _unused(tree, self._code.name, each.name):
                found.append(each.name)
        return found


def _tried_for(parameter: inspect.Parameter, code: Code, tree: ast.Module, reading: Reading) -> Iterator[_Argument]:
    """What to try for an argument of `code`, or for each attribute that the code's file reads of it."""
    read = [one for one in ast.walk(tree) if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name)]
    inner = dict.fromkeys(one.attr for one in read if getattr(one.value, "id", "") == parameter.name)
    for name in (f"{parameter.name}.{each}" for each in inner) if inner else (parameter.name,):
        last = name.rpartition(".")[2]
        settings = [value for key, value in reading.settings.items() if key.rpartition(".")[2] == last]
        called = _defaults(tree, last) if inner else _passed(code, tree, name)
        default = [] if inner or parameter.default is parameter.empty else [parameter.default]
        if default and not _distinct(default):
            return  # no value that `args` could say: it stays
        said = _distinct(settings or called or default)
        values = _distinct((*said, *called, *default, *_like(said[0] if said else None, last, tree, reading)))
        if values:
            yield _Argument(name, tuple(values), tuple(said))


def _like(said: Any, name: str, tree: ast.Module, reading: Reading) -> Sequence[Any]:
    """Values of the kind of `said`, or that an argument of this name takes."""
    if isinstance(said, bool):
        return [True, False]
    if isinstance(said, str):
        words = [one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        return [word for word in words if word.isidentifier()]
    if isinstance(said, float):
        return []
    if isinstance(said, (list, tuple)) or (said is None and "shape" in name):
        return [[channels, side, side] for side in SIDES for channels in (1, 3, 4)]
    sizes = sorted({size for tensor in reading.saved.values() for size in tensor.shape if 1 < size <= LARGEST})
    numbers = [*sizes, *SMALL, 0, *LATENTS]
    numbers = [*SIDES, *numbers] if any(word in name for word in ("size", "height", "width")) else [*numbers, *SIDES]
    pairs = [(one, other) for one in sizes for other in sizes if one > other]
    parts = {one // other for one, other in pairs if one % other == 0} | {one - other for one, other in pairs}
    return [*numbers, *(1 << power for power in range(4, 11)), *sorted(parts)]


def _distinct(values: Sequence[Any]) -> list[Any]:
    """Those of `values` that JSON has, as it has them, each once."""
    found: dict[str, Any] = {}
    for value in values:
        with contextlib.suppress(TypeError, ValueError):
            text = json.dumps(value)
            found.setdefault(text, json.loads(text))
    return list(found.values())


def _tree(code: Code) -> ast.Module:
    """The code's file, or all cells of its notebook."""
    with contextlib.suppress(GanportError, OSError):
        if code.path is not None:
            return ast.Module([one for piece in pieces_of(code.path) for one in piece.tree.body], [])
    return ast.Module([], [])


def _passed(code: Code, tree: ast.Module, name: str) -> list[Any]:
    """What the code's file passes as `name` where it calls the target: values that are written out, or that a name of
    the module, or an option of its command, has."""
    names = list(inspect.signature(code.target).parameters)
    known = vars(sys.modules.get(getattr(code.target, "__module__", ""), ast))
    found: list[Any] = []
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and name_of(call) == code.name:
            match passed_by(call, names).get(name):
                case ast.Name(id=variable) if variable in known:
                    found.append(known[variable])
                case ast.Attribute(attr=option):
                    found += _defaults(tree, option)
                case ast.expr() as other:
                    with contextlib.suppress(ValueError, TypeError):
                        found.append(ast.literal_eval(other))
    return found


def _defaults(tree: ast.Module, option: str) -> list[Any]:
    """The defaults that are written out for an option of the file's command."""
    found = []
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and name_of(call) == "add_argument":
            flags = [str(one.value).lstrip("-").replace("-", "_") for one in call.args if isinstance(one, ast.Constant)]
            values = [one.value for one in call.keywords if one.arg == "default" and option in flags]
            found += [value.value for value in values if isinstance(value, ast.Constant)]
    return found


def _unused(tree: ast.Module, cls: str, name: str) -> bool:
    """Whether `__init__` only keeps the argument, in an attribute that nothing in its class, or its bases', reads."""
    classes = [one for one in ast.walk(tree) if isinstance(one, ast.ClassDef) and one.name == cls]
    starts = [one for each in classes for one in each.body if getattr(one, "name", "") == "__init__"]
    if len(starts) != 1:
        return False
    kept: set[str] = set()
    uses = sum(isinstance(one, ast.Name) and one.id == name for one in ast.walk(starts[0]))
    for assigned in (one for one in ast.walk(starts[0]) if isinstance(one, ast.Assign)):
        to, value = (
            [each] if not isinstance(each, ast.Tuple) else each.elts for each in (assigned.targets[0], assigned.value)
        )
        for target, one in zip(to, value, strict=False):
            if isinstance(target, ast.Attribute) and isinstance(one, ast.Name) and one.id == name:
                kept.add(target.attr)
                uses -= 1
    alone = all(ast.unparse(base).endswith("Module") for base in classes[0].bases)
    nodes = ast.walk(classes[0] if alone else tree)
    reads = [one for one in nodes if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Load)]
    return uses == 0 and not any(one.attr in kept for one in reads)
