"""Where a model runs: onnxruntime's execution providers under short names.

`available` says which ones are installed here, built into onnxruntime or as a plug-in package (`plugins`);
`resolve` turns what was asked for into what to try. Installed is not the same as working (a CUDA build on a machine
without a driver): what really runs is read from the session, by `active`, and a named provider that does not run is
an error.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

from gan_core.errors import GanportError, MissingPackageError
from gan_serve.runtime import plugins

PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
"""Our name → onnxruntime's."""

GPUS = ("cuda", "tensorrt", "webgpu", "coreml", "directml")
"""Those that run on a GPU, and want batches to keep it busy."""

AUTO_ORDER = ("cuda", "directml", "cpu")
"""What "auto" tries, best first. The others compile the model for minutes, or round to fp16, and have to be named."""

HOW_TO_GET = {
    "cpu": "pip install 'ganport[cpu]'",
    "cuda": "pip uninstall onnxruntime, then pip install 'ganport[cuda]'; it needs an NVIDIA GPU and its driver",
    "tensorrt": "pip uninstall onnxruntime, then pip install 'ganport[cuda]'; it needs TensorRT's libraries too",
    "openvino": "pip uninstall onnxruntime, then pip install onnxruntime-openvino openvino; or, on Intel hardware, "
    "pip install onnxruntime-ep-openvino beside onnxruntime",
    "webgpu": "pip install onnxruntime-ep-webgpu beside onnxruntime",
    "coreml": "it comes with onnxruntime on macOS",
    "directml": "on Windows: pip uninstall onnxruntime, then pip install onnxruntime-directml",
}


def import_onnxruntime() -> Any:
    """The module onnxruntime, silenced. Raises `MissingPackageError` naming both extras, or `GanportError`."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise _broken(error) from error
        raise MissingPackageError(
            "onnxruntime",
            "cpu",
            "running ONNX models",
            hint="pip install 'ganport[cpu]', or 'ganport[cuda]' for an NVIDIA GPU",
        ) from error
    except (ImportError, OSError) as error:
        raise _broken(error) from error
    # Errors come as exceptions; the log would print them a second time, with warnings nobody can act on.
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def built_in() -> tuple[str, ...]:
    """Our names of the providers that the installed onnxruntime was built with, in the order of `PROVIDERS`."""
    names = set(import_onnxruntime().get_available_providers())
    return tuple(name for name, theirs in PROVIDERS.items() if theirs in names)


def available() -> tuple[str, ...]:
    """Our names of the providers that are installed, built in or as plug-ins, in the order of `PROVIDERS`."""
    names = {*built_in(), *plugins.installed()}
    return tuple(name for name in PROVIDERS if name in names)


def is_plugin(provider: str) -> bool:
    """Whether `provider` comes from a plug-in package here: it is installed as one, and not built in."""
    return provider not in built_in() and plugins.is_installed(provider)


def check_name(provider: str) -> None:
    """Raises `GanportError` for a provider that does not exist. Needs no onnxruntime."""
    if provider != "auto" and provider not in PROVIDERS:
        raise GanportError(
            f"`provider` must be auto or one of {', '.join(PROVIDERS)}, got {provider!r}",
            hint="leave it out to use the best that is installed",
        )


def resolve(provider: str) -> tuple[str, ...]:
    """The providers to try, in order: those of `AUTO_ORDER` that are here for "auto", else the one that was named.

    Raises `GanportError` for a name that does not exist or is not here.
    """
    check_name(provider)
    here = built_in()
    if provider == "auto":
        return tuple(name for name in AUTO_ORDER if name in here) or ("cpu",)
    if provider not in here and not plugins.is_installed(provider):
        raise GanportError(
            f"provider {provider} is not installed; here are {', '.join(available())}", hint=HOW_TO_GET[provider]
        )
    return (provider,)


def session_providers(provider: str, options: dict[str, str], cuda: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """onnxruntime's `providers` argument: `provider` with its options first, the CPU for the nodes it does not take.

    TensorRT hands on to CUDA first, with the options `cuda`.
    """
    asked = [(provider, options), *([("cuda", cuda)] if provider == "tensorrt" else []), ("cpu", {})]
    here = built_in()
    return [(PROVIDERS[name], given) for name, given in dict(asked).items() if name in here]


def prepare(provider: str, tf32: bool = False) -> None:
    """Loads what a provider needs before its first session: CUDA's and cuDNN's libraries from their wheels.

    TensorRT has no option for TF32; it reads the environment.
    """
    onnxruntime = import_onnxruntime()
    if provider == "tensorrt" and not tf32:
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    if provider in ("cuda", "tensorrt") and hasattr(onnxruntime, "preload_dlls"):
        # What it cannot find it prints; whether that matters shows in the session.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            onnxruntime.preload_dlls()


def active(session: Any) -> str:
    """Our name of the provider that a session runs on, as the session says (its first); theirs where we have none."""
    ours = {theirs: name for name, theirs in PROVIDERS.items()}
    first = str(session.get_providers()[0])
    return ours.get(first, first)


def _broken(error: BaseException) -> GanportError:
    return GanportError(
        f"onnxruntime is installed but does not load: {error}",
        hint="install it anew: pip install --force-reinstall onnxruntime",
    )
