"""Finding the state_dicts in a file: at any depth, in modules, in lists without names, several in one dictionary.

`find` walks the tree once and gives every set of tensors that may be a network, with the path of keys that leads to it;
`at_key` follows a path that the user gave. Which of them is the generator is `choosing`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gan_core.errors import GanportError
from gan_export.reading.autoencoder import DECODER
from gan_export.reading.inert import Budget, Inert
from gan_export.reading.kinds import describe_role
from gan_export.reading.lazy import LazyTensor
from gan_export.reading.modules import ModuleInfo, below, flatten, is_module
from gan_export.reading.roles import PUT_IN, WRAPPERS, common_prefix, is_ema, role_of_name, tokens

MAX_FOUND = 200
MAX_DEPTH = 64

_CONTAINERS = (dict, list, tuple, Inert)
Kind = Literal["state_dict", "module", "list", "optimizer", "stray"]


@dataclass(frozen=True, eq=False)
class Found:
    """One set of tensors in the file.

    path     the keys that lead to it
    tensors  as in the file, order kept
    modules  of whole-module pickles
    kind     "list": without names, numbered; "stray": tensors beside other things, such as fixed noise
    """

    path: tuple[str, ...]
    tensors: dict[str, LazyTensor]
    kind: Kind = "state_dict"
    modules: dict[str, ModuleInfo] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The path as the user may give it: "GAN.GE"."""
        return ".".join(self.path)


def find(tree: Any, budget: Budget, path: tuple[str, ...] = (), *, apart: bool = True) -> list[Found]:
    """Every set of tensors under `tree`, in the order of the file; combined dictionaries come in their parts (`apart`).

    Raises `GanportError` when looking costs more than `budget` holds, or when there are too many.
    """
    founds: list[Found] = []
    pending: list[tuple[tuple[str, ...], Any]] = [(path, tree)]
    seen: set[int] = set()
    while pending:
        here, node = pending.pop()
        if not isinstance(node, _CONTAINERS) or id(node) in seen:
            continue
        seen.add(id(node))
        budget.spend(2 + len(here) + _length(node))
        found = _as_found(node, here, budget)
        if len(founds) > MAX_FOUND:
            raise GanportError(
                f"it holds over {MAX_FOUND:,} dictionaries of tensors", hint='name the generator\'s: `key="A.B.C"`'
            )
        if found is not None:
            combined = apart and found.kind in ("state_dict", "module")
            founds.extend(split(found, budget) if combined else [found])
        closed = found is not None and found.kind in ("module", "optimizer", "list")
        if not closed and len(here) < MAX_DEPTH:
            inner = [((*here, key), child) for key, child in children(node) if isinstance(child, _CONTAINERS)]
            pending.extend(reversed(inner))
    return founds


def children(node: Any) -> Iterator[tuple[str, Any]]:
    """(key, value) of a container or inert record."""
    if isinstance(node, dict):
        yield from ((str(key), value) for key, value in node.items())
    elif isinstance(node, (list, tuple)):
        yield from ((str(index), value) for index, value in enumerate(node))
    elif isinstance(node, Inert):
        yield from node.children()


def _length(node: Any) -> int:
    """How many children a container has."""
    if isinstance(node, Inert):
        return sum(len(part or ()) for part in (node.items, node.state, node.elements, node.args))
    return len(node)


def _as_found(node: Any, path: tuple[str, ...], budget: Budget) -> Found | None:
    if isinstance(node, Inert) and is_module(node):
        flat = flatten(node, budget)
        return Found(path, flat.tensors, "module", flat.modules) if flat.tensors else None
    if isinstance(node, (list, tuple)):
        network = len(node) > 1 and all(isinstance(value, LazyTensor) for value in node)
        network = network and any(len(value.shape) > 1 for value in node)
        return Found(path, {str(index): value for index, value in enumerate(node)}, "list") if network else None
    entries = dict(children(node))
    if "param_groups" in entries and "state" in entries:
        return Found(path, dict(_tensors_below(node, budget)), "optimizer")
    tensors = {key: value for key, value in entries.items() if isinstance(value, LazyTensor)}
    if not tensors:
        return None
    dotted = any("." in key for key in tensors)
    tensors = _unwrapped(tensors)
    return Found(path, tensors, "state_dict" if dotted or 2 * len(tensors) > len(entries) else "stray")


def _unwrapped(tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    """`tensors` by their names without what torch.compile, FSDP and the like put in the middle: `main._orig_mod.0`."""
    found = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        ahead = next((i for i, part in enumerate(parts) if part not in WRAPPERS), 0)
        found[".".join([*parts[:ahead], *(part for part in parts[ahead:] if part not in PUT_IN)])] = tensor
    return found if len(found) == len(tensors) else tensors


def _tensors_below(node: Any, budget: Budget, depth: int = 4) -> Iterator[tuple[str, LazyTensor]]:
    for key, value in children(node) if depth else ():
        budget.spend()
        if isinstance(value, LazyTensor):
            yield key, value
        else:
            yield from ((f"{key}.{name}", tensor) for name, tensor in _tensors_below(value, budget, depth - 1))


# ---------------------------------------------------------------------------------------- several networks in one


def split(found: Found, budget: Budget, depth: int = 4) -> list[Found]:
    """The parts of a dictionary that holds several networks (`netG.…` beside `netD.…`), or [found] for one."""
    prefix = common_prefix(name for name in found.tensors if "." in name)
    groups: dict[str, list[str]] = {}
    for name in found.tensors:
        if name.startswith(prefix) and "." in name[len(prefix) :]:
            groups.setdefault(name[len(prefix) :].partition(".")[0], []).append(name)
    if depth == 0 or len(groups) < 2:
        return [found]
    if critics := _beside_autoencoder(groups):
        apart = {name for group in critics for name in groups[group]}
        rest = {name: tensor for name, tensor in found.tensors.items() if name not in apart}
        return [replace(found, tensors=rest), *(part(found, f"{prefix}{group}.", groups[group]) for group in critics)]
    if not _several(found, prefix, groups):
        return [found]
    parts = []
    for group, names in groups.items():
        budget.spend(len(found.modules))
        parts.extend(split(part(found, f"{prefix}{group}.", names), budget, depth - 1))
    return parts


def part(found: Found, prefix: str, names: list[str]) -> Found:
    """The tensors `names` of `found`, all of which begin with `prefix`, under a path of their own."""
    tensors = {name[len(prefix) :]: found.tensors[name] for name in names}
    path = (*found.path, *prefix.rstrip(".").split("."))
    return Found(path, tensors, found.kind, below(found.modules, prefix))


def _beside_autoencoder(groups: dict[str, list[str]]) -> list[str]:
    """The discriminators of a VAE-GAN, whose encoder and decoder belong together; none where it is something else."""
    roles = {group: role_of_name(group) for group in groups}
    decoders = [group for group in groups if DECODER & {*tokens(group)}]
    if len(groups) < 3 or not decoders or "generator" in roles.values():
        return []
    return [group for group, role in roles.items() if role == "discriminator" and group not in decoders]


def _several(found: Found, prefix: str, groups: dict[str, list[str]]) -> bool:
    """By names first: a generator beside something that is none of its layers. Then by shapes, when there are two."""
    roles = {group: role_of_name(group) for group in groups}
    averaged = {group: is_ema([group]) for group in groups}
    if "generator" in roles.values():
        if any(role not in ("generator", "") for role in roles.values()):
            return True
        named = [group for group, role in roles.items() if role == "generator"]
        if len({averaged[group] for group in named}) == 2:
            return True
    matrices = [sum(len(found.tensors[name].shape) > 1 for name in names) for names in groups.values()]
    if len(groups) == 2 and min(matrices) < 2:
        return False  # a label's table or its linear layer
    if "discriminator" in roles.values() and len(groups) == 2:
        return True
    tails = [{name[len(prefix) + len(group) + 1 :] for name in names} for group, names in groups.items()]
    if any(averaged.values()) and not all(averaged.values()) and len(groups) == 2 and tails[0] == tails[1]:
        return True
    if len(groups) != 2:
        return False
    verdicts = {
        describe_role({name[len(prefix) :]: found.tensors[name] for name in names}).role for names in groups.values()
    }
    return verdicts == {"generator", "discriminator"}


# ------------------------------------------------------------------------------------------------- a path by hand


def at_key(tree: Any, key: str, budget: Budget) -> list[Found]:
    """What lies at the path `key` ("a.b.c"; "." is the whole file). Keys may hold dots themselves.

    Raises `GanportError` that lists the keys there are, where the path ends.
    """
    node = tree
    taken: tuple[str, ...] = ()
    rest = "" if key == "." else key.strip(".")
    while rest:
        if is_module(node) or _is_flat(node):
            found = _as_found(node, taken, budget)
            names = [name for name in found.tensors if name.startswith(f"{rest}.")] if found else []
            if found and names:
                return [part(found, f"{rest}.", names)]
        step = _step(node, rest)
        if step is None:
            raise _no_key(node, taken, rest, key, budget)
        name, node = step
        taken, rest = (*taken, *name.split(".")), rest[len(name) :].lstrip(".")
    if isinstance(node, LazyTensor):
        raise GanportError(
            f"key {key!r} leads to one tensor, expected the dictionary that holds all of them",
            hint=f'leave out its last part: `key="{key.rpartition(".")[0] or "."}"`',
        )
    if key != ".":
        return find(node, budget, taken)
    whole = _as_found(node, (), budget) if isinstance(node, _CONTAINERS) else None
    return [whole] if whole else find(node, budget)


def _is_flat(node: Any) -> bool:
    return isinstance(node, (dict, Inert)) and any(isinstance(value, LazyTensor) for _, value in children(node))


def _step(node: Any, rest: str) -> tuple[str, Any] | None:
    """The longest child key that `rest` begins with, and the child."""
    matching = [
        (name, child) for name, child in children(node) if name and (rest == name or rest.startswith(f"{name}."))
    ]
    return max(matching, key=lambda item: len(item[0]), default=None)


def _no_key(node: Any, taken: tuple[str, ...], rest: str, key: str, budget: Budget) -> GanportError:
    if is_module(node) or _is_flat(node):
        found = _as_found(node, taken, budget)
        names = list(dict.fromkeys(name.partition(".")[0] for name in found.tensors)) if found else []
    else:
        names = [name for name, child in children(node) if isinstance(child, (dict, list, tuple, Inert, LazyTensor))]
    shown = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
    where = f"under {'.'.join(taken)!r}" if taken else "at the top"
    return GanportError(
        f"there is no key {rest!r} {where} of the file (asked for {key!r})",
        hint=f"keys there: {shown}" if shown else "nothing there holds tensors",
    )
