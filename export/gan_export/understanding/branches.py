"""What names and shapes say against a plain sequence: blocks whose input may be added to their output.

A skip without weights leaves no tensor, so a residual network may pass for a chain. Names may tell (`res1.conv2`), and
two convolutions of one shape, C → C, in a block of their own are how most residual blocks are written. A BatchNorm
behind the block settles it: what reaches it through the chain is what it remembers, or it is not.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from gan_export.draft import Skip
from gan_export.understanding.chaining import Chain, Step
from gan_export.understanding.registered import Registered

TOLD = re.compile(
    r"downsample|short_?cut|bypass|skip|resid|res(net)?_?(block|layer|unit)s?|c_sc|conv_sc|identity_conv", re.IGNORECASE
)
"""Parts of names that residual blocks have."""
ALONE = re.compile(r"res(net)?_?\d*s?", re.IGNORECASE)
"""Whole names of modules that residual blocks have."""


def skip_of(chain: Chain, registered: Registered) -> Skip | None:
    """Why `chain` may be no chain, or None."""
    told = [i for i, step in enumerate(chain.steps) if _telling(step.unit.name)]
    if told:
        block = _telling(chain.steps[told[0]].unit.name)
        inside = [i for i in told if f"{chain.steps[i].unit.name}.".startswith(f"{block}.")]
        convs = sum(chain.steps[i].unit.kind == "conv" for i in inside)
        if convs < 2:  # one convolution of a block that others belong to
            block = chain.steps[told[0]].unit.name.rpartition(".")[0]
            inside = [
                i for i, step in enumerate(chain.steps) if f"{step.unit.name}.".startswith(f"{block}." * bool(block))
            ]
        last = inside[-1]
        names = ", ".join(chain.steps[i].unit.first_key for i in told[:2])
        return Skip(
            f"this is no plain sequence of layers but a residual network: it has {names}", True, _trained(chain, last)
        )
    parent = _twins(chain, registered)
    if parent is None:
        return None
    inside = [i for i, step in enumerate(chain.steps) if step.unit.name.startswith(f"{parent}.")]
    reason = f"{parent} has two convolutions of one shape, as residual blocks have; nothing shows that no skip is there"
    return Skip(reason, False, _trained(chain, inside[-1]))


def _telling(name: str) -> str:
    """The dotted name up to the part that tells of a residual block; empty when none does."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if TOLD.search(part) or ALONE.fullmatch(part):
            following = i + 1 if i + 1 < len(parts) - 1 and parts[i + 1].isdecimal() else i
            return ".".join(parts[: following + 1])
    return ""


def _twins(chain: Chain, registered: Registered) -> str | None:
    """The first module, not the network itself, with two convolutions C → C of one shape in a row."""
    convs = [step for step in chain.steps if step.unit.kind == "conv"]
    everything = _common([step.unit.name for step in chain.steps if step.in_trunk])
    for first, second in itertools.pairwise(convs):
        shape = first.unit.shape
        parent = _common([first.unit.name, second.unit.name])
        alike = shape == second.unit.shape and shape[0] == shape[1] and shape[-1] > 1
        if alike and len(parent) > len(everything) and not _listed(first, second, registered):
            return parent
    return None


def _listed(first: Step, second: Step, registered: Registered) -> bool:
    """Whether the file says that nothing but what it lists runs between them."""
    between = registered.between(first.unit.name, second.unit.name)
    parents = first.unit.name.split(".")[:-1]
    above = [".".join(parents[:n]) for n in range(len(parents) + 1)]
    return bool(between and between.certain) and all(registered.class_name(name) == "Sequential" for name in above)


def _common(names: Sequence[str]) -> str:
    """The dotted name of the innermost module that holds all of `names`."""
    split = [name.split(".")[:-1] for name in names]
    same = 0
    while split and all(len(parts) > same and parts[same] == split[0][same] for parts in split):
        same += 1
    return ".".join(split[0][:same]) if split else ""


def _trained(chain: Chain, last: int) -> int:
    """How many BatchNorms that saw training stand up to step `last`."""
    return sum(step.unit.kind == "batch_norm" and step.unit.trained for step in chain.steps[: last + 1])
