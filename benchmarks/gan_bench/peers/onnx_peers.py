"""The stock ONNX export, run by onnxruntime as it comes, and by OpenVINO itself, without ONNX Runtime between.

`peers.checkpoint` makes the file and leaves in its metadata what is needed to feed it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gan_bench.questions import Open
from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.files.metadata import peek
from gan_core.files.model_file import sha256_of
from gan_core.golden import inputs
from gan_core.interface import Interface
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.providers import PROVIDERS, how_to_get, import_onnxruntime, prepare

TRIALS, TRIAL_S = 3, 0.1

Run = Callable[[dict[str, Any]], dict[str, Any]]


class StockOnnx(Generator):
    """The stock export in a session with default options, but for the number of threads (and TF32 on CUDA)."""

    def __init__(self, asked: Open) -> None:
        assert asked.precision in (None, "fp32")
        onnxruntime = import_onnxruntime()
        prepare(asked.provider)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = asked.threads
        chosen: list[Any] = [PROVIDERS["cpu"]]
        if asked.provider == "cuda":
            if PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
                raise GanportError("the installed onnxruntime has no CUDA", hint=how_to_get("cuda"))
            chosen.insert(0, (PROVIDERS["cuda"], {"use_tf32": str(int(asked.tf32))}))
        self.session = onnxruntime.InferenceSession(str(asked.path), options, providers=chosen)
        ours = {theirs: name for name, theirs in PROVIDERS.items()}
        self.provider = ours[self.session.get_providers()[0]]
        if self.provider != asked.provider:
            raise GanportError(
                f"onnxruntime runs the stock export on {self.provider}, {asked.provider} was asked for",
                hint="measure the stock export on the CPU, or install what the provider needs",
            )
        self.threads, self.sha256 = asked.threads, sha256_of(asked.path)
        self.contract = _contract(asked.path)

    def run(self, z: F32 | U8, label: I64 | None = None) -> tuple[F32, U8]:
        image, pixels = self.session.run(["image", "pixels"], _feeds(self.contract, z, label))
        return image, pixels

    def run_pixels(self, z: F32 | U8, label: I64 | None = None) -> U8:
        pixels: U8 = self.session.run(["pixels"], _feeds(self.contract, z, label))[0]
        return pixels


class OpenVino(Generator):
    """The stock export on OpenVINO's CPU plugin, fp32, compiled for each batch size by itself.

    Two hints are tried for each batch size, and the faster kept: LATENCY, the batch in one request; THROUGHPUT, the
    batch divided over as many requests in flight as OpenVINO wants. `details["hint"]` says which (of the last batch).
    """

    def __init__(self, asked: Open) -> None:
        import openvino
        import openvino.properties.hint as hints
        from openvino.properties import inference_num_threads

        assert (asked.provider, asked.precision or "fp32", asked.tf32) == ("cpu", "fp32", False)
        self._core, self._path = openvino.Core(), asked.path
        self._config = {inference_num_threads: asked.threads, hints.inference_precision: openvino.Type.f32}
        self._modes = {
            "LATENCY": {hints.performance_mode: hints.PerformanceMode.LATENCY},
            "THROUGHPUT": {hints.performance_mode: hints.PerformanceMode.THROUGHPUT},
        }
        self.provider, self.threads, self.sha256 = "cpu", asked.threads, sha256_of(asked.path)
        self.contract = _contract(asked.path)
        self.details: dict[str, Any] = {}
        self._ready: dict[int, Run] = {}
        for batch in asked.batches:
            self._ready[batch] = self._best(batch)

    def run(self, z: F32 | U8, label: I64 | None = None) -> tuple[F32, U8]:
        if len(z) not in self._ready:
            self._ready[len(z)] = self._best(len(z))
        results = self._ready[len(z)](_feeds(self.contract, z, label))
        return results["image"], results["pixels"]

    def _best(self, batch: int) -> Run:
        """The faster of the two hints for this batch size: the best of some trials each, in turn."""
        ways = {name: self._compile(batch, name) for name in self._modes}
        interface = self.contract.interface
        label = np.zeros(batch, np.int64) if interface.conditional else None
        feeds = _feeds(self.contract, inputs(interface, range(batch)), label)
        best = dict.fromkeys(ways, float("inf"))
        for run in ways.values():
            run(feeds)
        for _ in range(TRIALS):
            for name, run in ways.items():
                started, calls = time.perf_counter(), 0
                while time.perf_counter() - started < TRIAL_S:
                    run(feeds)
                    calls += 1
                best[name] = min(best[name], (time.perf_counter() - started) / calls)
        chosen = min(best, key=lambda name: best[name])
        self.details["hint"] = chosen
        return ways[chosen]

    def _compile(self, batch: int, mode: str) -> Run:
        requests = 1
        if mode == "THROUGHPUT":
            compiled = self._compiled(batch, mode)
            wanted = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            requests = max(count for count in range(1, min(wanted, batch) + 1) if batch % count == 0)
        compiled = self._compiled(batch // requests, mode)
        names = [port.get_any_name() for port in compiled.inputs]
        pool = [compiled.create_infer_request() for _ in range(requests)]
        size = batch // requests

        def run(feeds: dict[str, Any]) -> dict[str, Any]:
            for index, request in enumerate(pool):
                part = {name: feeds[name][index * size : (index + 1) * size] for name in names}
                request.start_async(part, share_inputs=True)
            for request in pool:
                request.wait()
            outputs = {name: [request.get_tensor(name).data for request in pool] for name in ("image", "pixels")}
            return {
                name: parts[0].copy() if requests == 1 else np.concatenate(parts) for name, parts in outputs.items()
            }

        return run

    def _compiled(self, batch: int, mode: str) -> Any:
        model = self._core.read_model(self._path)
        interface = self.contract.interface
        taken = inputs(interface, range(1)).shape[1:]
        shapes = {interface.input_name: [batch, *taken], "label": [batch]}
        model.reshape({port: shapes[port.get_any_name()] for port in model.inputs})
        return self._core.compile_model(model, "CPU", self._config | self._modes[mode])


def _feeds(contract: Contract, z: F32 | U8, label: I64 | None) -> dict[str, Any]:
    feeds: dict[str, Any] = {contract.interface.input_name: z}
    return feeds if label is None else feeds | {"label": np.ascontiguousarray(label)}


def _contract(path: Path) -> Contract:
    """The contract that `peers.checkpoint.export_stock` left in the file."""
    keys = Contract(Interface(1, (1, 1, 1))).to_metadata()
    contract = Contract.from_metadata({key: json.dumps(peek(str(path), key)) for key in keys}, where=str(path))
    assert contract is not None
    return contract
