"""What holds for every test: one thread, the slow files first, and one look at each stranger's file."""

from __future__ import annotations

import dataclasses
import functools
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


@pytest.fixture(autouse=True)
def _operators_read_once() -> None:
    """torch.onnx reads all of onnxscript's operators anew for each export, in a third of its time: here once."""
    made = sys.modules.get("torch.onnx._internal.exporter._registration")
    if made is not None and not hasattr(made.ONNXRegistry.from_torchlib, "cache_info"):
        made.ONNXRegistry.from_torchlib = staticmethod(functools.cache(made.ONNXRegistry.from_torchlib))


@pytest.fixture
def drafted_once(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stranger's file is, which takes long to find out, is found out once in a run, on whichever worker.

    The draft depends on the file and the answers alone (test_forensics_investigation). Notes on the way are not
    repeated. Not for tests that change how drafts are made.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    identify = importlib.import_module("gan_export.identify")
    drafted: Callable[..., Any] = identify._drafted

    def once(reading: Any, answers: Any, on_note: Callable[[str], None]) -> Any:
        said = dataclasses.replace(answers, accept=False)  # which changes no draft
        named = repr((reading.sha256, reading.chosen, reading.which, said))
        kept = folder / f"draft-{hashlib.sha256(named.encode()).hexdigest()}"
        if kept.exists():
            return pickle.loads(kept.read_bytes())
        draft = drafted(reading, answers, on_note)
        written = Path(f"{kept}-{os.getpid()}")
        written.write_bytes(pickle.dumps(draft))
        written.replace(kept)
        return draft

    monkeypatch.setattr(identify, "_drafted", once)
