"""What each provider is told, and why. docs/providers.md has the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
