"""The order in which an author's code runs its layers, and what it says of each; read, and never run.

The statements of a method are followed one after the other, arguments before the call that takes them, into other
methods, functions and classes of the same file. Where they do what is not followed (a loop, a branch, a module of
another file), nothing is said of any layer. Where they compute with what layers make, or run one twice or not at all,
that is said: no list of layers does so.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from gan_export.reading.authors_words import (
    ACTIVATIONS,
    BEYOND,
    CONVOLUTIONS,
    JOINS,
    LABELS,
    LIMITS,
    NORMS,
    ORDER,
    PRODUCTS,
    UPSAMPLES,
    Fact,
    LostError,
    Ran,
    calls_of,
    name_of,
    passed_by,
    said_in_order,
    where,
)

LAYERS = (*CONVOLUTIONS, *NORMS, "Linear", "LayerNorm", "InstanceNorm2d", "Embedding")
PASSING = ("Dropout", "Dropout1d", "Dropout2d", "AlphaDropout", "Flatten", "Unflatten", "Identity")
"""Modules that change no number in eval mode."""
WRAPPERS = ("spectral_norm", "weight_norm")
HARMLESS = ("print", "len", "int", "float", "list", "tuple", "range", "super", "isinstance")
ARITHMETIC = (
    "add", "sub", "mul", "div", "add_", "sub_", "mul_", "div_", "exp", "pow", "neg", "abs", "sqrt", "softmax",
    "normalize", "norm", "rsqrt", "matmul", "bmm", "einsum", "sin", "cos",
)  # fmt: skip
DEPTH = 4
"""Methods that call each other."""
Defined = ast.ClassDef | ast.FunctionDef


class _BeyondError(Exception):
    """The code does what no list of layers says: `args` are words for it, "" where it is not known, and where."""


def facts_by_place(
    node: ast.AST,
    tree: ast.AST,
    owners: Collection[str],
    known: Mapping[str, int],
    label: str,
    outside: Mapping[str, Defined] = MappingProxyType({}),
) -> list[Fact] | None:
    """What `node`, a class or list of layers in `tree`, says of each of `owners`, the parts of the checkpoint that have
    weights, or that it does what no list of layers says; None where its order is not followed. `known` has the whole
    numbers that names stand for, `outside` the functions and classes that other files have."""
    try:
        ran = _order(node, tree, owners, outside)
        parts = tuple(one.part for one in ran if one.part in owners)
        order = [Fact(ORDER, parts, where(label, ran[0].call))] if isinstance(node, ast.ClassDef) else []
        return [*order, *said_in_order(ran, owners, known, label)]
    except _BeyondError as beyond:
        words, at = beyond.args
        return [Fact(BEYOND, words, where(label, at))] if words else []
    except LostError:
        return None


def defined_in(tree: ast.AST) -> dict[str, Defined]:
    """The classes of a file, and the functions at its top level."""
    functions = {one.name: one for one in getattr(tree, "body", ()) if isinstance(one, ast.FunctionDef)}
    return {one.name: one for one in ast.walk(tree) if isinstance(one, ast.ClassDef)} | functions


def _order(node: ast.AST, tree: ast.AST, owners: Collection[str], outside: Mapping[str, Defined]) -> list[Ran]:
    """What runs from the first of `owners` on. Raises `LostError` or `_BeyondError`."""
    imported = {name.name for one in ast.walk(tree) if isinstance(one, ast.ImportFrom) for name in one.names}
    known = {name: outside[name] for name in outside if name in imported or "*" in imported} | defined_in(tree)
    if not isinstance(node, ast.ClassDef):
        walk = _Walk({}, {}, {}, known)
        walk.made("", node)
        return _from_the_first(walk, owners)
    methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
    start = methods.pop("__init__", None)
    if start is None:
        raise LostError
    found: list[list[Ran]] = []
    walks: list[_Walk] = []
    for name in methods:
        walks.append(_Walk(_attributes(start), methods, _arguments(start, node.name, tree), known))
        walks[-1].method(name)
        with contextlib.suppress(LostError):
            found.append(_from_the_first(walks[-1], owners))
    if found:
        return min(found, key=len)
    for walk in sorted(walks, key=lambda walk: -len({one.part for one in walk.ran} & {*owners})):
        walk.check(owners)
    raise LostError


def _from_the_first(walk: _Walk, owners: Collection[str]) -> list[Ran]:
    """What ran in `walk` from the first of `owners` on. Raises `LostError` unless each runs once, and nothing else has
    weights or was computed."""
    ran = walk.ran
    parts = [one.part for one in ran if one.part in owners]
    if walk.lost or walk.computed or sorted(parts) != sorted(owners):
        raise LostError
    ran = ran[next(i for i, one in enumerate(ran) if one.part in owners) :]
    if any(one.kind in LAYERS and one.part not in owners and one.kind not in NORMS for one in ran):
        raise LostError
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
            said = passed_by(call, names[1:])
            given[ast.unparse(call)] = said
    return taken | (next(iter(given.values())) if len(given) == 1 else {})


class _Walk:
    """Follows code and writes down what it runs, in `ran`.

    lost      whether it did anything that is not followed
    computed  (how much ran before, what, where, whether two values of layers meet) of each computation with such values
    """

    def __init__(
        self,
        attributes: Mapping[str, ast.expr | None],
        methods: Mapping[str, ast.FunctionDef],
        arguments: Mapping[str, ast.expr],
        known: Mapping[str, Defined],
        outer: _Walk | None = None,
        prefix: str = "",
    ) -> None:
        self.ran: list[Ran] = [] if outer is None else outer.ran
        self.computed: list[tuple[int, str, ast.expr, bool]] = [] if outer is None else outer.computed
        self.lost = False
        self._attributes, self._methods, self._arguments = attributes, methods, arguments
        self._known, self._prefix = known, prefix
        self._live: set[str] = set()
        self._depth: int = 0 if outer is None else outer._depth + 1

    def check(self, owners: Collection[str]) -> None:
        """Raises `_BeyondError` where the code does what no list of layers says: between two of `owners`, before all
        layers, or with two values of theirs; or where it runs one of them twice or not at all."""
        own = [one.part in owners for one in self.ran]
        for at, words, node, meet in self.computed:
            before, after = any(own[:at]), any(own[at:])
            first = bool(words) and not any(one.kind in LAYERS for one in self.ran[:at])
            if (before and (after or meet)) or (after and first):
                raise _BeyondError(words, node)
        parts = [one.part for one in self.ran if one.part in owners]
        if self.lost or self.computed or not parts:
            return
        if other := next((part for part in sorted(owners) if parts.count(part) != 1), None):
            words = f"runs {other} {parts.count(other)} times" if other in parts else f"does not run {other}"
            raise _BeyondError(words, self.ran[-1].call)

    def method(self, name: str) -> None:
        self._function(self._methods[name], 1)

    def _function(self, node: ast.FunctionDef, first: int) -> None:
        """Follows a function, whose arguments from the `first` on are values."""
        if self._depth >= DEPTH:
            self.lost = True
            return
        self._depth += 1
        self._live |= {argument.arg for argument in node.args.args[first:]}
        for statement in node.body:
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
                if len(self.ran) > before or self._is_live(node.value):
                    self._live |= names
            case ast.AugAssign(target=ast.Name() as target, op=op, value=value):
                self._value(ast.copy_location(ast.BinOp(ast.Name(target.id), op, value), value))
            case ast.With():
                for inner in node.body:
                    self._statement(inner)
            case ast.If() if node.orelse and "data_parallel" in ast.unparse(node.body[0]):
                for inner in node.orelse:
                    self._statement(inner)
            case _ if any(isinstance(one, (ast.Call, ast.AugAssign, ast.BinOp)) for one in ast.walk(node)):
                before, noted = len(self.ran), len(self.computed)
                for one in (*getattr(node, "body", ()), *getattr(node, "orelse", ())):
                    self._statement(one)
                again = [i for i, one in enumerate(self.ran) if i >= before and one.kind in LAYERS]
                if isinstance(node, (ast.For, ast.While)) and again:
                    self.computed.append((again[0] + 1, "runs a layer in a loop", self.ran[again[0]].call, True))
                elif isinstance(node, ast.If):
                    del self.computed[noted:]  # it may not run
                if not isinstance(node, (ast.If, ast.Assert, ast.Raise)) or len(self.ran) > before:
                    self.lost = True  # one that runs no layer may be a check of shapes

    def _is_live(self, node: ast.AST | None) -> bool:
        return isinstance(node, ast.Name) and node.id in self._live

    def _compute(self, words: str, node: ast.expr, operands: Sequence[ast.expr]) -> None:
        """Notes that something is computed with `operands`, which were followed."""
        made = [o for o in operands if self._is_live(o) or any(name_of(c) in self._attributes for _, c in calls_of(o))]
        self.computed.append((len(self.ran), words, node, len(made) > 1))

    def _value(self, node: ast.AST) -> None:
        if isinstance(node, ast.Call):
            self._call(node)
            return
        before = len(self.ran)
        for child in ast.iter_child_nodes(node):
            self._value(child)
        ran = len(self.ran) > before
        if isinstance(node, ast.BinOp):
            if self._joins(type(node.op).__name__, node.left, node.right):
                return
            if ran or self._is_live(node.left) or self._is_live(node.right):
                self._compute("computes with what its layers make", node, (node.left, node.right))
        elif ran and isinstance(node, (ast.UnaryOp, ast.IfExp, ast.Lambda, ast.comprehension)):
            self.lost = True

    def _joins(self, kind: str, *operands: ast.expr) -> bool:
        """Whether an operation joins a label with z, which is heard of apart: nothing but the label's table ran yet."""
        numbers = any(isinstance(one, ast.Constant) for one in operands)
        label = any(LABELS.search(ast.unparse(one)) for one in operands)
        kinds = {one.kind for one in self.ran}
        return kind in PRODUCTS and not numbers and (kinds == {"Embedding"} or (label and kinds == {"Linear"}))

    def _call(self, call: ast.Call) -> None:
        func, name = call.func, name_of(call)
        before = len(self.ran)
        own = isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "self"
        if isinstance(func, ast.Attribute) and not own:
            self._value(func.value)
        for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
            self._value(argument)
        if own:
            if name in self._methods:
                self.method(name)
            else:
                self.made(self._prefix + name, self._attributes.get(name))
        elif isinstance(func, ast.Call):
            self.made("", func)
        elif name in ACTIVATIONS or name in UPSAMPLES or name in LIMITS:
            self.ran.append(Ran("", name, call))
        else:
            operands = [*([func.value] if isinstance(func, ast.Attribute) else []), *call.args]
            live = len(self.ran) > before or any(map(self._is_live, operands))
            defined = self._known.get(name) if isinstance(func, ast.Name) else None
            if self._joins(name, *call.args):
                return
            if name in JOINS and call.args and isinstance(call.args[0], (ast.List, ast.Tuple)):
                parts = [one for one in call.args[0].elts if LABELS.search(ast.unparse(one)) is None]
                if len(parts) > 1 and sum(one.kind in LAYERS for one in self.ran) > 1:  # one may be a label's table
                    self._compute("joins what its layers make", call, parts)
            elif isinstance(defined, ast.FunctionDef) and live:
                self._function(defined, 0)
            elif name in ARITHMETIC and live:
                self._compute(f"computes {name} of what its layers make", call, operands)
            elif isinstance(func, ast.Name) and name not in HARMLESS and live:
                self.lost = True
                self._compute("", call, ())  # by code that is not here
            elif name in ARITHMETIC or not isinstance(func, (ast.Attribute, ast.Name)):
                self.lost = True

    def made(self, part: str, node: ast.AST | None) -> None:
        """Runs what `node` makes, the checkpoint's `part`."""
        if isinstance(node, ast.Name):
            node = self._arguments.get(node.id)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self._arguments:
            given = ast.Call(self._arguments[node.func.id], node.args, node.keywords)
            node = ast.copy_location(given, node)
        kind = name_of(node) if isinstance(node, ast.Call) else ""
        if not isinstance(node, ast.Call):
            self.lost = True
        elif kind == "Sequential":
            for place, one in enumerate(node.args):
                self.made(f"{part}.{place}" if part else str(place), one)
        elif kind in WRAPPERS and node.args:
            self.made(part, node.args[0])
        elif kind in LAYERS or kind in ACTIVATIONS or kind in UPSAMPLES or kind in LIMITS or kind == "PReLU":
            self.ran.append(Ran(part, kind, node))
        elif isinstance(block := self._known.get(kind), ast.ClassDef) and self._depth < DEPTH:
            methods = {one.name: one for one in block.body if isinstance(one, ast.FunctionDef)}
            start = methods.pop("__init__", None)
            if start is None or "forward" not in methods:
                self.lost = True
                return
            arguments = _arguments(start, kind, ast.Expression(node))
            inner = _Walk(_attributes(start), methods, arguments, self._known, self, f"{part}.")
            inner.method("forward")
            self.lost |= inner.lost
        elif kind not in PASSING:
            self.lost = True
