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
import re
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch: workers and children share the cores
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each worker would compile the tests anew, for seven seconds
sys.dont_write_bytecode = False


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files of which all tests are left out (`pytestmark = pytest.mark.slow` with -m "not slow") are not imported."""
    marks = config.option.markexpr
    if not collection_path.match("test_*.py") or not re.fullmatch(r"not \w+( and not \w+)*", marks):
        return None
    left_out = "|".join(re.findall(r"not (\w+)", marks))
    pattern = re.compile(rf"^pytestmark = .*\bmark\.({left_out})\b", re.MULTILINE)
    return True if pattern.search(collection_path.read_text("utf-8")) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go to the workers first, so that none is left alone with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays to the end: the garbage collector need not look through it, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables have their whole width and no colours, as in a pipe, whatever the environment holds."""
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is made anew for each command or export is made once here: typer's commands, graphs of networks with a
    spec, and what torch.onnx reads of onnxscript's operators, and torch's, in half of its time.
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
    exporter = sys.modules.get("torch.onnx")
    if exporter is not None and not isinstance(exporter.export, TracedOnce):
        setattr(exporter, "export", TracedOnce(exporter.export, shared_by_workers(tmp_path_factory)))  # noqa: B010


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


def traced(module: Any, arguments: Any, options: dict[str, Any]) -> str | None:
    """What torch.onnx makes of a module depends on, but for the values of its weights; None where that is not known:
    for networks of code, for those that were changed after they were built, and where torch folds constants, as
    gan-bench's stock export lets it.
    """
    from gan_export.source import PixelModule
    from gan_trainer.networks.generator import SpecGenerator

    if not isinstance(module, PixelModule) or type(module.generator) is not SpecGenerator:
        return None
    if not options.get("dynamo") or options.get("optimize", True):
        return None
    state: list[object] = []
    for part in module.modules():
        if not type(part).__module__.startswith(("torch.nn.", "gan_")) or part.training:
            return None
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            return None
        state.append((type(part).__name__, {name: value for name, value in vars(part).items() if name[0] != "_"}))
    weights = [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors(module)]
    given = [(tensor.dtype, tuple(tensor.shape)) for tensor in arguments]
    text = repr((state, weights, given, options))
    return None if " at 0x" in text else hashlib.sha256(text.encode()).hexdigest()


def tensors(module: Any) -> Iterator[tuple[str, Any]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


class TracedOnce:
    """torch.onnx.export that finds out once in a run, on whichever worker, what a network with a spec becomes.

    Tracing sees no values: another network of the same spec becomes the same graph, with its own weights in it. All
    that ganport does with the graph it does each time.
    """

    def __init__(self, really: Callable[..., Any], folder: Path) -> None:
        self.really, self.folder = really, folder

    def __call__(self, module: Any, arguments: Any = (), *others: Any, **options: Any) -> Any:
        name = None if others else traced(module, arguments, options)
        if name is None:
            return self.really(module, arguments, *others, **options)
        import onnx
        import onnx_ir as ir
        from torch.onnx import ONNXProgram

        path = self.folder / f"traced-{name}"
        made = kept(path)
        if made is None:
            made = ir.to_proto(self.really(module, arguments, **options).model).SerializeToString()
            keep(path, made)
        model = ir.from_proto(onnx.ModelProto.FromString(made))
        for key, tensor in tensors(module):
            if key in model.graph.initializers:
                model.graph.initializers[key].const_value = ir.tensor(tensor.detach().numpy().copy(), name=key)
        return ONNXProgram(model, None)


@pytest.fixture
def traced_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what PyTorch does."""
    exporter = importlib.import_module("torch.onnx")
    if isinstance(exporter.export, TracedOnce):
        monkeypatch.setattr(exporter, "export", exporter.export.really)


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
        with contextlib.suppress(pickle.PicklingError):  # an encoder that makes its latents is no value
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
