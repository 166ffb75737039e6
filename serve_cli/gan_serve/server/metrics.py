"""What `/metrics` shows, by prometheus-client: named like Triton's, but for the prefix and the units (seconds).

docs/serve.md has the table of what stands for which of Triton's. Several processes that serve one address count
in files of a folder that they share, of which prometheus-client must know when it is imported (`workers.counting`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from gan_serve.server.workers import FOLDER

_MOMENTS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counted in a registry of its own, so that several servers in one process do not add up."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"gan_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"gan_{name}", text, labels, buckets=buckets, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"gan_{name}", text, labels, registry=registry, multiprocess_mode="livesum")

        self.http = counter("http_requests", "Answers", "method", "route", "status")
        self.success = counter("inference_request_success", "Requests for images that were answered", "model")
        self.failure = counter("inference_request_failure", "Requests for images that were not", "model", "reason")
        self.images = counter("inference_count", "Images generated", "model")
        self.batches = counter("inference_exec_count", "Batches run", "model")
        self.request_s = histogram("inference_request_duration_seconds", "From request to answer", _MOMENTS, "model")
        self.queue_s = histogram("inference_queue_duration_seconds", "Waiting for a batch", _MOMENTS, "model")
        self.compute_s = histogram("inference_compute_infer_duration_seconds", "Running a batch", _MOMENTS, "model")
        self.batch_size = histogram("inference_batch_size", "Images in a batch", _IMAGES, "model")
        self.workers = gauge("workers", "Processes that serve")
        self._pending = gauge("inference_pending_images", "Images that wait", "model")

    def pending(self, name: str) -> Callable[[float], None]:
        """What is to be told how many images of a model wait, whenever that changes."""
        return self._pending.labels(name).set

    def add_model(self, name: str) -> Callable[[int, float, list[float]], None]:
        """Begins to count for a model; returns what is to be told of its batches (`batching.Observe`)."""
        images, batches = self.images.labels(name), self.batches.labels(name)
        size, compute, queue = (each.labels(name) for each in (self.batch_size, self.compute_s, self.queue_s))
        self.success.labels(name)

        def observe(count: int, compute_s: float, waited_s: list[float]) -> None:
            images.inc(count)
            batches.inc()
            size.observe(count)
            compute.observe(compute_s)
            for each in waited_s:
                queue.observe(each)

        return observe

    def text(self) -> bytes:
        """All of it in Prometheus' text format, of all processes that share a folder."""
        registry = self._registry
        if folder := os.environ.get(FOLDER):
            registry = CollectorRegistry()
            registry.register(_Together(Path(folder)))
        return generate_latest(registry)


class _Together(Collector):
    """What processes have counted in the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        files = []
        for file in self._folder.glob("*.db"):
            with contextlib.suppress(OSError):  # it was deleted, because its process has died
                if file.stat().st_size:  # it is empty for a moment, when a process makes it
                    files.append(str(file))
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged
