"""The proof: does the file draw what PyTorch draws, and is it what it says? (docs/proof.md)

`prove.prove(path, source)` returns a `Report`: a list of `Check`s, each with what was measured and what it had to be,
as rows for people and JSON for machines.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gan_core.errors import ProofError
from gan_core.files import atomic
from gan_core.printable import json_text

REPORT_VERSION = 1
SHOWN = 6
"""Assumptions that the line naming them has room for; `gan-gen --info` prints all."""

Value = float | int | str


@dataclass(frozen=True)
class Check:
    """One line of a proof.

    section  "reference", "structure", "parity", "meaning" or "golden"
    name     short and stable: tests and scripts may rely on it
    ok       whether it holds
    value    what was measured: a number with its unit told by `unit`, or a few words
    limit    what it had to be: "<= 0.0001", "none", "" when the value is only reported
    unit     "LSB", "dB", "" …
    detail   what a person wants to know next: on which seed, in which node
    warning  it holds, but a person should look: `detail` says at what
    """

    section: str
    name: str
    ok: bool
    value: Value
    limit: str = ""
    unit: str = ""
    detail: str = ""
    warning: bool = False

    @property
    def mark(self) -> str:
        return "FAIL" if not self.ok else "warn" if self.warning else "ok"

    @property
    def value_text(self) -> str:
        text = format_number(self.value) if isinstance(self.value, float) else str(self.value)
        return f"{text} {self.unit}".strip()

    def to_json(self) -> dict[str, Any]:
        finite = not isinstance(self.value, float) or math.isfinite(self.value)
        return dataclasses.asdict(self) | ({} if finite else {"value": str(self.value)})


def at_most(section: str, name: str, value: float, limit: float | None, unit: str, detail: str = "") -> Check:
    """A check that holds where `value` is no more than `limit`; without a limit the value is only reported."""
    ok = limit is None or value <= limit
    return Check(section, name, ok, value, "" if limit is None else f"<= {limit:.3g}", unit, detail)


@dataclass(frozen=True)
class Report:
    """All checks of one proof.

    file                          the model's name
    against                       what it was compared with, or empty
    assumptions, answers, doubts  what the reading rests on, as in `gan_core.contract.Contract`: no check can show it
    """

    file: str
    checks: tuple[Check, ...]
    against: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.ok)

    @property
    def warnings(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.ok and check.warning)

    def check(self, name: str) -> Check:
        """The check called `name`. Raises `KeyError` when it was not made."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def named(self, file: str) -> Report:
        """The same report for a file that was renamed after its proof."""
        return dataclasses.replace(self, file=file)

    def rows(self, *, only_failed: bool = False) -> list[list[str]]:
        """The checks as rows: section (named where it begins), name, mark, value, limit, detail."""
        rows: list[list[str]] = []
        section = ""
        for check in self.failed if only_failed else self.checks:
            first = check.section if check.section != section else ""
            section = check.section
            rows.append([first, check.name, check.mark, check.value_text, check.limit, check.detail])
        return rows

    def verdict(self) -> str:
        """One line: proved, and what the reading rests on; or how many checks failed and which."""
        total = len(self.checks)
        if self.ok:
            compared = f" against {self.against}" if self.against else ""
            names = ", ".join(check.name for check in self.warnings)
            return f"proved{compared}: {total} of {total} checks hold" + "".join(
                filter(
                    None, (self._closeness(), self._doubted(), self._rests_on(), f"; look at: {names}" if names else "")
                )
            )
        names = ", ".join(check.name for check in self.failed)
        return f"not proved: {len(self.failed)} of {total} checks fail ({names})"

    def _closeness(self) -> str:
        """How far the images are from what they were compared with, where they were."""
        pixels = next(
            (check for check in self.checks if (check.section, check.name) == ("parity", "pixel values")), None
        )
        return "" if pixels is None else f", pixels within {pixels.value_text}"

    def _doubted(self) -> str:
        return f", but the images are likely wrong: {'; '.join(self.doubts)}" if self.doubts else ""

    def _rests_on(self) -> str:
        """ "; the reading assumes 2 things: output tanh in [-1, 1], layer 3 eps 0.8; as you said: images of 3x9x9"."""
        heads = [assumption.partition(": ")[0].partition(" (")[0] for assumption in self.assumptions]
        things = f"{len(heads)} thing{'s' if len(heads) > 1 else ''}"
        assumed = f"; the reading assumes {things}: {_some(heads)}" if heads else ""
        return assumed + (f"; as you said: {_some(self.answers)}" if self.answers else "")

    def to_json(self) -> dict[str, Any]:
        checks = [check.to_json() for check in self.checks]
        return {"report": REPORT_VERSION, "ok": self.ok} | dataclasses.asdict(self) | {"checks": checks}

    def write(self, target: str | os.PathLike[str]) -> None:
        """Writes the report as JSON, whole or not at all. Raises `GanportError` when it cannot be written."""
        atomic.write_text(target, json_text(self.to_json(), indent=2) + "\n")

    def error(self, outcome: str = "") -> ProofError:
        """The failure as an error: the first failed check, by how much, and where; `outcome` ends the hint."""
        first = self.failed[0]
        limit = f", expected {first.limit}" if first.limit else ""
        where = f" ({first.detail})" if first.detail else ""
        others = len(self.failed) - 1
        more = f"; {others} more {'checks fail' if others > 1 else 'check fails'}" if others else ""
        exact = '`precision="fp32"` and `store="fp32"` keep every image' if first.name == "worst PSNR" else ""
        return ProofError(
            f"{self.file} is not proved: {first.section}: {first.name}: {first.value_text}{limit}{where}{more}",
            hint="; ".join(filter(None, (exact, "`report` has every check", outcome))),
        )


def _some(names: Sequence[str]) -> str:
    """The names; of many the first ones, and how many more."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def format_number(value: float) -> str:
    """Three significant figures, short: 0.000012 → 1.2e-05, 43.21 → 43.2, inf → inf."""
    return f"{value:.3g}"
