"""Records made by hand, for the tests of what reads them."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_bench.limits import Kind, Limit, Work
from gan_bench.parity import Difference
from gan_bench.questions import Library, Model, Opened, Product
from gan_bench.record import Measured, Reference, Result, Settings
from gan_bench.rows import Row
from gan_serve.terminal.layout import painted

ENVIRONMENT: dict[str, Any] = {
    "date": "2030-01-02T03:04:05+00:00",
    "command": "gan-bench",
    "hardware": {"cpu": "Abacus 9", "cores": 4, "cores_usable": 2, "memory_bytes": 1, "gpus": []},
    "versions": {"python": "3", "ganport": "0", "numpy": "2", "os": "x"},
    "commit": "0123456789abcdef",
    "load_average_1m": 0.0,
    "cpu_busy_fraction": 0.0,
}
GENERATOR: dict[str, Any] = {
    "name": "dcgan-64", "z_dim": 100, "n_classes": 0, "image": [3, 64, 48], "spec": None, "checkpoint": None,
    "checkpoint_sha256": "aa" * 32,
}  # fmt: skip
MODEL: dict[str, Any] = {
    "file": "g.onnx", "precision": "fp32", "size_bytes": 14_000_000,
    "runtime": {"name": "onnxruntime", "version": "1"},
}  # fmt: skip
REFERENCE = Reference("eager", "g.pt", "cpu", "PyTorch", Path("x.npz"))
OPENED = Opened(
    provider="cpu", threads=2, import_ms=60.04321, session_create_ms=41.0, cpu_nodes=0, details={},
    runtime=Library("onnxruntime", "1"),
    model=Model(
        sha256="ab", name="dcgan-64", precision="fp32", weights="raw", z_dim=100, n_classes=0, image=(3, 64, 48),
        value_range=(-1.0, 1.0), passes=(), spec=None, checkpoint_sha256=None,
    ),
)  # fmt: skip
SETTINGS = Settings(window_s=1.0, max_rounds=12, quick=False, timeout_s=300, min_calls_per_window=34)
WORK = Work(flops_per_image=200_000_000, parameters=3_500_000, latents=100, pixels=9216, source="spec")


def result(
    batch: int = 8, provider: str = "cpu", calls: int = 120, rates: tuple[float, ...] = (540.0, 570.0, 580.0),
    runtime: str = "ganport", **changes: Any,
) -> Result:  # fmt: skip
    """A row that went well; `row` holds changes of its `Row`, the others are attributes of `Result`."""
    made = Result(
        Row(provider, None, batch, runtime=runtime, **changes.pop("row", {})),
        opened=replace(OPENED, provider=provider),
        first_run_ms=12.3,
        parity=Difference(1, 100, 1000, 2e-6),
        windows=[{"round": n, "calls": calls // 3, "images_per_s": rate} for n, rate in enumerate(rates)],
        latencies_ns=[14_000_000 + 1000 * n for n in range(calls)],
        peak_rss_bytes=80 * 2**20,
        stable=True,
    )  # fmt: skip
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def limit(precision: str = "fp32", device: str = "cpu", **changes: Any) -> Limit:
    """A machine that multiplies at 150 GFLOP/s and copies at 20 GB/s."""
    made = Limit(
        Kind(device, precision, 2 if device == "cpu" else None),
        Product("numpy", 1536, 14_000_000),
        [148.0, 150.0, 151.0],
        [19.0, 20.0, 21.0],
    )
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def made_of(*results: Result, limits: tuple[Limit, ...] = (), work: Work | None = WORK, **generator: Any) -> Any:
    """The record of `results`."""
    measured = Measured(GENERATOR | generator, [dict(MODEL)], REFERENCE, list(results), list(limits), work)
    return measured.to_json(copy.deepcopy(ENVIRONMENT), SETTINGS)


def plain(text: str) -> str:
    """A table without its colours."""
    return painted(text, io.StringIO())
