"""Plug-in providers, with packages of the tests: found by name, registered when asked for, refused in one line."""

from __future__ import annotations

import importlib.metadata
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from gan_core.errors import GanportError
from gan_serve.runtime import providers, sessions
from gan_serve.runtime.onnx_generator import OnnxGenerator

REAL_SESSION = providers.import_onnxruntime().InferenceSession


class Device:
    def __init__(self, ep_name: str, ov_device: str) -> None:
        self.ep_name, self.ep_metadata = ep_name, {"ov_device": ov_device}


class Plugin:
    """Packages, devices and onnxruntime's side of the interface, as the test wants them."""

    def __init__(self) -> None:
        self.registered: list[tuple[str, str]] = []
        self.devices: list[Device] = []
        self.error: Exception | None = None
        self.given: list[tuple[list[Any], dict[str, str]]] = []

    def register(self, name: str, library: str) -> None:
        if self.error is not None:
            raise self.error
        self.registered.append((name, library))

    def ep_devices(self) -> list[Any]:
        return [Device("CPUExecutionProvider", ""), *(self.devices if self.registered else [])]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Plugin:
    """`onnxruntime-ep-openvino` and `onnxruntime-ep-webgpu` are installed."""
    fake = Plugin()
    onnxruntime = providers.import_onnxruntime()
    real = importlib.metadata.distribution

    def distribution(name: str) -> Any:
        return object() if name in providers.PLUGINS.values() else real(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    for name, package in providers.PLUGINS.items():
        module = types.SimpleNamespace(
            get_ep_name=lambda name=name: providers.PROVIDERS[name],
            get_library_path=lambda name=name: f"/lib/{name}.so",
        )
        monkeypatch.setitem(sys.modules, package.replace("-", "_"), module)
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", fake.register, raising=False)
    monkeypatch.setattr(onnxruntime, "get_ep_devices", fake.ep_devices, raising=False)
    return fake


def test_nothing_is_registered_unless_it_is_asked_for(plugin: Plugin, model_path: Path) -> None:
    assert providers.available() == ("cpu", "openvino", "webgpu")
    assert providers.resolve("auto") == ("cpu",)
    assert providers.is_plugin("webgpu")
    assert not providers.is_plugin("cpu")
    assert OnnxGenerator(model_path, "auto").provider == "cpu"
    assert plugin.registered == []


def test_an_installed_package_without_a_device(plugin: Plugin, model_path: Path) -> None:
    for name, what in {"openvino": "no CPU device", "webgpu": "no device"}.items():
        with pytest.raises(GanportError, match=f"onnxruntime-ep-{name} is installed, but finds {what} here") as caught:
            OnnxGenerator(model_path, name)
        assert '`provider="cpu"`' in caught.value.hint
    assert plugin.registered == [("ganport.openvino", "/lib/openvino.so"), ("ganport.webgpu", "/lib/webgpu.so")]


def test_the_wanted_device_and_the_options_that_are_left(plugin: Plugin) -> None:
    onnxruntime = providers.import_onnxruntime()
    name = providers.PROVIDERS["openvino"]
    plugin.devices = [Device(name, "NPU"), Device(name, "CPU"), Device(name, "GPU")]
    found, rest = providers.plugin_devices(onnxruntime, "openvino", {"device_type": "GPU", "precision": "FP32"})
    assert (found, rest) == ([plugin.devices[2]], {"precision": "FP32"})
    assert providers.plugin_devices(onnxruntime, "openvino", {})[0] == [plugin.devices[0]]
    with pytest.raises(GanportError, match="no FPGA device"):
        providers.plugin_devices(onnxruntime, "openvino", {"device_type": "FPGA"})
    assert len(plugin.registered) == 1


def test_webgpu_takes_one_device(plugin: Plugin) -> None:
    plugin.devices = [Device(providers.PROVIDERS["webgpu"], ""), Device(providers.PROVIDERS["webgpu"], "")]
    found, rest = providers.plugin_devices(providers.import_onnxruntime(), "webgpu", {"device_type": "1"})
    assert (found, rest) == ([plugin.devices[0]], {"device_type": "1"})


@pytest.mark.parametrize("error", [RuntimeError("undefined\n symbol"), OSError("undefined symbol")])
def test_a_library_that_does_not_load(plugin: Plugin, model_path: Path, error: Exception) -> None:
    plugin.error = error
    with pytest.raises(GanportError, match="onnxruntime-ep-webgpu is installed but does not load: undefined symbol"):
        OnnxGenerator(model_path, "webgpu")


def test_a_library_that_is_registered_already(plugin: Plugin) -> None:
    plugin.devices = [Device(providers.PROVIDERS["webgpu"], "")]
    plugin.error = RuntimeError("library is Already Registered under that name")
    with pytest.raises(GanportError, match="finds no device"):
        providers.plugin_devices(providers.import_onnxruntime(), "webgpu", {})


def test_a_package_that_is_broken(plugin: Plugin, monkeypatch: pytest.MonkeyPatch, model_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_webgpu", None)
    with pytest.raises(GanportError, match="onnxruntime-ep-webgpu is installed but does not load"):
        OnnxGenerator(model_path, "webgpu")
    assert plugin.registered == []


def test_an_onnxruntime_too_old_for_plugins() -> None:
    old = types.SimpleNamespace(__version__="1.20.1")
    with pytest.raises(GanportError, match=r"onnxruntime-ep-webgpu needs onnxruntime 1.23 or newer, got 1.20.1"):
        providers.plugin_devices(old, "webgpu", {})


class Options:
    """SessionOptions that remembers the plug-in's devices."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value

    def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
        self._plugin.given.append((devices, options))


class PluginSession:
    """A CPU session that says it is OpenVINO's, with one node left to the CPU."""

    first = "OpenVINOExecutionProvider"

    def __init__(self, model: object, options: Options, *, enable_fallback: int) -> None:
        assert enable_fallback == 0
        assert options.entries["session.record_ep_graph_assignment_info"] == "1"
        self._real = REAL_SESSION(model, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return [self.first, "CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        def graph(ep_name: str, *nodes: tuple[str, str]) -> Any:
            listed = [types.SimpleNamespace(name=name, op_type=kind) for name, kind in nodes]
            return types.SimpleNamespace(ep_name=ep_name, get_nodes=lambda: listed)

        return [
            graph("OpenVINOExecutionProvider", ("a", "MatMul")),
            graph("CPUExecutionProvider", ("to_pixels", "Cast"), ("", "Floor")),
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_a_session_on_a_plugin(plugin: Plugin, model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin.devices = [Device("OpenVINOExecutionProvider", "CPU")]
    onnxruntime = providers.import_onnxruntime()
    monkeypatch.setattr(onnxruntime, "SessionOptions", lambda: Options(plugin))
    monkeypatch.setattr(onnxruntime, "InferenceSession", PluginSession)
    generator = OnnxGenerator(model_path, "openvino", 3, options={"num_streams": "1"})
    assert generator.provider == "openvino"
    assert generator.cpu_nodes() == ("to_pixels", "Floor")
    given = {"precision": "FP32", "num_of_threads": "3", "num_streams": "1"}
    assert plugin.given == [([plugin.devices[0]], given)]


def test_a_provider_that_takes_no_node_is_a_silent_cpu(
    plugin: Plugin, model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin.devices = [Device("OpenVINOExecutionProvider", "CPU")]
    onnxruntime = providers.import_onnxruntime()
    monkeypatch.setattr(onnxruntime, "SessionOptions", lambda: Options(plugin))
    monkeypatch.setattr(onnxruntime, "InferenceSession", PluginSession)
    only_cpu = PluginSession.get_provider_graph_assignment_info(None)[1:]  # type: ignore[arg-type]
    monkeypatch.setattr(PluginSession, "get_provider_graph_assignment_info", lambda _: only_cpu)
    with pytest.raises(GanportError, match=r"openvino .* does not run here: it takes none of the model's nodes"):
        OnnxGenerator(model_path, "openvino")


def test_nodes_on_the_cpu(generator: OnnxGenerator) -> None:
    assert generator.cpu_nodes() == ()
    silent = types.SimpleNamespace(get_providers=lambda: ["CUDAExecutionProvider"])
    assert sessions.cpu_nodes(silent) is None
