"""Which of the networks in a file is the generator to export: by names, then by shapes; EMA before raw.

What is passed over is told (`PassedOver`), and where nothing is left or too much, the error says what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gan_core.errors import GanportError
from gan_export.reading.autoencoder import DECODER, find_decoder
from gan_export.reading.kinds import NO_GENERATORS, NO_WEIGHTS, TAKE_IMAGES, WHAT, RoleReport, describe_role
from gan_export.reading.lazy import LazyTensor
from gan_export.reading.roles import (
    NameRole,
    is_buffer,
    is_ema,
    role_of_name,
    role_of_path,
    tokens,
    wrapper_prefix,
)
from gan_export.reading.wrappers import Found
from gan_export.understanding.units import COUNTER

if TYPE_CHECKING:
    from gan_export.families import Shapes


@dataclass(frozen=True)
class PassedOver:
    """A set of tensors that was not chosen: its key path, how many tensors it holds, and why it was not."""

    key: str
    tensors: int
    why: str


@dataclass(frozen=True)
class Chosen:
    """The generator found, wrapper prefixes still on; `ema`: averaged weights."""

    found: Found
    ema: bool
    passed_over: tuple[PassedOver, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Rated:
    found: Found
    role: NameRole
    ema: bool
    report: RoleReport
    shapes: frozenset[tuple[int, ...]]


def choose(founds: Sequence[Found], *, raw: bool, by_key: bool) -> Chosen:
    """The generator among `founds`. `by_key`: the user named the place, or the network's code, so that shapes have no
    veto where there is one network only.

    Raises `GanportError` when there is none, or several that nothing tells apart.
    """
    if any("_packed_params" in found.key for found in founds):
        raise GanportError(
            "it holds quantised weights",
            hint="name the generator as it was before; `precision` int8 makes a small file of it",
        )
    rated = [_rate(found) for found in founds]
    passed: list[tuple[_Rated, str]] = []
    pool: list[_Rated] = []
    for one in rated:
        why = "" if by_key and len(rated) == 1 else _out_of_question(one)
        if why:
            passed.append((one, why))
        else:
            pool.append(one)
    if not pool or (passed and all(one.report == NO_WEIGHTS for one in pool)):
        raise _nothing(rated)
    named = _by_name(pool)
    for test, why in (
        (lambda one: one.found in named, "its name does not say generator"),
        (lambda one: one.found.kind != "stray", "tensors beside other things"),
        (lambda one: one.found.kind != "list" or one.role == "generator" or one.ema, "a list without names"),
        (lambda one: one.report.role == "generator", "its shapes are not plainly a generator's"),
    ):
        pool = _narrow(pool, test, why, passed)
    averaged = [one for one in pool if one.ema]
    plain = [one for one in pool if not one.ema]
    if raw and averaged and not plain:
        raise GanportError(
            f"it holds averaged (EMA) weights only, at {_name(averaged[0].found)}", hint="leave out `raw`"
        )
    keep, leave = (plain, averaged) if raw or not averaged else (averaged, plain)
    passed += [(one, "raw weights are asked for" if raw else "the EMA is preferred") for one in leave]
    if len(keep) > 1:
        names = ", ".join(_name(one.found) for one in keep[:8])
        raise GanportError(
            f"it holds {len(keep)} networks that may be the generator: {names}",
            hint=f"choose one with `key`, such as {_key(keep[0].found)}",
        )
    chosen = keep[0]
    notes = []
    if chosen.ema and leave:
        notes.append(
            f"EMA weights at {_name(chosen.found)} preferred to the raw ones at {_name(leave[0].found)} "
            "(those: `raw=True`)"
        )
    elif chosen.ema:
        notes.append(f"the weights at {_name(chosen.found)} are averaged ones (EMA)")
    elif leave:
        notes.append(
            f"raw weights at {_name(chosen.found)} taken, as asked, instead of the EMA at {_name(leave[0].found)}"
        )
    if chosen.report.role in NO_GENERATORS and not _known(chosen.found):
        notes.append(f"by its shapes it looks like {WHAT[chosen.report.role][0]} ({chosen.report.reason})")
    found = _complete(chosen, [one for one, _ in passed], notes)
    passed_over = tuple(PassedOver(one.found.key, len(one.found.tensors), why) for one, why in passed)
    return Chosen(found, chosen.ema, passed_over, tuple(notes))


def _rate(found: Found) -> _Rated:
    role = role_of_path(found.path)
    root = found.modules.get("")
    if not role and root is not None:
        role = role_of_name(root.kind)
    report = describe_role(found.tensors)
    if found.kind == "optimizer":
        report = RoleReport("optimizer", "holds param_groups and state")
    ema = is_ema(found.path) or "n_averaged" in found.tensors
    return _Rated(found, role, ema, report, frozenset(tensor.shape for tensor in found.tensors.values()))


def _out_of_question(one: _Rated) -> str:
    """Why `one` cannot be the generator; "" when it may be."""
    if one.role == "optimizer" or one.report.role == "optimizer":
        return "an optimizer's state"
    if one.role == "discriminator":
        return "its name says discriminator"
    role = one.report.role
    parts = role in (*TAKE_IMAGES, "classifier", "encoder")
    if (
        role in NO_GENERATORS
        and not (parts and find_decoder(one.found.tensors) is not None)
        and (role in TAKE_IMAGES or one.role != "generator")
        and not _known(one.found)
    ):
        return f"{WHAT[one.report.role][0]}: {one.report.reason}"
    if one.role == "foreign":
        return "its name says that it is no generator"
    return ""


def _known(found: Found) -> bool:
    """Whether it is the network of a known family, whose shapes alone look like no generator's."""
    from gan_export.families.registry import is_known  # families read files themselves

    return is_known(_shapes(found))


def _near(found: Found) -> str:
    """The known family that it nearly is of, in words; or ""."""
    from gan_export.families.registry import near_miss

    near = near_miss(_shapes(found))
    return "" if near is None else f"it is nearly one that ganport knows: {near}"


def _shapes(found: Found) -> Shapes:
    from gan_export.families import Shapes

    prefix = wrapper_prefix(found.tensors)
    shapes = {key.removeprefix(prefix): tuple(tensor.shape) for key, tensor in found.tensors.items()}
    return Shapes({key: shape for key, shape in shapes.items() if not key.endswith(COUNTER)})


def _by_name(pool: list[_Rated]) -> list[Found]:
    """Those whose names say generator, and the neutral other half ("model" beside "g_ema", "ema" beside "netG")."""
    named = [one for one in pool if one.role == "generator"] or [one for one in pool if one.ema]
    halves = [one for one in pool if any(one.ema != other.ema and _same_network(one, other) for other in named)]
    return [one.found for one in (*named, *halves)]


def _same_network(one: _Rated, other: _Rated) -> bool:
    """Whether the shapes of the one are among the other's; an EMA may lack buffers, and its tensors their names."""
    return one.shapes <= other.shapes or other.shapes <= one.shapes


def _narrow(pool: list[_Rated], test: object, why: str, passed: list[tuple[_Rated, str]]) -> list[_Rated]:
    assert callable(test)
    kept = [one for one in pool if test(one)]
    if not kept:
        return pool
    passed += [(one, why) for one in pool if one not in kept]
    return kept


def _nothing(rated: list[_Rated]) -> GanportError:
    if not rated:
        return GanportError(
            "it holds no tensors", hint="expected a state_dict, a module, or a dictionary with one in it"
        )
    for role in NO_GENERATORS:
        for one in rated:
            if one.report.role == role:
                what, hint = WHAT[role]
                near = "" if role == "optimizer" else _near(one.found)
                hint = near or hint
                at = f" (at {_name(one.found)})" if one.found.path else ""
                others = f" and {len(rated) - 1} more, no generator among them" if len(rated) > 1 else ""
                decoder = _decoder(one.found)
                if role == "optimizer" or near:
                    force = ""
                elif decoder:
                    force = f"; its decoder alone may be one: {decoder}"
                elif role in TAKE_IMAGES:
                    force = ""
                else:
                    force = f"; if it is a generator all the same: {_key(one.found)}"
                like = "" if role == "optimizer" else "what looks like "
                return GanportError(
                    f"it holds {like}{what}{at}{others}, expected a generator: it {one.report.reason}",
                    hint=hint + force,
                    code=role,
                )
    names = ", ".join(_name(one.found) for one in rated[:8])
    return GanportError(f"it holds no generator, only {names}", hint=f"if one of them is: {_key(rated[0].found)}")


def _decoder(found: Found) -> str:
    """The answer that takes the part called decoder in an autoencoder, or empty."""
    for name in found.tensors:
        segments = name.split(".")[:-1]
        for index, segment in enumerate(segments):
            if DECODER & {*tokens(segment)}:
                return _answer(".".join((*found.path, *segments[: index + 1])))
    return ""


def _name(found: Found) -> str:
    return repr(found.key) if found.path else "the top"


def _key(found: Found) -> str:
    return _answer(found.key or ".")


def _answer(key: str) -> str:
    return f'`key="{key}"`'


# ------------------------------------------------------------------------------------ lists, and EMAs without buffers


def _complete(chosen: _Rated, others: list[_Rated], notes: list[str]) -> Found:
    """Names for a list without names, and buffers for an EMA of parameters alone, from the raw network beside it."""
    found = chosen.found
    siblings = [
        one.found
        for one in others
        if one.found.kind in ("state_dict", "module") and one.role != "discriminator" and not one.ema
    ]
    if found.kind == "list":
        for sibling in siblings:
            named = _name_by_order(list(found.tensors.values()), sibling.tensors)
            if named is not None:
                notes.append(
                    f"{_name(found)} is a list without names: names and buffers taken from {_name(sibling)}, "
                    f"whose {len(found.tensors)} parameters have the same shapes in the same order"
                )
                return replace(found, tensors=named, modules=sibling.modules)
        notes.append(f"{_name(found)} is a list without names: its {len(found.tensors)} tensors are numbered in order")
        return found
    for sibling in siblings if chosen.ema else ():
        filled = _with_buffers(found.tensors, sibling.tensors)
        if filled is not None:
            notes.append(
                f"{_name(found)} averages the parameters only: "
                f"{len(filled) - len(found.tensors)} buffers taken from {_name(sibling)}"
            )
            return replace(found, tensors=filled)
    return found


def _name_by_order(values: list[LazyTensor], named: dict[str, LazyTensor]) -> dict[str, LazyTensor] | None:
    parameters = [name for name in named if not is_buffer(name, named)]
    if [named[name].shape for name in parameters] != [value.shape for value in values]:
        return None
    return dict(named) | dict(zip(parameters, values, strict=True))


def _with_buffers(averaged: dict[str, LazyTensor], raw: dict[str, LazyTensor]) -> dict[str, LazyTensor] | None:
    """`averaged` in the order of `raw`, with the buffers it lacks; None unless exactly the buffers are lacking."""
    ours, theirs = wrapper_prefix(averaged), wrapper_prefix(raw)
    plain = {name[len(ours) :]: tensor for name, tensor in averaged.items()}
    names = {name[len(theirs) :]: tensor for name, tensor in raw.items()}
    missing = [name for name in names if name not in plain]
    if not missing or not set(plain) < set(names) or not all(is_buffer(name, names) for name in missing):
        return None
    return {f"{ours}{name}": plain.get(name, tensor) for name, tensor in names.items()}
