"""The record of a benchmark as JSON: keys with their units, one schema number; written, and read back.

docs/benchmarks.md describes every key.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from gan_bench.limits import Limit, Work, kind_of, limit_of
from gan_bench.parity import Difference, verdict
from gan_bench.questions import Opened
from gan_bench.rows import Row
from gan_bench.windows import AGREEING_WINDOWS, AGREEMENT, percentile, rounded, spread, spread_json
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files.model_file import check_model_file, hint_of_missing
from gan_core.printable import printable

SCHEMA = 2

Status = Literal["ok", "unstable", "wrong", "failed"]


@dataclass
class Result:
    """All that was seen of one row. `to_json` turns it into the JSON of a row.

    precision  "fp32", "fp16" or "int8"
    opened     what the row's process said of itself; None when it did not get so far
    shared     the process had been loaded for another row
    failure    why the row's process came to grief, or empty
    mistake    what is wrong with its pixels, or empty; a wrong row has no speed
    windows    one per round taken: {"round", "calls", "images_per_s"}
    """

    row: Row
    precision: str = "fp32"
    opened: Opened | None = None
    shared: bool = False
    first_run_ms: float | None = None
    parity: Difference | None = None
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
        provider = self.opened.provider if self.opened else None
        return provider, self.precision, self.row.tf32, self.threads

    @property
    def threads(self) -> int | None:
        return self.opened.threads if self.opened else self.row.threads

    def saw(self, seen: Difference, reference: str) -> bool:
        """Takes note of a comparison; False when the pixels are wrong. `reference` is what they were compared with."""
        self.parity = seen if self.parity is None else self.parity + seen
        self.mistake = verdict(seen, "tf32" if self.row.tf32 else self.precision, reference)
        return not self.mistake

    def saw_memory(self, peak: int | None) -> None:
        """Takes note of a peak; None: the system does not say."""
        self.peak_rss_bytes = self.peak_rss_bytes if peak is None else peak

    def to_json(self, limits: list[Limit] | None = None, work: Work | None = None) -> Json:
        """The row's record. Speeds and latencies are null for a row that failed or draws wrong pixels."""
        measured = self.status in ("ok", "unstable") and bool(self.windows)
        rates = [window["images_per_s"] for window in self.windows] if measured else []
        ordered_ms = sorted(value / 1e6 for value in self.latencies_ns) if measured else []
        opened = self.opened
        held = limit_of(kind_of(*self.place), limits or [], work, self.row.batch, self.precision)
        limit = held["limit_images_per_s"] if self.row.task == "pixels" else None
        return {
            "task": self.row.task,
            "runtime": self.row.runtime,
            "model": None if self.row.model is None else self.row.model.name,
            "engine": opened.runtime.name if opened else None,
            "engine_version": opened.runtime.version if opened else None,
            "details": opened.details if opened else {},
            "precision": self.precision,
            "tf32": self.row.tf32,
            "provider_requested": self.row.provider,
            "provider": opened.provider if opened else None,
            "cpu_nodes": opened.cpu_nodes if opened else None,
            "threads_requested": self.row.threads,
            "threads": self.threads,
            "batch": self.row.batch,
            "status": self.status,
            "reason": self.failure or self.mistake or None,
            "import_ms": rounded(opened.import_ms if opened else None),
            "session_create_ms": rounded(opened.session_create_ms if opened else None),
            "first_run_ms": rounded(self.first_run_ms),
            "shared_process": self.shared,
            **spread_json("images_per_s", rates),
            "limit_images_per_s": limit,
            "limit_fraction": rounded(spread(rates).median / limit) if rates and limit else None,
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
class Reference:
    """What the pixels are compared with: what drew it, its name for people, and the images in a .npz file."""

    runtime: str
    model: str
    provider: str
    name: str
    file: Path


@dataclass(frozen=True)
class Measured:
    """What `measure` returns. `generator`, `models`: see docs/benchmarks.md."""

    generator: Json
    models: list[Json]
    reference: Reference
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
        reference = {key: getattr(self.reference, key) for key in ("runtime", "model", "provider")}
        return {
            "schema": SCHEMA,
            "tool": "gan-bench",
            "environment": environment,
            "generator": generator | counted,
            "models": models,
            "reference": reference,
            "settings": settings.to_json(),
            "limits": [limit.to_json() for limit in self.limits],
            "rows": [result.to_json(self.limits, work) | self._name(result) for result in self.results],
        }

    def _name(self, result: Result) -> Json:
        """What tells a row's file from the others: its name, where it is another exporter's or its precision is not
        its own.
        """
        if result.row.model is None:
            return {}
        of = {model["file"]: model for model in self.models}
        mine = of[result.row.model.name]
        alone = [model["precision"] for model in of.values()].count(mine["precision"]) == 1
        return {} if alone and mine.get("ours", True) else {"name": result.row.model.stem}


def dumps(values: Json) -> str:
    """Readable JSON text with a final newline; never NaN or Infinity, which are not JSON."""
    return printable(json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False), keep="\n") + "\n"


NEEDED = ("environment", "generator", "models", "settings", "limits", "rows")


def read_record(path: Path) -> Json:
    """The record of gan-bench in a file. Raises `GanportError` for anything else."""
    if path.suffix.lower() in (".onnx", ".ts", ".pt", ".pth"):
        raise GanportError(f"{path} is a model by its name, expected a record of gan-bench", hint=f'`model="{path}"`')
    if path.is_dir():
        raise GanportError(f"{path} is a folder, expected a record", hint="name a .json file in it")
    if not path.exists():
        raise GanportError(
            f"no record at {path}",
            hint=hint_of_missing(path, "check the path; gan-bench --json FILE writes a record"),
        )
    try:
        values: Json = json.loads(check_model_file(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise GanportError(f"{path} is not JSON: {error}", hint="gan-bench --json FILE writes a record") from None
    if not isinstance(values, dict) or values.get("tool") != "gan-bench":
        tool = values.get("tool") if isinstance(values, dict) else None
        found = f"a record of {tool}" if tool else "other JSON"
        raise GanportError(f"{path} is {found}, not a record of gan-bench", hint="gan-bench --json FILE writes one")
    schema = values.get("schema")
    if schema != SCHEMA:
        raise GanportError(f"{path} has schema {schema!r}, this gan-bench reads {SCHEMA}", hint="upgrade ganport")
    missing = [key for key in NEEDED if key not in values]
    if missing:
        raise GanportError(f"{path} lacks {missing[0]!r}: it was cut short or edited", hint="measure it again")
    return values
