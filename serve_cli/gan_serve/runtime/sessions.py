"""Opening onnxruntime sessions: what each provider is told and why, what only CUDA needs, and two for a CPU's threads.

docs/providers.md has the table of what each provider is told. What was measured on a processor and left out, because it
gave nothing: keeping the optimised graph in a file, in either format (the session of a 14 MB file opens in the same
27 ms), and lower optimisation levels. Denormals are not flushed: onnxruntime would do it to the calling thread too,
numpy's arithmetic with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_core.errors import GanportError, JobError
from gan_core.files import metadata, model_file
from gan_core.printable import is_utf8
from gan_serve.runtime import providers

if TYPE_CHECKING:
    from gan_serve.runtime.cudart import CudaRuntime

TF32_PROVIDERS = ("cuda", "tensorrt")


@dataclass(frozen=True)
class Settings:
    """How a session is opened.

    threads     that a provider may use
    many        whether many images are to come, while they are encoded: idle threads then sleep between runs
    single      whether a CPU session is for one thread, of several that each run it; else all share every operator
    tf32        whether NVIDIA's tensor cores may round the factors of fp32 products to 10 bits
    cuda_graph  whether steady batches are replayed as CUDA graphs
    precision   the file's `gan.precision` ("fp32" where it says nothing)
    options     provider options of onnxruntime's that come on top, by its names
    """

    threads: int
    many: bool = False
    single: bool = False
    tf32: bool = False
    cuda_graph: bool = True
    precision: str = "fp32"
    options: Mapping[str, str] = field(default_factory=dict)


def provider_options(provider: str, settings: Settings) -> dict[str, str]:
    """onnxruntime's options of `provider`; `settings.options` has the last word."""
    return {**_DEFAULTS.get(provider, {}), **_from_settings(provider, settings), **settings.options}


_DEFAULTS: dict[str, dict[str, str]] = {
    "cuda": {
        # EXHAUSTIVE, onnxruntime's default, times every algorithm anew for every batch size.
        "cudnn_conv_algo_search": "HEURISTIC",
        # Fast algorithms need room; without it cuDNN silently takes slower ones.
        "cudnn_conv_use_max_workspace": "1",
        # The default doubles the arena each time it grows.
        "arena_extend_strategy": "kSameAsRequested",
    },
    "tensorrt": {"trt_timing_cache_enable": "1"},
    # On processors with AMX, OpenVINO computes in bf16 unless told not to.
    "openvino": {"device_type": "CPU", "precision": "FP32"},
    # The older format, NeuralNetwork, and the neural engine compute in fp16.
    "coreml": {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"},
}


def _from_settings(provider: str, settings: Settings) -> dict[str, str]:
    if provider == "cuda":
        # Tensor cores want fp16 images channels-last; fp32 kernels gain nothing and pay for the transposes.
        nhwc = settings.precision.startswith("fp16")
        return {"use_tf32": str(int(settings.tf32)), "prefer_nhwc": str(int(nhwc))}
    if provider == "openvino":
        return {"num_of_threads": str(settings.threads)}
    return {}


@dataclass(frozen=True)
class Opened:
    """A session and how it came about.

    session   onnxruntime's
    skipped   for "auto": what was tried before, with onnxruntime's reason
    notes     what could not be had, in one sentence each
    runtime   the CUDA runtime whose `stream` the session computes on; None: it computes on a stream of its own
    graphs    whether CUDA graphs can be captured on it
    """

    session: Any
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    runtime: CudaRuntime | None = None
    stream: int = 0
    graphs: bool = False


def open_session(model: str | bytes, where: str, provider: str, settings: Settings) -> Opened:
    """A session of `model` (a path or a file's bytes) on `provider`, or on the first of "auto" that starts.

    Raises `GanportError` where a named provider does not run, `ContractError` for a file that is no model.
    """
    skipped: list[str] = []
    candidates = providers.resolve(provider)
    if settings.tf32 and provider != "auto" and provider not in TF32_PROVIDERS:
        raise GanportError(f"TF32 is for cuda and tensorrt, got provider {provider}", hint="leave `tf32` out")
    for name in candidates:
        providers.prepare(name, settings.tf32)
        reason = _not_started(name)
        try:
            opened = _open_cuda(model, settings) if name == "cuda" else Opened(_open(model, name, settings))
        except GanportError:
            raise
        except Exception as error:
            if name == "cpu":
                raise model_file.explain_load_error(where, error) from error
            reason = " ".join(str(error).split())
        else:
            if _takes_nothing(opened.session):
                reason = "it takes none of the model's nodes"
            elif providers.active(opened.session) == name:
                if settings.tf32 and name not in TF32_PROVIDERS:
                    raise GanportError(f"TF32 is for cuda and tensorrt, auto chose {name}", hint="leave `tf32` out")
                return replace(opened, skipped=tuple(skipped))
        if provider != "auto":
            raise GanportError(
                f"provider {name} is installed but does not run here: {reason}",
                hint=f'{providers.how_to_get(name)}; or use `provider="cpu"`',
            )
        skipped.append(f"{name}: {reason}")
    raise GanportError(f"no provider runs {where}: {'; '.join(skipped)}", hint=providers.how_to_get("cpu"))


def cpu_nodes(session: Any) -> tuple[str, ...] | None:
    """The names of the nodes that run on the CPU though `session` is another provider's; () when none do.

    A node without a name is named by its operator. None: this onnxruntime (before 1.24) does not say.
    """
    if providers.active(session) == "cpu":
        return ()
    try:
        subgraphs = session.get_provider_graph_assignment_info()
    except Exception:
        return None
    on_cpu = [graph for graph in subgraphs if graph.ep_name == providers.PROVIDERS["cpu"]]
    return tuple(node.name or node.op_type for graph in on_cpu for node in graph.get_nodes())


def _not_started(provider: str) -> str:
    """onnxruntime drops a provider whose libraries do not load without a word; for CUDA we know which it wants."""
    version = str(getattr(providers.import_onnxruntime(), "cuda_version", None) or "")
    if provider != "cuda" or not version:
        return "it did not start"
    return f"it did not start; it needs a GPU, its driver, and the libraries of CUDA {version} and cuDNN"


def _takes_nothing(session: Any) -> bool:
    """Whether every node runs on the CPU, as far as is known: a session on another provider in name only."""
    if providers.active(session) == "cpu":
        return False
    try:
        subgraphs = session.get_provider_graph_assignment_info()
    except Exception:
        return False
    with_nodes = {graph.ep_name for graph in subgraphs if graph.get_nodes()}
    return with_nodes == {providers.PROVIDERS["cpu"]}


def _open_cuda(model: str | bytes, settings: Settings) -> Opened:
    """On a stream of ours with graphs, else on one without, else as onnxruntime likes it."""
    from gan_serve.runtime.cudart import CudaError, CudaRuntime

    onnxruntime = providers.import_onnxruntime()
    settings = _with_precision(model, settings)
    notes = []
    try:
        runtime = CudaRuntime(str(getattr(onnxruntime, "cuda_version", "")))
        stream = runtime.new_stream()
    except CudaError as error:
        return Opened(_open(model, "cuda", settings), notes=(f"CUDA copies are not overlapped: {error}",))
    for graphs in (True, False) if settings.cuda_graph else (False,):
        own = {"user_compute_stream": str(stream), "enable_cuda_graph": str(int(graphs))}
        try:
            session = _open(model, "cuda", settings, own)
        except Exception as error:
            what = "CUDA graphs are off" if graphs else "CUDA copies are not overlapped"
            notes.append(f"{what}: {' '.join(str(error).split())}")
        else:
            return Opened(session, notes=tuple(notes), runtime=runtime, stream=stream, graphs=graphs)
    return Opened(_open(model, "cuda", settings), notes=tuple(notes))


def reopen_cuda(model: str | bytes, where: str, settings: Settings) -> Any:
    """A CUDA session on a stream of its own, for where the one on ours has failed. Raises `JobError`."""
    try:
        return _open(model, "cuda", _with_precision(model, settings))
    except Exception as error:
        raise JobError(
            f"cuda failed on {where}, and does not start again: {' '.join(str(error).split())}",
            hint='try a smaller `batch_size`, or `provider="cpu"`',
        ) from error


def _with_precision(model: str | bytes, settings: Settings) -> Settings:
    return replace(settings, precision=str(metadata.peek(model, "gan.precision") or "fp32"))


def _open(model: str | bytes, provider: str, settings: Settings, own: dict[str, str] | None = None) -> Any:
    onnxruntime = providers.import_onnxruntime()
    if isinstance(model, str) and not is_utf8(model):
        model = Path(model).read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1 if settings.single and provider == "cpu" else settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Threads that wait busily for the next operator are 15 % faster on two cores, and for the next run as much again
    # where runs are as short as an MLP's. While images are encoded those cores have other work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", str(int(settings.many)))
    if provider != "cpu":
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if provider == "directml":
        options.enable_mem_pattern = False  # DirectML refuses sessions that plan their memory ahead
    given = provider_options(provider, settings) | (own or {})
    if providers.is_plugin(provider):
        devices, rest = providers.plugin_devices(onnxruntime, provider, given)
        options.add_provider_for_devices(devices, rest)
        return onnxruntime.InferenceSession(model, options, enable_fallback=0)
    listed = providers.session_providers(provider, given, provider_options("cuda", replace(settings, options={})))
    return onnxruntime.InferenceSession(model, options, providers=listed, enable_fallback=0)


class Closed:
    """In the place of a session that was closed."""

    def __getattr__(self, _: str) -> Any:
        raise GanportError("the generator was closed", hint="load it again")


def without_graph() -> Any:
    """Run options of a session with CUDA graphs, for a run that is none."""
    options = providers.import_onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", "-1")
    return options


Run = Callable[[Any, Sequence[str], Mapping[str, Any]], list[Any]]

TOGETHER = frozenset({
    "activation", "adaptive_pool", "add", "batch_norm", "bias", "channel_norm", "channel_shuffle", "concat",
    "constant", "glu", "group_norm", "instance_norm", "label_embedding", "label_one_hot", "layer_norm", "linear",
    "load", "local_response_norm", "modulate", "multiply", "noise", "pad", "pixel_norm", "pixel_unshuffle", "pool",
    "reshape", "rms_norm", "slice", "styles",
})  # fmt: skip
"""The kinds of layers whose class says that they do not convolve; a kind that is not known here may. By name, for the
classes take as long to import as a third of a cold start."""


class SideBySide:
    """Two ways for a CPU's threads to share a batch, each with a session of its own, opened when first needed.

    together      every operator is cut into pieces, one a thread: a single image is soonest done so
    side by side  every thread computes images of its own, alone: nobody waits for anybody at the end of each operator,
                  and each core's caches hold one small batch

    Convolutions work best side by side from two images on (1.2 times the images/s of together on two cores, for a DCGAN
    of 64 pixels). Networks of nothing but matrix products always work together: side by side each thread would read all
    the weights for its few images.

    first    the session that is open, one thread's own when `single`
    another  opens the other kind: (single) → session, or None where the model's file is no longer what it was. Then the
             first does everything.
    """

    def __init__(self, first: Any, single: bool, another: Callable[[bool], Any], threads: int) -> None:
        self.threads = threads
        self._sessions = {single: first}
        self._another = another
        self._opening = threading.Lock()
        self._pool = ThreadPoolExecutor(threads)  # its threads begin when first needed and end with it

    def session(self, single: bool) -> Any:
        """The session for one thread of several, or for all threads together."""
        if single not in self._sessions:
            with self._opening:
                if single not in self._sessions:
                    opened = self._another(single)
                    self._sessions[single] = self._sessions[not single] if opened is None else opened
        return self._sessions[single]

    def run(self, run: Run, outputs: Sequence[str], feeds: Mapping[str, Any], most: int) -> list[Any]:
        """`outputs` for the batch in `feeds`, in parts of at most `most` images; a single image by all threads."""
        n = len(next(iter(feeds.values())))
        if n < 2:
            return run(self.session(single=False), outputs, feeds)
        session, size = self.session(single=True), share(n, self.threads, most)
        parts = [{name: fed[i : i + size] for name, fed in feeds.items()} for i in range(0, n, size)]
        results = self._pool.map(lambda part: run(session, outputs, part), parts)
        return [np.concatenate(pieces) for pieces in zip(*results, strict=True)]


def share(n: int, threads: int, most: int) -> int:
    """Images per part, so that `threads` are done with `n` at about the same time and no part has over `most`."""
    rounds = -(-n // (threads * most))
    return -(-n // (rounds * threads))


def suits_side_by_side(model: str | bytes) -> bool:
    """Whether a model file's images are best computed side by side: unless its spec says that it has no convolution."""
    spec = metadata.peek(model, "gan.spec")
    layers = spec.get("layers") if isinstance(spec, dict) else None
    if not isinstance(layers, list):
        return True
    kinds = [layer.get("kind") for layer in layers if isinstance(layer, dict)]
    return any(kind not in TOGETHER for kind in kinds if isinstance(kind, str))
