"""Each row beside what the machine allows: a call takes at least as long as its products, and as its bytes.

    limit = batch / max(batch · flops / product rate, bytes of the call / copy rate)    images/s

after Williams, Waterman and Patterson, Roofline (CACM 2009). `limits.work` says what `flops` and `bytes` are,
`limits.machine` how the rates are measured. The bytes are those of a call that keeps every image in the cache, so
that no row can pass the limit by being clever with memory. It can be passed by doing fewer operations (Winograd), and
by int8, whose rows are held against fp32's product.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gan_bench.limits.work import Work
from gan_bench.shared.stats import spread, stable

Json = dict[str, Any]

DEVICES = {"cpu": "cpu", "openvino": "cpu", "cuda": "cuda", "tensorrt": "cuda"}
"""The device whose limits hold for a provider; the others' are not measured."""


@dataclass(frozen=True)
class Kind:
    """Which limit: of a device, at a precision ("fp32", "tf32", "fp16"), with a number of threads."""

    device: str
    precision: str
    threads: int | None


@dataclass
class Limit:
    """The limits of one kind, window by window."""

    kind: Kind
    about: Json = field(default_factory=dict)
    gflop_per_s: list[float] = field(default_factory=list)
    gb_per_s: list[float] = field(default_factory=list)
    failure: str = ""

    def to_json(self) -> Json:
        product = spread(self.gflop_per_s) if self.gflop_per_s else None
        copy = spread(self.gb_per_s) if self.gb_per_s else None
        return {
            "device": self.kind.device,
            "precision": self.kind.precision,
            "threads": self.kind.threads,
            "product_by": self.about.get("product_by"),
            "product_size": self.about.get("product_size"),
            "product_gflop_per_s": _rounded(product.median if product else None),
            "product_gflop_per_s_low": _rounded(product.low if product else None),
            "product_gflop_per_s_high": _rounded(product.high if product else None),
            "copy_bytes": self.about.get("copy_bytes"),
            "copy_gb_per_s": _rounded(copy.median if copy else None),
            "copy_gb_per_s_low": _rounded(copy.low if copy else None),
            "copy_gb_per_s_high": _rounded(copy.high if copy else None),
            "stable": stable(self.gflop_per_s),
            "reason": self.failure or None,
        }


def kind_of(provider: str | None, precision: str, tf32: bool, threads: int | None) -> Kind | None:
    """The limit that a row is held against; None for a device that is not measured."""
    device = DEVICES.get(provider or "")
    if device is None:
        return None
    if device == "cpu":
        return Kind("cpu", "fp32", threads)  # onnxruntime and torch compute fp16 files in fp32 there
    return Kind("cuda", "fp16" if precision == "fp16" else "tf32" if tf32 else "fp32", None)


def limit_of(kind: Kind | None, limits: Iterable[Limit], work: Work | None, batch: int, precision: str) -> Json:
    """{"limit_images_per_s", "limited_by"} of a row, both None where the limit is not known."""
    found = next((limit for limit in limits if limit.kind == kind and limit.gflop_per_s), None)
    if found is None or work is None:
        return {"limit_images_per_s": None, "limited_by": None}
    products_s = batch * work.flops_per_image / (spread(found.gflop_per_s).median * 1e9)
    copies_s = 0.0
    if found.gb_per_s:
        copies_s = work.bytes_per_call(batch, precision) / (spread(found.gb_per_s).median * 1e9)
    slower = max(products_s, copies_s)
    return {
        "limit_images_per_s": _rounded(batch / slower) if slower else None,
        "limited_by": "products" if products_s >= copies_s else "bytes",
    }


def kinds_of(rows: Sequence[tuple[str | None, str, bool, int | None]]) -> list[Kind]:
    """The limits to measure for rows given as (provider, precision, tf32, threads)."""
    return list(dict.fromkeys(kind for row in rows if (kind := kind_of(*row)) is not None))


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
