"""The combinations of values to try for the choices of one segment."""

from __future__ import annotations

import itertools
import math
from typing import Any

from gan_core.errors import GanportError
from gan_export.draft import Choice, Draft
from gan_export.forensics.candidates import INVISIBLE, alike, eps_effect, same, values_to_try
from gan_export.understanding import edit

MOST = 600
"""More combinations than this are not listed. First all choices but activations keep to their two most usual values; if
that does not help, only combinations with one activation throughout are listed. `narrowing` improves the best."""

SMALL = 0.05
"""Two eps whose effect differs by less than this share are compared on all rows."""

Combination = tuple[tuple[Any, ...], Draft]
"""Values, aligned with the choices, and the draft that has them."""


def combinations(draft: Draft, choices: tuple[Choice, ...]) -> tuple[list[Combination], bool]:
    """One combination of each kind, early choices varying slowest, and whether these are all.

    Of near-identical values (`candidates.alike`) only the usual one is tried here. Combinations that make no network
    are left out.
    """
    options = [kinds(draft, choice) for choice in choices]
    complete = _count(options) <= MOST
    if not complete:
        options = [o if c.field == "activation" else o[:2] for o, c in zip(options, choices, strict=True)]
    if _count(options) <= MOST:
        tried = list(itertools.product(*options))
    else:
        tried = _one_activation(choices, options)
    found = ((values, with_values(draft, choices, values)) for values in tried)
    return [(values, candidate) for values, candidate in found if candidate is not None], complete


def _count(options: list[list[Any]]) -> int:
    return math.prod(map(len, options))


def _one_activation(choices: tuple[Choice, ...], options: list[list[Any]]) -> list[tuple[Any, ...]]:
    """The combinations in which every activation has the same value."""
    tied = [choice.field == "activation" for choice in choices]
    rest = [values for values, is_tied in zip(options, tied, strict=True) if not is_tied]
    shared = next((values for values, is_tied in zip(options, tied, strict=True) if is_tied), [None])
    tried: list[tuple[Any, ...]] = []
    for value in shared:
        for others in itertools.product(*rest):
            remaining = iter(others)
            tried.append(tuple(value if is_tied else next(remaining) for is_tied in tied))
    return tried


def one_step_away(choices: tuple[Choice, ...], starts: list[Combination]) -> list[Combination]:
    """`starts` and every combination that differs from one of them in a single choice."""
    found = list(starts)
    known = [values for values, _ in starts]
    for values, draft in starts:
        for i, choice in enumerate(choices):
            for value in kinds(draft, choice):
                changed = (*values[:i], value, *values[i + 1 :])
                if changed in known:
                    continue
                known.append(changed)
                candidate = with_values(draft, (choice,), (value,))
                if candidate is not None:
                    found.append((changed, candidate))
    return found


def neighbours(draft: Draft, choices: tuple[Choice, ...], values: tuple[Any, ...]) -> list[Combination]:
    """`values` with one of them exchanged for a near-identical one, or for another eps whose effect is small."""
    found: list[Combination] = []
    for i, choice in enumerate(choices):
        for value in values_to_try(choice):
            if same(choice.field, value, values[i]):
                continue
            if choice.field == "eps" and choice.layer is not None:
                close = INVISIBLE < eps_effect(draft, choice.layer, value, values[i]) < SMALL
            else:
                close = alike(draft, choice, value, values[i])
            candidate = with_values(draft, (choice,), (value,)) if close else None
            if candidate is not None:
                found.append(((*values[:i], value, *values[i + 1 :]), candidate))
    return found


def kinds(draft: Draft, choice: Choice) -> list[Any]:
    """The values to try of a choice, of near-identical ones the usual one."""
    found: list[Any] = []
    for value in values_to_try(choice):
        if not any(alike(draft, choice, value, known) for known in found):
            found.append(value)
    return found


def with_values(draft: Draft, choices: tuple[Choice, ...], values: tuple[Any, ...]) -> Draft | None:
    """`draft` with these values, or None when no network comes of them."""
    try:
        return edit.with_values(draft, choices, values)
    except GanportError:
        return None
