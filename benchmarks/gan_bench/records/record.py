"""The record of a benchmark as JSON: keys with their units, one schema number.

docs/benchmarks.md describes every key. `gan_bench.records.reading` reads records, older ones too.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gan_bench.limits.roofline import Limit, kind_of, limit_of
from gan_bench.limits.work import Work
from gan_bench.records.parity import Parity, verdict
from gan_bench.records.rows import Row
from gan_bench.shared.stats import AGREEING_WINDOWS, AGREEMENT, percentile, spread

SCHEMA = 2

Json = dict[str, Any]
Status = Literal["ok", "unstable", "wrong", "failed"]


@dataclass
class Result:
    """All that was seen of one row. `to_json` turns it into the JSON of a row.

    precision  "fp32", "fp16" or "int8"
    opened     what the row's process said of itself; empty when it did not get so far
    shared     the process had been loaded for another row
    failure    why the row's process came to grief, or empty
    mistake    what is wrong with its pixels, or empty; a wrong row has no speed
    windows    one per round taken: {"round", "calls", "images_per_s"}
    """

    row: Row
    precision: str = "fp32"
    opened: Json = field(default_factory=dict)
    shared: bool = False
    first_run_ms: float | None = None
    parity: Parity | None = None
    windows: list[Json] = field(default_factory=list)
    latencies_ns: list[int] = field(default_factory=list)
    peak_rss_bytes: int | None = None
    peak_device_bytes: int | None = None
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

    @property
    def place(self) -> tuple[str | None, str, bool, int | None]:
        """(provider, precision, TF32, threads): what decides the limit it is held against."""
        return self.opened.get("provider"), self.precision, self.row.tf32, self.threads

    @property
    def threads(self) -> int | None:
        threads: int | None = self.opened.get("threads", self.row.threads)
        return threads

    def saw(self, seen: Parity, reference: str) -> bool:
        """Takes note of a comparison; False when the pixels are wrong. `reference` is what they were compared with."""
        self.parity = seen if self.parity is None else self.parity + seen
        self.mistake = verdict(seen, "tf32" if self.row.tf32 else self.precision, reference)
        return not self.mistake

    def saw_memory(self, rss_bytes: int | None, device_bytes: int | None) -> None:
        """Takes note of peaks; None: the system does not say."""
        self.peak_rss_bytes = rss_bytes if rss_bytes is not None else self.peak_rss_bytes
        self.peak_device_bytes = device_bytes if device_bytes is not None else self.peak_device_bytes

    def to_json(self, limits: list[Limit] | None = None, work: Work | None = None) -> Json:
        """The row's record. Speeds and latencies are null for a row that failed or draws wrong pixels."""
        measured = self.status in ("ok", "unstable")
        rates = spread([window["images_per_s"] for window in self.windows]) if measured else None
        ordered_ms = sorted(value / 1e6 for value in self.latencies_ns) if measured else []
        runtime = self.opened.get("runtime", {})
        held = limit_of(kind_of(*self.place), limits or [], work, self.row.batch, self.precision)
        limit = held["limit_images_per_s"] if self.row.task == "pixels" else None
        return {
            "task": self.row.task,
            "runtime": self.row.runtime,
            "model": None if self.row.model is None else self.row.model.name,
            "engine": runtime.get("name"),
            "engine_version": runtime.get("version"),
            "details": self.opened.get("details", {}),
            "precision": self.precision,
            "tf32": self.row.tf32,
            "provider_requested": self.row.provider,
            "provider": self.opened.get("provider"),
            "cpu_nodes": self.opened.get("cpu_nodes"),
            "threads_requested": self.row.threads,
            "threads": self.threads,
            "batch": self.row.batch,
            "status": self.status,
            "reason": self.failure or self.mistake or None,
            "import_ms": rounded(self.opened.get("import_ms")),
            "session_create_ms": rounded(self.opened.get("session_create_ms")),
            "first_run_ms": rounded(self.first_run_ms),
            "shared_process": self.shared,
            "images_per_s": rounded(rates.median if rates else None),
            "images_per_s_low": rounded(rates.low if rates else None),
            "images_per_s_high": rounded(rates.high if rates else None),
            "limit_images_per_s": limit,
            "limit_fraction": rounded(rates.median / limit) if rates and limit else None,
            "limited_by": held["limited_by"] if limit else None,
            "latency_p50_ms": rounded(percentile(ordered_ms, 50)),
            "latency_p95_ms": rounded(percentile(ordered_ms, 95)),
            "latency_p99_ms": rounded(percentile(ordered_ms, 99)),
            "latency_calls": len(ordered_ms),
            "peak_rss_bytes": self.peak_rss_bytes,
            "peak_device_bytes": self.peak_device_bytes,
            "parity": self._parity_json(),
            "windows": self.windows if measured else [],
        }

    def _parity_json(self) -> Json | None:
        if self.parity is None:
            return None
        return {
            "pixels_max_lsb": self.parity.max_lsb,
            "psnr_db": rounded(self.parity.psnr_db),
            "pixels_compared": self.parity.count,
            "image_max_abs": rounded(self.parity.image_max_abs),
        }


@dataclass(frozen=True)
class Settings:
    """How it was measured. `share_process`: rows that differ in batch alone run in one process."""

    window_s: float
    max_rounds: int
    quick: bool
    timeout_s: int
    min_calls_per_window: int
    roofline: bool = True
    share_process: bool = False

    def to_json(self) -> Json:
        return asdict(self) | {"agreeing_windows": AGREEING_WINDOWS, "agreement": AGREEMENT}


@dataclass(frozen=True)
class Measured:
    """What `bench.measure` returns. `generator`, `models`, `reference`: see docs/benchmarks.md."""

    generator: Json
    models: list[Json]
    reference: Json
    results: list[Result]
    limits: list[Limit]
    work: Work | None

    def to_json(self, environment: Json, settings: Settings) -> Json:
        """The whole record."""
        work = self.work
        counted = {
            "flops_per_image": None if work is None else work.flops_per_image,
            "parameters": None if work is None else work.parameters,
            "bytes_per_image": None if work is None else 4 * work.latents + work.pixels,
            "counted_from": None if work is None else work.source,
        }
        generator = {key: value for key, value in self.generator.items() if key != "spec"}
        models = [{key: value for key, value in model.items() if key != "spec"} for model in self.models]
        reference = {key: self.reference[key] for key in ("runtime", "model", "provider")}
        return {
            "schema": SCHEMA,
            "tool": "gan-bench",
            "environment": environment,
            "generator": generator | counted,
            "models": models,
            "reference": reference,
            "settings": settings.to_json(),
            "limits": [limit.to_json() for limit in self.limits],
            "rows": [result.to_json(self.limits, work) for result in self.results],
        }


def rounded(value: float | None) -> float | None:
    """Four significant digits: more than any of these numbers deserves. None for what is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")
