"""What holds for every test: one thread, the slow files first, and one look at each stranger's file."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import hashlib
import importlib
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch: workers and children share the cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go to the workers first, so that none is left alone with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the garbage collector need not look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables have their whole width and no colours, as in a pipe, whatever the environment holds."""
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _made_once() -> None:
    """What is made anew for each command or export is made once here: typer's commands, and what torch.onnx reads
    of onnxscript's operators, and torch's, in half of its time.
    """
    typer: Any = sys.modules.get("typer.main")
    if typer is not None and not hasattr(typer.get_command, "cache_info"):
        typer.get_command = functools.cache(typer.get_command)
    made = sys.modules.get("torch.onnx._internal.exporter._registration")
    if made is not None and not hasattr(made.ONNXRegistry.from_torchlib, "cache_info"):
        made.ONNXRegistry.from_torchlib = staticmethod(functools.cache(made.ONNXRegistry.from_torchlib))
    export = sys.modules.get("torch._export.utils")
    name = "_materialize_cpp_cia_ops"  # no operator is added while tests run
    if export is not None and hasattr(export, name) and not hasattr(getattr(export, name), "cache_info"):
        setattr(export, name, functools.cache(getattr(export, name)))


def shared_by_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run, the same for all its workers."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def kept(path: Path) -> bytes | None:
    """What another test, on whichever worker, has left at `path`; None where a test plays somebody who may not read."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return None


def keep(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all (as where a test has filled the disk), so that others may read it any time."""
    written = Path(f"{path}-{os.getpid()}")
    with contextlib.suppress(OSError):
        written.write_bytes(content)
        written.replace(path)


@pytest.fixture
def exported_once(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch.onnx makes of a network with a spec is found out once in a run, on whichever worker.

    It depends on spec, weights and opset alone, and all that is done with it, each test does. Networks of code, or with
    faults planted in them, are exported each time. Not for tests of the exporter itself, and of what it prints.
    """
    import onnx

    folder = shared_by_workers(tmp_path_factory)
    exporting = importlib.import_module("gan_export.onnx_export")
    generator = importlib.import_module("gan_trainer.networks.generator").SpecGenerator
    export: Callable[..., Any] = exporting._dynamo_export

    def once(module: Any, source: Any, opset: int) -> Any:
        parts = list(module.modules())
        hooked = any(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part) for part in parts)
        if hooked or type(module.generator) is not generator or any(part.training for part in parts):
            return export(module, source, opset)
        kinds = [(type(part), part.extra_repr()) for part in parts]
        named = hashlib.sha256(repr((module.generator.spec, source.interface, opset, kinds)).encode())
        for name, tensor in module.state_dict().items():
            named.update(repr((name, tensor.dtype, tensor.shape)).encode() + tensor.numpy().tobytes())
        path = folder / f"export-{named.hexdigest()}"
        made = kept(path)
        if made is None:
            made = exporting.ir.to_proto(export(module, source, opset)).SerializeToString()
            keep(path, made)
        return exporting.ir.from_proto(onnx.ModelProto.FromString(made))

    monkeypatch.setattr(exporting, "_dynamo_export", once)


@pytest.fixture
def drafted_once(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stranger's file is, which takes long to find out, is found out once in a run, on whichever worker.

    The draft depends on the file and the answers alone (test_forensics_investigation). Notes on the way are not
    repeated. Not for tests that change how drafts are made.
    """
    folder = shared_by_workers(tmp_path_factory)
    identify = importlib.import_module("gan_export.identify")
    drafted: Callable[..., Any] = identify._drafted

    def once(reading: Any, answers: Any, real: Any, on_note: Callable[[str], None]) -> Any:
        said = dataclasses.replace(answers, accept=False)  # which changes no draft
        named = repr((reading.sha256, reading.chosen, reading.which, said))
        path = folder / f"draft-{hashlib.sha256(named.encode()).hexdigest()}"
        made = kept(path)
        if made is not None:
            return pickle.loads(made)
        draft = drafted(reading, answers, real, on_note)
        keep(path, pickle.dumps(draft))
        return draft

    monkeypatch.setattr(identify, "_drafted", once)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of threads of every onnxruntime session, as they are opened."""
    threads: list[int] = []
    from gan_serve.runtime import providers

    onnxruntime = providers.import_onnxruntime()
    real = onnxruntime.InferenceSession

    def session(model: object, options: Any, **kwargs: Any) -> Any:
        threads.append(options.intra_op_num_threads)
        return real(model, options, **kwargs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return threads
