"""The outcome of a proof: a list of checks, each with its number, as a table for people and JSON for machines."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass, field
from typing import Any

from gan_serve import atomic, console
from gan_serve.errors import ProofError
from gan_serve.printable import json_text

REPORT_VERSION = 1

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
        value = self.value
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)
        return {
            "section": self.section,
            "name": self.name,
            "ok": self.ok,
            "value": value,
            "unit": self.unit,
            "limit": self.limit,
            "detail": self.detail,
            "warning": self.warning,
        }


@dataclass(frozen=True)
class Report:
    """All checks of one proof. `file` is the model's name; `against` names what it was compared with, or is empty."""

    file: str
    checks: tuple[Check, ...]
    against: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

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

    def table(self) -> str:
        """The checks as a plain text table, and a line that sums up."""
        rows = []
        section = ""
        for check in self.checks:
            first = check.section if check.section != section else ""
            section = check.section
            rows.append([first, check.name, check.mark, check.value_text, check.limit, check.detail])
        header = ["", "check", "", "measured", "limit", "where"]
        return f"{console.table(header, rows)}\n{self.verdict()}"

    def verdict(self) -> str:
        """One line: proved, or how many checks failed and which."""
        total = len(self.checks)
        if self.ok:
            compared = f" against {self.against}" if self.against else ""
            names = ", ".join(check.name for check in self.warnings)
            return f"proved{compared}: {total} of {total} checks hold" + (f"; look at: {names}" if names else "")
        names = ", ".join(check.name for check in self.failed)
        return f"not proved: {len(self.failed)} of {total} checks fail ({names})"

    def to_json(self) -> dict[str, Any]:
        return {
            "report": REPORT_VERSION,
            "file": self.file,
            "against": self.against,
            "ok": self.ok,
            "checks": [check.to_json() for check in self.checks],
            "facts": self.facts,
        }

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
        return ProofError(
            f"{self.file} is not proved: {first.section}: {first.name}: {first.value_text}{limit}{where}{more}",
            hint="; ".join(["the table lists every check", outcome]) if outcome else "the table lists every check",
        )


def format_number(value: float) -> str:
    """Three significant figures, short: 0.000012 → 1.2e-05, 43.21 → 43.2, inf → inf."""
    return f"{value:.3g}"
