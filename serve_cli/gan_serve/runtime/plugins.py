"""Plug-in providers: packages that bring onnxruntime one more provider, by its plug-in interface (1.23 or newer).

A package is looked for by its metadata alone; its library is loaded when its provider is asked for by name, so that a
cold start never pays for it. Being installed is not having a device: a library registers anywhere, and then lists the
devices it can use here, of which there may be none.
"""

from __future__ import annotations

import importlib
from typing import Any

from gan_core.errors import GanportError

PACKAGES: dict[str, str] = {"openvino": "onnxruntime-ep-openvino", "webgpu": "onnxruntime-ep-webgpu"}
"""Our name of a provider → the distribution that brings it as a plug-in."""


def installed() -> tuple[str, ...]:
    """Our names of the providers whose plug-in package is installed; nothing of it is imported."""
    return tuple(name for name in PACKAGES if is_installed(name))


def is_installed(provider: str) -> bool:
    """Whether the plug-in package of `provider` is installed."""
    import importlib.metadata

    if provider not in PACKAGES:
        return False
    try:
        importlib.metadata.distribution(PACKAGES[provider])
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def devices(onnxruntime: Any, provider: str, options: dict[str, str]) -> tuple[list[Any], dict[str, str]]:
    """The devices for a session on `provider`, and the options that are left to give with them.

    Registers the plug-in's library on the first call. OpenVINO's `device_type` is the device's choice here, and
    WebGPU takes one device. Raises `GanportError` where the library does not load or has no device here.
    """
    package = PACKAGES[provider]
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise GanportError(
            f"{package} needs onnxruntime 1.23 or newer, got {onnxruntime.__version__}",
            hint="pip install --upgrade onnxruntime",
        )
    found = _register(onnxruntime, provider, package)
    wanted = options.get("device_type") if provider == "openvino" else None
    rest = {key: value for key, value in options.items() if not (provider == "openvino" and key == "device_type")}
    if wanted is not None:
        found = [device for device in found if str(dict(device.ep_metadata).get("ov_device", "")) == wanted]
    if not found:
        what = f"no {wanted} device" if wanted is not None else "no device"
        raise GanportError(
            f"provider {provider}: {package} is installed, but finds {what} here", hint=_NO_DEVICE[provider]
        )
    return found[:1], rest


_NO_DEVICE = {
    "openvino": "the plug-in takes Intel hardware; onnxruntime-openvino also runs on other processors: pip uninstall "
    'onnxruntime onnxruntime-ep-openvino, then pip install onnxruntime-openvino openvino; or use `provider="cpu"`',
    "webgpu": 'it needs a GPU and its driver (on Linux Vulkan, libvulkan.so.1); or use `provider="cpu"`',
}


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
            hint=f'pip install --upgrade onnxruntime {package}; or use `provider="cpu"`',
        ) from error


def _of(onnxruntime: Any, name: str) -> list[Any]:
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
