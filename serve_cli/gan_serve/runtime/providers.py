"""Where a model runs: onnxruntime's execution providers under short names.

`available` says which ones are installed here, built into onnxruntime or as a plug-in package;
`resolve` turns what was asked for into what to try. Installed is not the same as working (a CUDA build on a machine
without a driver): what really runs is read from the session, by `active`, and a named provider that does not run is
an error.

A plug-in package brings onnxruntime one more provider, by its plug-in interface (1.23 or newer). It is looked for by
its metadata alone; its library is loaded when its provider is asked for by name: a cold start never pays for it.
Being installed is not having a device: a library registers anywhere, and then lists the devices it can use here, of
which there may be none.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from typing import Any

from gan_core.errors import GanportError, MissingPackageError
from gan_core.installation import install, pip

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


def how_to_get(provider: str) -> str:
    """What to type to have one of `PROVIDERS` here, as a hint says it."""
    other = f"{pip('uninstall onnxruntime')}, then "
    return {
        "cpu": install("cpu"),
        "cuda": f"{other}{install('cuda')}; it needs an NVIDIA GPU and its driver",
        "tensorrt": f"{other}{install('cuda')}; it needs TensorRT's libraries too",
        "openvino": f"{other}{pip('install onnxruntime-openvino openvino')}; or, on Intel hardware, "
        f"{pip('install onnxruntime-ep-openvino')} beside onnxruntime",
        "webgpu": f"{pip('install onnxruntime-ep-webgpu')} beside onnxruntime",
        "coreml": "it comes with onnxruntime on macOS",
        "directml": f"on Windows: {other}{pip('install onnxruntime-directml')}",
    }[provider]


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
            hint=f"{install('cpu')}; with an NVIDIA GPU {install('cuda')}",
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
    names = {*built_in(), *plugins_installed()}
    return tuple(name for name in PROVIDERS if name in names)


def is_plugin(provider: str) -> bool:
    """Whether `provider` comes from a plug-in package here: it is installed as one, and not built in."""
    return provider not in built_in() and plugin_is_installed(provider)


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
    if provider not in here and not plugin_is_installed(provider):
        raise GanportError(
            f"provider {provider} is not installed; here are {', '.join(available())}", hint=how_to_get(provider)
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
        hint=f"install it anew: {pip('install --force-reinstall onnxruntime')}",
    )


PLUGINS: dict[str, str] = {"openvino": "onnxruntime-ep-openvino", "webgpu": "onnxruntime-ep-webgpu"}
"""Our name of a provider → the distribution that brings it as a plug-in."""


def plugins_installed() -> tuple[str, ...]:
    """Our names of the providers whose plug-in package is installed; nothing of it is imported."""
    return tuple(name for name in PLUGINS if plugin_is_installed(name))


def plugin_is_installed(provider: str) -> bool:
    """Whether the plug-in package of `provider` is installed."""
    import importlib.metadata

    if provider not in PLUGINS:
        return False
    try:
        importlib.metadata.distribution(PLUGINS[provider])
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def plugin_devices(onnxruntime: Any, provider: str, options: dict[str, str]) -> tuple[list[Any], dict[str, str]]:
    """The devices for a session on `provider`, and the options that are left to give with them.

    Registers the plug-in's library on the first call. OpenVINO's `device_type` is the device's choice here, and
    WebGPU takes one device. Raises `GanportError` where the library does not load or has no device here.
    """
    package = PLUGINS[provider]
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise GanportError(
            f"{package} needs onnxruntime 1.23 or newer, got {onnxruntime.__version__}",
            hint=pip("install --upgrade onnxruntime"),
        )
    found = _register(onnxruntime, provider, package)
    wanted = options.get("device_type") if provider == "openvino" else None
    rest = {key: value for key, value in options.items() if not (provider == "openvino" and key == "device_type")}
    if wanted is not None:
        found = [device for device in found if str(dict(device.ep_metadata).get("ov_device", "")) == wanted]
    if not found:
        what = f"no {wanted} device" if wanted is not None else "no device"
        raise GanportError(
            f"provider {provider}: {package} is installed, but finds {what} here", hint=_no_device(provider)
        )
    return found[:1], rest


def _no_device(provider: str) -> str:
    if provider == "webgpu":
        return 'it needs a GPU and its driver (on Linux Vulkan, libvulkan.so.1); or use `provider="cpu"`'
    return (
        "the plug-in takes Intel hardware; onnxruntime-openvino also runs on other processors: "
        f"{pip('uninstall onnxruntime onnxruntime-ep-openvino')}, then "
        f'{pip("install onnxruntime-openvino openvino")}; or use `provider="cpu"`'
    )


def _register(onnxruntime: Any, provider: str, package: str) -> list[Any]:
    try:
        module = importlib.import_module(package.replace("-", "_"))
        name, library = module.get_ep_name(), module.get_library_path()
        if not _of(onnxruntime, name):
            try:
                onnxruntime.register_execution_provider_library(f"ganport.{provider}", library)
            except Exception as error:
                if "already registered" not in str(error).lower():
                    raise
        return _of(onnxruntime, name)
    except Exception as error:  # a plug-in is somebody else's code: whatever it raises
        raise GanportError(
            f"provider {provider}: {package} is installed but does not load: {' '.join(str(error).split())}",
            hint=f'{pip(f"install --upgrade onnxruntime {package}")}; or use `provider="cpu"`',
        ) from error


def _of(onnxruntime: Any, name: str) -> list[Any]:
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
