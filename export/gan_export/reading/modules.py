"""Whole-module pickles: from the inert record of an `nn.Module` to its state_dict and its hyperparameters.

A pickled module is its `__dict__`: `_parameters`, `_buffers`, `_modules`, and as plain attributes the numbers that a
state_dict does not carry (eps, stride, negative_slope …). The class itself is not needed. TorchScript's objects have
their tensors and submodules as attributes; they are read the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gan_core.errors import GanportError
from gan_export.reading.inert import Budget, GlobalName, Inert, brief
from gan_export.reading.lazy import LazyTensor
from gan_export.reading.rebuild import SOURCE

MAX_DEPTH = 64
MAX_MODULES = 10_000
MAX_SETTINGS = 1_000
SETTINGS_DEPTH = 4
MAX_ARGUMENTS = 64


@dataclass(frozen=True)
class ModuleInfo:
    """One module of a pickled network.

    cls       the class as written in the file, "torch.nn.modules.conv.ConvTranspose2d" or "__main__.Generator"
    settings  its public attributes that are numbers, texts, booleans, None or tuples of these: eps, stride, slope …
    training  whether it was in train mode when it was saved, None when the file does not say
    changed   what makes it compute something else than its class does ("a forward hook"), or empty
    source    SHA-256 of the source of its class, if the file holds that (NVlabs' pickles), or empty
    arguments what its class was called with, by name or by position, where the file holds that (NVlabs' pickles)
    """

    cls: str
    settings: dict[str, Any] = field(default_factory=dict)
    training: bool | None = None
    changed: str = ""
    source: str = ""
    arguments: dict[str, Any] | list[Any] | None = None

    @property
    def kind(self) -> str:
        """The class without its module: "ConvTranspose2d"."""
        return self.cls.rpartition(".")[2]

    @property
    def from_torch(self) -> bool:
        """Whether torch itself defines the class, so that `settings` mean what torch says they mean."""
        return self.cls.startswith(("torch.nn.modules.", "torch.nn.parallel."))


@dataclass(frozen=True)
class Flat:
    """A module tree as a state_dict (order of registration, as torch gives it) and its modules by dotted name."""

    tensors: dict[str, LazyTensor]
    modules: dict[str, ModuleInfo]


def is_module(value: Any) -> bool:
    """Whether `value` is the inert record of an `nn.Module` (or a TorchScript one)."""
    if not isinstance(value, Inert):
        return False
    if isinstance(value.state.get("_modules"), dict) and isinstance(value.state.get("_parameters"), dict):
        return True
    return value.cls.module.startswith("__torch__") and bool(value.state)


def flatten(module: Inert, budget: Budget) -> Flat:
    """The state_dict and the modules of a pickled network; the root's name is "".

    Raises `GanportError` when it holds more than any network does, modules within themselves among them.
    """
    flat = Flat({}, {})
    pending: list[tuple[str, Inert, frozenset[int]]] = [("", module, frozenset())]
    while pending:
        name, current, above = pending.pop()
        if len(flat.modules) >= MAX_MODULES or len(above) >= MAX_DEPTH:
            raise GanportError(
                f"it holds a module of over {MAX_MODULES:,} modules, or {MAX_DEPTH} within each other",
                hint="save the generator's state_dict alone",
            )
        budget.spend(len(current.state) + len(above))
        flat.modules[name] = _info(current)
        dot = f"{name}." if name else ""
        for key, tensor in _own_tensors(current):
            budget.spend(1 + (len(dot) + len(key)) // 64)
            flat.tensors[dot + key] = tensor
        below = above | {id(current)}
        children = [(dot + key, child, below) for key, child in _children(current) if id(child) not in below]
        budget.spend(len(children) * (1 + len(dot) // 64))
        pending.extend(reversed(children))
    return flat


def below(modules: dict[str, ModuleInfo], prefix: str) -> dict[str, ModuleInfo]:
    """Those of `modules` at and below `prefix` ("a.b."), by their names there."""
    stem = prefix.rstrip(".")
    return {
        name.removeprefix(stem).lstrip("."): info
        for name, info in modules.items()
        if name == stem or name.startswith(prefix)
    }


def _own_tensors(module: Inert) -> Iterator[tuple[str, LazyTensor]]:
    state = module.state
    if not isinstance(state.get("_parameters"), dict):
        yield from ((str(key), value) for key, value in state.items() if isinstance(value, LazyTensor))
        return
    transient = state.get("_non_persistent_buffers_set")
    hidden = {key for key in transient if isinstance(key, str)} if isinstance(transient, (list, tuple)) else set()
    for part in ("_parameters", "_buffers"):
        held = state.get(part)
        for key, value in held.items() if isinstance(held, dict) else ():
            if isinstance(value, LazyTensor) and not (part == "_buffers" and str(key) in hidden):
                yield str(key), value


def _children(module: Inert) -> Iterator[tuple[str, Inert]]:
    listed = module.state.get("_modules")
    for key, child in (listed if isinstance(listed, dict) else module.state).items():
        if is_module(child):
            yield str(key), child


def _info(module: Inert) -> ModuleInfo:
    settings = {
        str(key): tuple(value) if isinstance(value, list) else value
        for key, value in module.state.items()
        if not str(key).startswith("_") and key not in ("training", "dump_patches") and plain(value)
    }
    settings |= _functions(module)
    training = module.state.get("training")
    hooks = module.state.get("_forward_pre_hooks")
    for hook in hooks.values() if isinstance(hooks, dict) else ():
        if (
            isinstance(hook, Inert)
            and hook.cls.name in ("SpectralNorm", "WeightNorm")
            and type(hook.state.get("dim")) is int
        ):
            settings[f"{hook.cls.name}.{brief(hook.state.get('name', 'weight'))}.dim"] = hook.state["dim"]
    return ModuleInfo(
        str(module.cls),
        settings,
        training if isinstance(training, bool) else None,
        _changed(module),
        str(module.state.get(SOURCE, "")),
        _arguments(module.state.get("_init_args"), module.state.get("_init_kwargs")),
    )


def _arguments(by_position: Any, by_name: Any) -> dict[str, Any] | list[Any] | None:
    """The arguments of a constructor as JSON values; None where the file has none, has both kinds, or other objects."""
    position, name = _json(by_position or ()), _json(by_name or {})
    if isinstance(position, list) and isinstance(name, dict) and not (position and name):
        return position or name or None
    return None


def _json(value: Any, depth: int = SETTINGS_DEPTH) -> Any:
    """`value` as lists and dictionaries of plain values, or `NotImplemented` for what cannot be so."""
    items = value.items if isinstance(value, Inert) and value.items is not None else value
    if isinstance(items, dict) and depth and len(items) <= MAX_ARGUMENTS:
        made = {str(key): _json(each, depth - 1) for key, each in items.items()}
        return NotImplemented if any(each is NotImplemented for each in made.values()) else made
    if isinstance(items, (list, tuple)) and depth and len(items) <= MAX_ARGUMENTS:
        listed = [_json(each, depth - 1) for each in items]
        return NotImplemented if any(each is NotImplemented for each in listed) else listed
    return value if plain(value) else NotImplemented


def _changed(module: Inert) -> str:
    """Hooks but torch's own weight norms and prunings, whose tensors tell them, and a forward that was replaced."""
    for kind in ("_forward_hooks", "_forward_pre_hooks"):
        hooks = module.state.get(kind)
        for hook in hooks.values() if isinstance(hooks, dict) else ():
            if not (isinstance(hook, Inert) and hook.cls.module.startswith("torch.nn.utils.")):
                return "a forward hook"
    return "a forward of its own" if {"forward", "__call__"} & set(module.state) else ""


def settings_of(tree: Any, budget: Budget) -> dict[str, Any]:
    """The plain values of a file by dotted path, up to 1,000 of them: its configuration, arguments, counters. Modules
    and the states of optimisers are left out."""
    found: dict[str, Any] = {}
    pending, seen = [("", tree, 0)], set()
    while pending and len(found) < MAX_SETTINGS:
        path, node, depth = pending.pop()
        held = node.state if isinstance(node, Inert) else node
        if not isinstance(held, dict) or id(node) in seen or depth > SETTINGS_DEPTH or is_module(node):
            continue
        if "param_groups" in held:
            continue
        seen.add(id(node))
        budget.spend(len(held))
        for key, value in held.items():
            if not plain(key):
                continue
            if plain(value) and len(found) < MAX_SETTINGS:
                found[f"{path}{key}"] = tuple(value) if isinstance(value, list) else value
            pending.append((f"{path}{key}.", value, depth + 1))
    return found


def _functions(module: Inert) -> dict[str, str]:
    """Attributes that are functions or classes by name, such as an activation: {"act": "torch.nn.functional.relu"}."""
    return {str(key): str(value) for key, value in module.state.items() if isinstance(value, GlobalName)}


def plain(value: Any) -> bool:
    """Whether `value` is a number, a text, a boolean, None or a few of these: what a setting is."""
    if isinstance(value, (tuple, list)):
        return len(value) <= 8 and all(isinstance(item, (bool, int, float, str, type(None))) for item in value)
    return isinstance(value, (bool, int, float, type(None))) or (isinstance(value, str) and len(value) <= 200)
