"""`gan-export adopt` as a command: each hint, followed, leads to a copy; wrong words end in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import Run
from serve.strangers import CLASSES, stranger, try_here


@pytest.fixture(autouse=True)
def _tried_here(monkeypatch: pytest.MonkeyPatch) -> None:
    try_here(monkeypatch)


def test_onnx_of_an_onnx_file_says_what_takes_it_in(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x08\x08")
    code, out, err = run("onnx", "--ckpt", tmp_path / "x.onnx")
    assert (code, out) == (2, "")
    assert "is a model already by its name, expected a checkpoint" in err
    assert f"gan-export adopt {tmp_path / 'x.onnx'}" in err


def test_the_command(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    proto = stranger(activation="Identity", label="int64", one_hot_by="Compare")
    Path("theirs.onnx").write_bytes(proto.SerializeToString())
    code, out, err = run("adopt", "theirs.onnx")
    assert (code, out) == (2, "")
    assert err.splitlines()[1].startswith("hint: --classes 10")
    code, out, err = run("adopt", "theirs.onnx", "--classes", CLASSES)
    assert (code, out) == (2, "")
    said = err.splitlines()[1].removeprefix("hint: ").split()[:2]
    assert said[0] == "--value-range"
    code, out, err = run("adopt", "theirs.onnx", "--classes", CLASSES, *said, "-v")
    assert code == 0, err
    assert out.endswith("theirs.adopted.onnx\n")
    assert "proved against the original: " in out
    assert f"as you said: values in [{said[1].replace(',', ', ')}], classes 3" in out
    assert "assumed: noise is a latent whose components are N(0, 1)\n" in err
    assert run("verify", "--model", "theirs.adopted.onnx")[0] == 0
    code, out, err = run("verify", "--model", "theirs.adopted.onnx", "--ckpt", "theirs.onnx")
    assert code == 0, err
    assert "proved against the original" in out
    code, _, err = run("adopt", "theirs.adopted.onnx")
    assert code == 2
    assert err.splitlines()[1] == "hint: to prove it: gan-export verify theirs.adopted.onnx"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("theirs.onnx", "--out", "theirs.onnx"), "--out and FILE name the same file, theirs.onnx"),
        (("theirs.onnx", "--out", "ours.ts"), "--out must end in .onnx"),
        (("missing.onnx",), "no model at missing.onnx"),
        (("g.pt",), "g.pt is a zip archive"),
        (("theirs.onnx", "--image", "3x9x9"), "no images of 3x9x9"),
        (("theirs.onnx", "--latent", "cauchy"), "--latent must be one of normal, uniform, uniform01"),
        (("theirs.onnx", "--inputs", "noise"), "--inputs must list z and label"),
        (("theirs.onnx", "--constant", "psi"), "--constant must be NAME=NUMBER"),
    ],
)
def test_wrong_words(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("theirs.onnx").write_bytes(stranger().SerializeToString())
    Path("g.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    code, out, err = run("adopt", *arguments)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert message in first
    assert second.startswith("hint: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.pt", "theirs.onnx"]
