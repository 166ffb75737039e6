"""The record of a benchmark as JSON: keys with their units, one schema number.

docs/benchmarks.md describes every key.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gan_bench.parity import Parity
from gan_bench.rows import Row
from gan_bench.stats import AGREEING_WINDOWS, AGREEMENT, percentile, spread

SCHEMA = 1

Json = dict[str, Any]
Status = Literal["ok", "unstable", "wrong", "failed"]


@dataclass
class Result:
    """All that was seen of one row. `measured` turns it into the JSON of a row.

    failure   why the row's process came to grief, or empty
    mistake   what is wrong with its pixels, or empty; a wrong row has no speed
    windows   one per round taken: {"round", "start_s", "calls", "images_per_s"}
    """

    row: Row
    opened: Json = field(default_factory=dict)
    first_run_ms: float | None = None
    parity: Parity | None = None
    windows: list[Json] = field(default_factory=list)
    latencies_ns: list[int] = field(default_factory=list)
    peak_rss_bytes: int | None = None
    stable: bool = False
    failure: str = ""
    mistake: str = ""

    @property
    def status(self) -> Status:
        if self.failure:
            return "failed"
        if self.mistake:
            return "wrong"
        return "ok" if self.stable else "unstable"

    def to_json(self) -> Json:
        """The row's record. Speeds and latencies are null for a row that failed or draws wrong pixels."""
        measured = self.status in ("ok", "unstable")
        rates = spread([window["images_per_s"] for window in self.windows]) if measured else None
        ordered_ms = sorted(value / 1e6 for value in self.latencies_ns) if measured else []
        return {
            "provider_requested": self.row.provider,
            "provider": self.opened.get("provider"),
            "threads_requested": self.row.threads,
            "threads": self.opened.get("threads", self.row.threads),
            "batch": self.row.batch,
            "status": self.status,
            "reason": self.failure or self.mistake or None,
            "import_ms": _rounded(self.opened.get("import_ms")),
            "session_create_ms": _rounded(self.opened.get("session_create_ms")),
            "first_run_ms": _rounded(self.first_run_ms),
            "images_per_s": _rounded(rates.median if rates else None),
            "images_per_s_low": _rounded(rates.low if rates else None),
            "images_per_s_high": _rounded(rates.high if rates else None),
            "latency_p50_ms": _rounded(percentile(ordered_ms, 50)),
            "latency_p95_ms": _rounded(percentile(ordered_ms, 95)),
            "latency_p99_ms": _rounded(percentile(ordered_ms, 99)),
            "latency_calls": len(ordered_ms),
            "peak_rss_bytes": self.peak_rss_bytes,
            "parity": self._parity_json(),
            "windows": self.windows if measured else [],
        }

    def _parity_json(self) -> Json | None:
        if self.parity is None:
            return None
        return {
            "pixels_max_lsb": self.parity.max_lsb,
            "psnr_db": _rounded(self.parity.psnr_db),
            "pixels_compared": self.parity.count,
        }


@dataclass(frozen=True)
class Settings:
    """How it was measured."""

    window_s: float
    max_rounds: int
    quick: bool
    timeout_s: int
    min_calls_per_window: int

    def to_json(self) -> Json:
        return asdict(self) | {"agreeing_windows": AGREEING_WINDOWS, "agreement": AGREEMENT}


def record(environment: Json, model: Json, settings: Settings, results: list[Result]) -> Json:
    """The whole record: see docs/benchmarks.md."""
    return {
        "schema": SCHEMA,
        "tool": "gan-bench",
        "environment": environment,
        "model": model,
        "settings": settings.to_json(),
        "rows": [result.to_json() for result in results],
    }


def dumps(values: Json) -> str:
    """Readable JSON text with a final newline; never NaN or Infinity, which are not JSON."""
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _rounded(value: float | None) -> float | None:
    """Four significant digits: more than any of these numbers deserves."""
    if value is None or value == 0 or not math.isfinite(value):
        return value
    return float(f"{value:.4g}")
