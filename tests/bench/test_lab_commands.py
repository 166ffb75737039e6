"""What lab.cold_start and lab.end_to_end refuse, which measure whole processes beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.running import run
from lab import cold_start, end_to_end, processes, shared

TOOLS = {"cold_start": cold_start.app, "end_to_end": end_to_end.app}
HEADS = {"g.onnx": b"\x08", "g.pt": b"PK\x03\x04", "g.txt": b"x", "zip.onnx": b"PK\x03\x04", "empty.onnx": b""}
"""Files by their first bytes, which is as far as a check goes."""
GIVEN = ("--model", "g.onnx", "--ckpt", "g.pt")

WRONG_FOR_BOTH = [
    (["--model", "absent.onnx"], "no model at absent.onnx"),
    (["--model", "."], "is a folder, expected a model file"),
    (["--model", "g.pt"], "g.pt is a checkpoint by its name, expected .onnx, .ts"),
    (["--model", "g.txt"], "g.txt: a model's name ends in .onnx, .ts"),
    (["--model", "zip.onnx"], "zip.onnx is a zip archive (a PyTorch checkpoint?), expected an ONNX model"),
    (["--model", "empty.onnx"], "empty.onnx is empty, expected an ONNX model"),
    (["--ckpt", "absent.pt"], "absent.pt does not exist"),
    (["--ckpt", "."], "is a folder, expected a checkpoint file"),
    (["--runs", "0"], "--runs takes 1 to 1000, got 0"),
    (["--runs", "1001"], "--runs takes 1 to 1000, got 1001"),
    (["--runs", "many"], "Invalid value for '--runs'"),
    (["--json", "g.pt"], "--json and --ckpt name the same file"),
    (["--json", "g.onnx"], "--json and --model name the same file"),
    (["--json", "g.pt/x"], "cannot write g.pt/x"),
    (["--ckpts", "g.pt"], "No such option"),
]
WRONG = [
    ("cold_start", ["--n", "0"], "--n takes 1 to 10000, got 0"),
    ("cold_start", ["--n", "10001"], "--n takes 1 to 10000, got 10001"),
    ("end_to_end", ["--n", "0"], "--n takes 1 to 1000000, got 0"),
    ("end_to_end", ["--n", "9"], "--n takes 10 or more, got 9"),
    ("end_to_end", ["--folder", "absent"], "absent is no folder"),
    ("end_to_end", ["--folder", "g.pt"], "g.pt is no folder"),
    *((tool, *case) for tool in TOOLS for case in WRONG_FOR_BOTH),
]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, head in HEADS.items():
        (tmp_path / name).write_bytes(head)


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused is refused before a look at the machine, and before any command."""
    for module, name in ((shared, "describe"), (processes, "run_once")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("something was started"))


@pytest.mark.parametrize(("tool", "arguments", "message"), WRONG)
def test_wrong_input(capsys: pytest.CaptureFixture[str], tool: str, arguments: list[str], message: str) -> None:
    assert run(TOOLS[tool], *GIVEN, *arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("tool", TOOLS)
def test_a_checkpoint_as_the_model_says_how_to_export_it(capsys: pytest.CaptureFixture[str], tool: str) -> None:
    assert run(TOOLS[tool], "--model", "g.pt", "--ckpt", "g.pt") == 2
    assert capsys.readouterr().err == (
        "error: g.pt is a checkpoint by its name, expected .onnx, .ts\nhint: export it first: gan-export g.pt\n"
    )


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("given", [(), GIVEN[:2], GIVEN[2:]])
def test_both_files_are_needed(capsys: pytest.CaptureFixture[str], tool: str, given: tuple[str, ...]) -> None:
    assert run(TOOLS[tool], *given) == 2
    assert "Missing option" in capsys.readouterr().err


@pytest.mark.parametrize("tool", TOOLS)
def test_without_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tool: str) -> None:
    monkeypatch.setattr(shared, "version_of", lambda package: None if package == "torchvision" else "1")
    assert run(TOOLS[tool], *GIVEN) == 2
    captured = capsys.readouterr()
    assert "needs torchvision, which is not installed" in captured.err
    assert "[train]" in captured.err


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("/home/me/x.json", "x.json"),
        ("--json=/home/me/x.json", "--json=x.json"),
        ("folder:/home/me/my pictures@64", "folder:my pictures@64"),
        ("/home/me/", "me"),
        ("some/x.json", "some/x.json"),
        ("../x.json", "../x.json"),
        ("default:lr_d=4e-4", "default:lr_d=4e-4"),
        ("", ""),
    ],
)
def test_words_of_a_command_without_folders(word: str, kept: str) -> None:
    assert shared.without_folder(word) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cannot read /home/me/x.png: no", "cannot read x.png: no"),
        ("'/a/b/c' and /d", "'c' and /d"),
        ("train/test, and/or ~/x/y a/b/c ./d/e", "train/test, and/or ~/x/y a/b/c ./d/e"),
        ("7/8/9 at 3 images/s", "7/8/9 at 3 images/s"),
    ],
)
def test_sentences_without_folders(text: str, kept: str) -> None:
    assert shared.without_folders(text) == kept
