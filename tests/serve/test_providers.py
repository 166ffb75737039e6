"""Providers: what is asked for is what runs, or an error."""

from __future__ import annotations

import builtins
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from gan_core.errors import GanportError, MissingPackageError
from gan_core.installation import install
from gan_serve.runtime import providers
from gan_serve.runtime.onnx_generator import OnnxGenerator


class FakeSession:
    """A session that runs on `active`, whatever it was asked for."""

    active = ("CPUExecutionProvider",)
    asked: list[Any] = []  # noqa: RUF012
    broken: tuple[str, ...] = ()

    def __init__(self, model: object, options: object, *, providers: list[Any], enable_fallback: int) -> None:
        assert enable_fallback == 0
        first = providers[0][0]
        FakeSession.asked.append(first)
        if first in self.broken:
            raise RuntimeError(f"{first}:\n libcudnn.so.9 not found")
        self._real = REAL_SESSION(model, options, providers=["CPUExecutionProvider"])
        self._active = self.active

    def get_providers(self) -> list[str]:
        return list(self._active)

    def get_provider_graph_assignment_info(self) -> list[Any]:
        return [types.SimpleNamespace(ep_name=self._active[0], get_nodes=lambda: ["all of them"])]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


REAL_SESSION = providers.import_onnxruntime().InferenceSession


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    """An onnxruntime that was built with CUDA, with sessions that the test decides about."""
    onnxruntime = providers.import_onnxruntime()
    built = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: built)
    monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
    monkeypatch.setattr(FakeSession, "asked", [])
    monkeypatch.setattr(FakeSession, "broken", ())
    return FakeSession


def test_available_here() -> None:
    assert "cpu" in providers.available()
    assert set(providers.available()) <= set(providers.PROVIDERS)


def test_every_provider_says_how_to_get_it() -> None:
    assert all(providers.how_to_get(name) for name in providers.PROVIDERS)


@pytest.mark.usefixtures("cuda_build")
def test_resolve() -> None:
    assert providers.available() == ("cpu", "cuda", "tensorrt")
    assert providers.resolve("auto") == ("cuda", "cpu")
    assert providers.resolve("tensorrt") == ("tensorrt",)
    assert providers.session_providers("tensorrt", {"a": "1"}, {"b": "2"}) == [
        ("TensorrtExecutionProvider", {"a": "1"}),
        ("CUDAExecutionProvider", {"b": "2"}),
        ("CPUExecutionProvider", {}),
    ]
    assert providers.session_providers("cuda", {}, {"b": "2"}) == [
        ("CUDAExecutionProvider", {}),
        ("CPUExecutionProvider", {}),
    ]


def test_a_provider_that_does_not_exist() -> None:
    with pytest.raises(GanportError, match=r"`provider` must be auto or one of cpu, cuda, .*, got 'gpu'"):
        providers.resolve("gpu")


def test_a_provider_that_is_not_here(model_path: Path) -> None:
    with pytest.raises(GanportError, match="provider coreml is not installed; here are cpu") as caught:
        OnnxGenerator(model_path, "coreml")
    assert "macOS" in caught.value.hint
    with pytest.raises(GanportError) as caught:
        OnnxGenerator(model_path, "cuda")
    assert install("cuda") in caught.value.hint


def test_a_named_provider_never_becomes_a_silent_cpu(cuda_build: type[FakeSession], model_path: Path) -> None:
    with pytest.raises(GanportError, match="provider cuda is installed but does not run here: it did not start"):
        OnnxGenerator(model_path, "cuda")
    assert cuda_build.asked == ["CUDAExecutionProvider"]


def test_a_named_provider_that_breaks(
    cuda_build: type[FakeSession], model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_build, "broken", ("CUDAExecutionProvider",))
    with pytest.raises(GanportError, match=r"provider cuda .* does not run here: .* libcudnn.so.9 not found"):
        OnnxGenerator(model_path, "cuda")


def test_auto_says_what_it_passed_over(cuda_build: type[FakeSession], model_path: Path) -> None:
    generator = OnnxGenerator(model_path, "auto")
    assert generator.provider == "cpu"
    assert generator.skipped == ("cuda: it did not start",)
    assert cuda_build.asked == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_the_active_provider_is_the_sessions(
    cuda_build: type[FakeSession], model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_build, "active", ("CUDAExecutionProvider", "CPUExecutionProvider"))
    assert OnnxGenerator(model_path, "auto").provider == "cuda"
    assert OnnxGenerator(model_path, "cuda").skipped == ()


def test_a_provider_we_have_no_name_for() -> None:
    session = types.SimpleNamespace(get_providers=lambda: ["QNNExecutionProvider"])
    assert providers.active(session) == "QNNExecutionProvider"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ModuleNotFoundError("No module", name="onnxruntime"), MissingPackageError, "needs onnxruntime, which is not"),
        (ModuleNotFoundError("No module named 'coloredlogs'", name="coloredlogs"), GanportError, "does not load"),
        (ImportError("libstdc++.so.6: version not found"), GanportError, "does not load: libstdc"),
        (OSError("bad ELF header"), GanportError, "does not load: bad ELF"),
    ],
)
def test_an_onnxruntime_that_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[GanportError], message: str
) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *arguments: Any) -> Any:
        if name == "onnxruntime":
            raise error
        return real_import(name, *arguments)

    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(kind, match=message) as caught:
        providers.import_onnxruntime()
    if kind is MissingPackageError:
        assert install("cpu") in caught.value.hint
        assert install("cuda") in caught.value.hint
