"""A checkpoint's tensors, loaded into a live module strictly: every name and every shape, or an error that lists them.

The two sides may disagree about a prefix ("module.", "generator.") and about whether a normalised weight is kept as
its parts or folded. Each way of naming the file's tensors is compared with the module, and the one that fits taken.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gan_core.errors import GanportError
from gan_export.reading import Reading
from gan_export.reading.roles import common_prefix
from gan_export.source import without_parametrizations

COUNTER = "num_batches_tracked"
"""BatchNorm counts its batches there; eval mode does not use it, and old files lack it."""
SHOWN = 4


@dataclass(frozen=True)
class _Fit:
    """One way of naming the file's tensors for the module, and what is wrong with it."""

    module: nn.Module
    tensors: dict[str, Tensor]
    note: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def wrong(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)


def load_weights(module: nn.Module, reading: Reading, label: str) -> tuple[nn.Module, tuple[str, ...]]:
    """`module` (or a copy with its reparametrisations resolved) holding the weights of `reading`, and notes.

    Raises `GanportError` when names are missing or left over, or shapes differ, in the way that fits best.
    """
    best: _Fit | None = None
    for fit in _fits(module, reading):
        if best is None or fit.wrong < best.wrong:
            best = fit
        if not best.wrong:
            break
    assert best is not None
    if best.wrong:
        raise _explain(best, reading, label)
    best.module.load_state_dict(best.tensors, strict=False)
    return best.module, (best.note,) if best.note else ()


def mismatch(module: nn.Module, reading: Reading) -> tuple[float, dict[str, torch.Size]]:
    """How many tensors of `module` or of `reading` are missing, left over or of another shape, in the way of naming
    them that fits best; of a tensor of another shape, the part of its sizes that differ. 0: they fit; infinity: they
    have no name in common.

    And the shapes of the module's tensors, counters left out; without sizes where they have none yet.
    """
    expected = module.state_dict()
    shapes = {
        name: torch.Size() if is_lazy(expected[name]) else expected[name].shape for name in _without_counters(expected)
    }
    tensors = (reading.saved, *([] if reading.saved is reading.tensors else [reading.tensors]))
    ways = (named for some in tensors for named, _ in _namings(some, expected, reading))
    return min(_distance(shapes, named) for named in ways), shapes


def _distance(shapes: dict[str, torch.Size], named: dict[str, Tensor]) -> float:
    if not shapes.keys() & named.keys():
        return math.inf
    wrong = float(len(_without_counters(shapes.keys() ^ named.keys())))
    for name, shape in shapes.items():
        other = named[name].shape if name in named else shape
        if len(shape) == len(other):
            wrong += sum(a != b for a, b in zip(shape, other, strict=True)) / max(len(shape), 1)
        else:
            wrong += len(shape) > 0
    return wrong


def _fits(module: nn.Module, reading: Reading) -> Iterator[_Fit]:
    """Every way in turn, the plainest first."""
    for folded, resolved in ((False, False), (True, False), (True, True)):
        target = _resolved(module) if resolved else module
        expected = target.state_dict()
        for named, note in _namings(reading.tensors if folded else reading.saved, expected, reading):
            how = "its normalised weights folded" if folded else ""
            yield _compared(target, expected, named, "; ".join(filter(None, (note, how))))


def _resolved(module: nn.Module) -> nn.Module:
    settle(module)
    return without_parametrizations(module)


def settle(module: nn.Module) -> None:
    """Recomputes what old weight_norm hooks made, without gradients: torch cannot copy a module otherwise. In place."""
    with torch.no_grad():
        for part in module.modules():
            for hook in part._forward_pre_hooks.values():
                if type(hook).__name__ == "WeightNorm":
                    setattr(part, hook.name, hook.compute_weight(part))  # type: ignore[attr-defined]


def _namings(
    tensors: dict[str, Tensor], expected: dict[str, Tensor], reading: Reading
) -> Iterator[tuple[dict[str, Tensor], str]]:
    yield tensors, ""
    if reading.prefix:
        yield {f"{reading.prefix}{name}": tensor for name, tensor in tensors.items()}, f"prefix {reading.prefix!r} kept"
    parameters = _without_counters(expected)
    ours, theirs = common_prefix(tensors), common_prefix(parameters)
    for strip in _heads(ours):
        for add in _heads(theirs):
            if strip or add:
                said = (f"prefix {strip!r} stripped" if strip else "", f"prefix {add!r} added" if add else "")
                renamed = {add + name[len(strip) :]: tensor for name, tensor in tensors.items()}
                yield renamed, ", ".join(filter(None, said))
    parts = [head for head in _parts(tensors, expected) if head]
    if len(parts) == 1:
        part = {name.removeprefix(parts[0]): one for name, one in tensors.items() if name.startswith(parts[0])}
        yield part, f"its part {parts[0]!r} taken, which has these names; {len(tensors) - len(part)} other tensors left"
    shapes = [tensor.shape for tensor in tensors.values()]
    if reading.positional and [expected[name].shape for name in parameters] == shapes:
        note = f"a list without names, its {len(tensors)} tensors taken in the module's order"
        yield dict(zip(parameters, tensors.values(), strict=True)), note


def _parts(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """The prefixes under which `tensors` hold every name and shape of `expected`."""
    wanted = {name: tensor.shape for name, tensor in expected.items() if not name.endswith(COUNTER)}
    first = next(iter(wanted), None)
    heads = [name.removesuffix(first) for name in tensors if first and name.endswith(f".{first}")]
    return [
        head
        for head in heads
        if all(head + name in tensors and tensors[head + name].shape == shape for name, shape in wanted.items())
    ]


def _heads(prefix: str) -> list[str]:
    """ "a.b." → "", "a.", "a.b."."""
    parts = prefix.split(".")[:-1]
    return ["".join(f"{part}." for part in parts[:end]) for end in range(len(parts) + 1)]


def _compared(module: nn.Module, expected: dict[str, Tensor], named: dict[str, Tensor], note: str) -> _Fit:
    missing = tuple(name for name in expected if name not in named and not name.endswith(COUNTER))
    unexpected = tuple(name for name in named if name not in expected and not name.endswith(COUNTER))
    misshapen = tuple(
        f"{name} {_shape(named[name])} for {_shape(tensor)}"
        for name, tensor in expected.items()
        if name in named and not is_lazy(tensor) and named[name].shape != tensor.shape
    )
    used = {name: tensor for name, tensor in named.items() if name in expected}
    return _Fit(module, used, note, missing, unexpected, misshapen)


def _explain(fit: _Fit, reading: Reading, label: str) -> GanportError:
    faults = []
    if fit.missing:
        faults.append(f"{len(fit.missing)} missing ({_some(fit.missing)})")
    if fit.unexpected:
        faults.append(f"{len(fit.unexpected)} left over ({_some(fit.unexpected)})")
    if fit.misshapen:
        faults.append(f"{len(fit.misshapen)} of another shape ({_some(fit.misshapen)})")
    return GanportError(
        f"the weights of {reading.path} do not fit {label}: {'; '.join(faults)}", hint=_hint(fit, reading)
    )


def _hint(fit: _Fit, reading: Reading) -> str:
    if fit.misshapen and not fit.missing and not fit.unexpected:
        return "the sizes are other ones than it was trained with: give them with `args`"
    pairs = []
    for name in fit.missing:
        near = difflib.get_close_matches(name, fit.unexpected, n=1, cutoff=0.6)
        if near:
            pairs.append(f"{near[0]} for {name}?")
    if pairs:
        return f"in the file by nearly that name: {_some(tuple(pairs))}"
    if not fit.tensors:
        keys = [one.key for one in reading.passed_over if one.key]
        others = f"; the file also holds {_some(tuple(keys))}: `key`" if keys else ""
        return f"no name agrees: is it this network's file?{others}"
    return "build it as it was trained: `args`; gan-export inspect FILE shows what the file holds"


def _without_counters(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.endswith(COUNTER)]


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:SHOWN]) + (f", … and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
