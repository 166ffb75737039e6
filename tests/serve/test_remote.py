"""Models named by an address: which are of a hub's, and what is wrong with the others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gan_core.errors import GanportError, MissingPackageError
from gan_serve.runtime import runtimes


@pytest.mark.parametrize(
    ("address", "repository", "revision", "file"),
    [
        ("hf://owner/name", "owner/name", None, None),
        ("hf:/owner/name", "owner/name", None, None),  # as a Path has it
        ("hf://owner/name/", "owner/name", None, None),
        ("hf://owner/name@v1.0", "owner/name", "v1.0", None),
        ("hf://owner/name/onnx/model.onnx", "owner/name", None, "onnx/model.onnx"),
        ("hf://owner/na.me-2@main/g.ONNX", "owner/na.me-2", "main", "g.ONNX"),
        ("https://huggingface.co/owner/name", "owner/name", None, None),
        ("https://huggingface.co/owner/name/blob/main/a/g%20h.onnx", "owner/name", "main", "a/g h.onnx"),
        ("https://hf.co/owner/name/resolve/v2/g.onnx?download=true", "owner/name", "v2", "g.onnx"),
    ],
)
def test_addresses(address: str, repository: str, revision: str | None, file: str | None) -> None:
    found = runtimes._ADDRESS.fullmatch(str(address))
    assert found is not None
    assert runtimes._parsed(found[1], found[2]) == (repository, revision, file)


@pytest.mark.parametrize("path", ["g.onnx", "hf", "hf/owner/name.onnx", "./https/g.onnx", "c:/g.onnx", "/a/hf://x"])
def test_paths_stay_paths(path: str) -> None:
    assert runtimes.located(path) == Path(path)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://owner", "names no model"),
        ("hf://", "names no model"),
        ("hf://owner/na me", "names no model"),
        ("hf://../../etc/passwd.onnx", "is no .onnx file|cannot be downloaded"),
        ("hf://owner/name/g.pt", "is no .onnx file"),
        ("hf://owner/name/g.ts", "is no .onnx file"),
        ("https://example.com/g.onnx", "no address of a model on huggingface.co"),
        ("http://huggingface.co/owner/name", "no address of a model on huggingface.co"),
        ("https://huggingface.co/datasets/owner/name/blob/main/g.onnx", "no address of a model"),
    ],
)
def test_wrong_addresses(address: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # nothing may be asked for
    with pytest.raises(GanportError, match=words if "passwd" not in address else "needs huggingface_hub"):
        runtimes.located(address)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match="downloading models needs huggingface_hub") as refused:
        runtimes.located("hf://owner/name")
    assert "hub" in refused.value.hint


@pytest.mark.parametrize(
    ("files", "found"), [(["README.md", "g.onnx"], "g.onnx"), (["g.onnx", "onnx/model.onnx"], "onnx/model.onnx")]
)
def test_the_model_of_a_repository(files: list[str], found: str) -> None:
    assert runtimes._only(files, "hf://owner/name") == found


@pytest.mark.parametrize(
    ("files", "words", "hint"),
    [
        ([], "has no .onnx file", "gan-export FILE"),
        (["b.onnx", "a.onnx"], "has 2 .onnx files: a.onnx, b.onnx", "/a.onnx"),
    ],
)
def test_no_model_or_several(files: list[str], words: str, hint: str) -> None:
    with pytest.raises(GanportError, match=words) as refused:
        runtimes._only(files, "hf://owner/name")
    assert hint in refused.value.hint
