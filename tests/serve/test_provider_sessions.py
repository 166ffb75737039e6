"""How sessions are opened on providers that are not here: options, TF32, and CUDA's ways down, one step at a time."""

from __future__ import annotations

import contextlib
import ctypes
import os
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_core.errors import GanportError, JobError
from gan_core.files import metadata
from gan_serve.runtime import cudart, providers, sessions
from gan_serve.runtime.cudart import CudaError, CudaRuntime
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.runtime.sessions import Settings, provider_options
from serve import onnx_files

REAL_SESSION = providers.import_onnxruntime().InferenceSession


def test_options_of_cuda() -> None:
    plain = provider_options("cuda", Settings(1))
    assert plain["use_tf32"] == "0"
    assert plain["cudnn_conv_algo_search"] == "HEURISTIC"
    assert plain["prefer_nhwc"] == "0"
    assert provider_options("cuda", Settings(1, tf32=True))["use_tf32"] == "1"
    assert provider_options("cuda", Settings(1, precision="fp16"))["prefer_nhwc"] == "1"
    assert provider_options("cuda", Settings(1, options={"use_tf32": "7", "x": "y"})) == plain | {
        "use_tf32": "7",
        "x": "y",
    }


def test_options_of_the_others() -> None:
    assert provider_options("cpu", Settings(1)) == {}
    openvino = {"device_type": "CPU", "precision": "FP32", "num_of_threads": "3"}
    assert provider_options("openvino", Settings(3)) == openvino
    assert provider_options("coreml", Settings(1))["ModelFormat"] == "MLProgram"


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Machine:
    """An onnxruntime built with CUDA and TensorRT, whose sessions refuse what the test names."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.refuses: tuple[str, ...] = ()
        self.runtime_error: str | None = None
        self.runs: list[Any] = []

    def session(self, model: object, options: Any, *, providers: list[Any], enable_fallback: int) -> Any:
        assert enable_fallback == 0
        name, given = providers[0]
        self.asked.append(given)
        for key in self.refuses:
            if given.get(key, "0") != "0":
                raise RuntimeError(f"{key}: the nodes are\n not all on CUDA")
        real = REAL_SESSION(model, options, providers=["CPUExecutionProvider"])
        machine = self

        class Session:
            def get_providers(self) -> list[str]:
                return [name, "CPUExecutionProvider"]

            def get_provider_graph_assignment_info(self) -> list[Any]:
                return [types.SimpleNamespace(ep_name=name, get_nodes=lambda: ["all of them"])]

            def run(self, outputs: Any, feeds: Any, run_options: Any = None) -> Any:
                machine.runs.append(run_options)
                return real.run(outputs, feeds)

            def __getattr__(self, attribute: str) -> Any:
                return getattr(real, attribute)

        return Session()

    def runtime(self, cuda_version: str) -> Any:
        assert cuda_version == "13.0"
        if self.runtime_error is not None:
            raise CudaError(self.runtime_error)
        return types.SimpleNamespace(new_stream=lambda: 4711)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    fake = Machine()
    onnxruntime = providers.import_onnxruntime()
    built = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: built)
    monkeypatch.setattr(onnxruntime, "InferenceSession", fake.session)
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    monkeypatch.setattr(cudart, "CudaRuntime", fake.runtime)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return fake


def open_cuda(path: Path, **settings: Any) -> sessions.Opened:
    return sessions.open_session(str(path), "g.onnx", "cuda", Settings(1, **settings))


def test_cuda_gets_our_stream_and_graphs(machine: Machine, model_path: Path) -> None:
    opened = open_cuda(model_path)
    assert (opened.stream, opened.graphs, opened.notes) == (4711, True, ())
    (given,) = machine.asked
    assert (given["user_compute_stream"], given["enable_cuda_graph"]) == ("4711", "1")
    opened = open_cuda(model_path, cuda_graph=False)
    assert (opened.stream, opened.graphs, opened.notes) == (4711, False, ())
    assert machine.asked[1]["enable_cuda_graph"] == "0"


def test_cuda_without_graphs(machine: Machine, model_path: Path) -> None:
    machine.refuses = ("enable_cuda_graph",)
    opened = open_cuda(model_path)
    assert (opened.stream, opened.graphs) == (4711, False)
    assert opened.notes == ("CUDA graphs are off: enable_cuda_graph: the nodes are not all on CUDA",)


def test_cuda_without_our_stream(machine: Machine, model_path: Path) -> None:
    machine.refuses = ("user_compute_stream",)
    opened = open_cuda(model_path)
    assert (opened.runtime, opened.graphs, len(opened.notes)) == (None, False, 2)
    assert "user_compute_stream" not in machine.asked[-1]


def test_cuda_without_its_runtime(machine: Machine, model_path: Path) -> None:
    machine.runtime_error = "libcudart.so.13: cannot open"
    generator = OnnxGenerator(model_path, "cuda", 1)
    assert generator.provider == "cuda"
    assert generator.notes == ["CUDA copies are not overlapped: libcudart.so.13: cannot open"]
    assert generator.generate(range(3)).shape == (3, 6, 5, 3)
    assert machine.runs == [None]


def test_cuda_that_does_not_start_says_what_it_needs(
    machine: Machine, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "active", lambda _: "cpu")
    message = r"cuda .* does not run here: it did not start; it needs a GPU, .* the libraries of CUDA 13.0 and cuDNN"
    with pytest.raises(GanportError, match=message):
        OnnxGenerator(model_path, "cuda", 1)
    assert len(machine.asked) == 1


def test_an_fp16_file_is_drawn_channels_last(machine: Machine) -> None:
    about = onnx_files.contract(precision="fp16")
    model = onnx_files.model(about, onnx_files.weights(about)).SerializeToString()
    sessions.open_session(model, "g.onnx", "cuda", Settings(1))
    assert machine.asked[0]["prefer_nhwc"] == "1"


def test_a_run_that_is_not_the_engines_is_no_graph(machine: Machine, model_path: Path) -> None:
    generator = OnnxGenerator(model_path, "cuda", 1)
    generator.run(np.zeros((2, 4), np.float32))
    assert machine.runs[0].get_run_config_entry("gpu_graph_id") == "-1"


def test_a_session_that_does_not_start_again(machine: Machine, model_path: Path) -> None:
    machine.refuses = ("cudnn_conv_use_max_workspace",)
    with pytest.raises(JobError, match=r"cuda failed on g.onnx, and does not start again: .* not all on CUDA"):
        sessions.reopen_cuda(str(model_path), "g.onnx", Settings(1))


def test_tensorrt_reads_tf32_from_the_environment(machine: Machine, model_path: Path) -> None:
    assert OnnxGenerator(model_path, "tensorrt", 1).provider == "tensorrt"
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    assert machine.asked[0] == {"trt_timing_cache_enable": "1"}


@pytest.mark.usefixtures("machine")
def test_tensorrt_sees_one_batch_size(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = OnnxGenerator(model_path, "tensorrt", 1, tf32=True)
    sizes = []
    run = generator._pixels

    def counted(feed: Any) -> Any:
        sizes.append(len(feed[0]))
        return run(feed)

    monkeypatch.setattr(generator, "_pixels", counted)
    drawn = list(generator.stream(range(7), batch_size=3))
    assert (sizes, [len(batch) for batch in drawn]) == ([3, 3, 3], [3, 3, 1])
    expected = OnnxGenerator(model_path, "cpu", 1).generate(range(7))
    np.testing.assert_array_equal(np.concatenate(drawn), expected)
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ


@pytest.mark.parametrize(("provider", "message"), [("cpu", "got provider cpu"), ("auto", "auto chose cpu")])
def test_tf32_where_there_is_none(model_path: Path, provider: str, message: str) -> None:
    with pytest.raises(GanportError, match=f"TF32 is for cuda and tensorrt, {message}"):
        OnnxGenerator(model_path, provider, tf32=True)


@pytest.mark.usefixtures("machine")
def test_a_gpu_gets_larger_batches(model_path: Path) -> None:
    on_cpu, on_cuda = OnnxGenerator(model_path, "cpu", 1), OnnxGenerator(model_path, "cuda", 1)
    assert [on_cuda.batch_size(n) for n in (0, 1, 300, 10**6)] == [1, 1, 300, 512]
    assert on_cpu.batch_size(10**6) < 512
    assert on_cuda.callers == 1


@pytest.mark.parametrize("many", [True, False])
def test_threads_do_not_spin_between_runs_when_many_images_are_to_come(
    model_path: Path, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    seen = []

    def session(model: object, options: Any, **kwargs: Any) -> Any:
        seen.append(options)
        return REAL_SESSION(model, options, **kwargs)

    monkeypatch.setattr(providers.import_onnxruntime(), "InferenceSession", session)
    OnnxGenerator(model_path, "cpu", 2, many=many)
    assert seen[0].get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert seen[0].get_session_config_entry("session.force_spinning_stop") == str(int(many))
    assert (seen[0].intra_op_num_threads, seen[0].inter_op_num_threads) == (1 if many else 2, 1)


# ── the CUDA runtime ─────────────────────────────────────────────────────────────────────────────────────────────────


class Library:
    """libcudart on the host: handles count up, pinned memory is memory, copies are copies."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.code: dict[str, int] = {}
        self.kept: dict[int, Any] = {}
        self.freed: list[int] = []
        self.cudaGetErrorString = lambda _: b"out of memory"

    def __getattr__(self, name: str) -> Any:
        def function(*arguments: Any) -> int:
            self.calls.append(name)
            if self.code.get(name):
                return self.code[name]
            if "Create" in name:
                arguments[0]._obj.value = 500 + len(self.calls)
            elif name == "cudaHostAlloc":
                block = ctypes.create_string_buffer(arguments[1].value)
                self.kept[ctypes.addressof(block)] = block
                arguments[0]._obj.value = ctypes.addressof(block)
            elif name == "cudaFreeHost":
                self.freed.append(arguments[0].value)
            elif name == "cudaMemcpyAsync":
                ctypes.memmove(arguments[0].value, arguments[1].value, arguments[2].value)
            return 0

        return function


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    fake = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake if "13" in name else contextlib.nullcontext())
    return fake


def test_calls_of_the_cuda_runtime(library: Library) -> None:
    runtime = CudaRuntime("13.0")
    stream, event = runtime.new_stream(), runtime.new_event()
    assert stream != event
    source, target = runtime.pinned((2, 3), np.float32), runtime.pinned((2, 3), np.float32)
    source[:] = np.arange(6).reshape(2, 3)
    runtime.to_device(target.ctypes.data, source, stream)
    np.testing.assert_array_equal(target, source)
    target[:] = 0
    runtime.to_host(target, source.ctypes.data, stream)
    np.testing.assert_array_equal(target, source)
    runtime.record(event, stream)
    runtime.stream_waits(stream, event)
    runtime.wait(event)
    assert library.calls[-3:] == ["cudaEventRecord", "cudaStreamWaitEvent", "cudaEventSynchronize"]


def test_pinned_memory_is_freed_with_its_last_array(library: Library) -> None:
    whole = CudaRuntime("13.0").pinned((4,), np.uint8)
    address, part = whole.ctypes.data, whole[1:]
    del whole
    assert library.freed == []
    del part
    assert library.freed == [address]


def test_where_no_page_can_be_locked_memory_is_pageable(library: Library) -> None:
    library.code["cudaHostAlloc"] = 2
    array = CudaRuntime("13.0").pinned((2, 2), np.int64)
    assert (array.shape, array.dtype, array.flags.writeable) == ((2, 2), np.dtype(np.int64), True)
    del array
    assert library.freed == []


def test_a_call_that_fails(library: Library) -> None:
    runtime = CudaRuntime("13.0")
    library.code["cudaEventSynchronize"] = 700
    with pytest.raises(CudaError, match=r"cudaEventSynchronize: out of memory \(700\)"):
        runtime.wait(1)


@pytest.mark.parametrize(
    ("version", "message"), [("", "does not say its CUDA version: ''"), ("9999.0", r"cudart\S*9999")]
)
def test_a_runtime_that_is_not_there(version: str, message: str) -> None:
    with pytest.raises(CudaError, match=message):
        CudaRuntime(version)


# ── metadata ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_metadata_without_a_session(model_path: Path) -> None:
    assert metadata.peek(str(model_path), "gan.precision") == "fp32"
    assert metadata.peek(model_path.read_bytes(), "gan.interface")["z"] == {
        "dim": 4,
        "law": "normal",
        "rng": "philox4x32-10",
    }
    assert metadata.peek(str(model_path), "gan.absent") is None


@pytest.mark.parametrize("content", [b"", b"\x72", b"\x72\xff\xff\xff", b"\x0b", b"\xff" * 20, b"PK\x03\x04" * 9])
def test_metadata_of_what_is_no_model(content: bytes, tmp_path: Path) -> None:
    assert metadata.peek(content, "gan.precision") is None
    assert metadata.peek(str(tmp_path / "absent"), "gan.precision") is None


def test_metadata_of_every_truncation(model_path: Path) -> None:
    whole = model_path.read_bytes()
    for end in range(0, len(whole), 7):
        assert metadata.peek(whole[:end], "gan.precision") in (None, "fp32")
