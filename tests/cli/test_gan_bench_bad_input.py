"""What gan-bench refuses: one line that says what is wrong, a hint, exit code 2, and nothing is written."""

from __future__ import annotations

import functools
from pathlib import Path

import onnx
import pytest

from bench import running
from bench.processes import children, ended
from bench.tiny_models import tiny_model
from gan_bench.cli import app

pytestmark = pytest.mark.slow

run = functools.partial(running.run, app)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, holding g.onnx and the usual wrong files."""
    onnx.save(tiny_model(), tmp_path / "g.onnx")
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "g.onnx").read_bytes()[:200])
    (tmp_path / "g.pt").write_bytes(b"PK\x03\x04")
    (tmp_path / "models").mkdir()
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "g.txt").write_text("a text")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "--batch takes whole numbers from 1 to 65536, got '0'"),
        (["--batch", "a"], "got 'a'"),
        (["--batch", ""], "--batch is empty, expected a value"),
        (["--batch", "1,,2"], "got ''"),
        (["--batch", "-8"], "got '-8'"),
        (["--batch", ",".join(map(str, range(1, 200)))], "199 rows asked for"),
        (["--threads", "0"], "--threads takes whole numbers from 1 to 1024, got '0'"),
        (["--threads", "many"], "got 'many'"),
        (["--provider", ""], "--provider is empty"),
        (["--provider", "quantum"], "--provider must be auto or one of cpu, cuda"),
        (["--provider", "cpu", "--provider", "tensorrt"], "provider tensorrt is not installed; here are cpu"),
        (["--seconds", "0"], "--seconds takes 0.01 to 600, got 0"),
        (["--seconds", "nan"], "--seconds takes 0.01 to 600, got nan"),
        (["--seconds", "soon"], "Invalid value for '--seconds'"),
        (["--rounds", "2"], "--rounds takes 3 to 1000, got 2"),
        (["--timeout", "0"], "--timeout takes 1 to 86400 seconds, got 0"),
        (["--model", "nowhere.onnx"], "no model at nowhere.onnx"),
        (["--model", "models"], "models is a folder, expected a model file"),
        (["--model", "empty.onnx"], "empty.onnx is empty"),
        (["--model", "cut.onnx"], "cut short or is damaged"),
        (["--model", "g.pt"], "g.pt is a checkpoint by its name"),
        (["--model", "config.json"], "a model's name ends in .onnx"),
        (["--json", "models"], "models is a folder, expected a file name"),
        (["--json", "file/speed.json"], "cannot write file/speed.json: Not a directory"),
        (["--json", "g.onnx"], "--json and --model name the same file"),
        (["--json", "speed.png", "--plot", "speed.png"], "--plot and --json name the same file"),
        (["--plot", "speed.jpeg"], "--plot takes a file name ending in .png"),
        (["--plot", "models"], "models is a folder"),
        (["--plot", "file/speed.png"], "cannot write file/speed.png"),
        (["--json", "/proc/speed.json"], "cannot write /proc/speed.json"),
        (["--batches", "1"], "No such option: --batches"),
        (["old.json"], "old.json is a record, which is shown again; --model is for measuring"),
        (["old.json", "new.json"], "one record is shown at a time"),
        (["models/g.onnx"], "no model at models/g.onnx"),
        (["g.txt"], "a model's name ends in .onnx"),
        (["g.pt"], "g.pt is a checkpoint by its name"),
        (["--format", "xml"], "--format takes table, markdown, csv, json, got 'xml'"),
        (["--format", "csv", "--list-providers"], "--list-providers is a table or JSON, not csv"),
        (["--baseline", ""], "--baseline is empty"),
        (["--baseline", "openvino", "--batch", "1"], "no row is called 'openvino', which --baseline names"),
        (["--fail-if-slower", "10%"], "--fail-if-slower: slower than what?"),
        (["--fail-if-slower", "ten", "--baseline", "ganport"], "--fail-if-slower takes a percentage from 0%"),
        (["--fail-if-slower", "100%", "--baseline", "ganport"], "got '100%'"),
        (["--fail-if-slower", "-5", "--baseline", "ganport"], "got '-5'"),
        (["--fail-if-slower", "nan", "--baseline", "ganport"], "got 'nan'"),
        (["--across"], "--across is about --compare, which is not there"),
        (["--peers", "eager"], "--peers needs --ckpt"),
        (["--ckpt", "nowhere.pt"], "nowhere.pt does not exist"),
        (["--ckpt", "models"], "models is a folder, expected a checkpoint file"),
        (["--ckpt", "g.pt", "--peers", "torch"], "--peers takes all, none, or names out of eager"),
        (["--ckpt", "g.pt", "--peers", "eager"], "g.pt: it is a zip archive cut short or damaged"),
        (["--tf32", "on"], "--tf32 on needs a provider that has TF32"),
        (["--tf32", "maybe"], "--tf32 takes off, on, or off,on, got 'maybe'"),
        (["--model", "g.onnx", "--model", "models/../g.onnx"], "have the same name"),
        (["--compare", "nowhere.json"], "no record at nowhere.json"),
        (["--compare", "config.json"], "is other JSON, not a record of gan-bench"),
        (["--compare", "config.json", "--json", "config.json"], "--json and --compare name the same file"),
    ],
)
def test_wrong_input(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    before = sorted(folder.rglob("*"))
    given = arguments if "--model" in arguments else ["--model", "g.onnx", *arguments]
    assert run(*given, "--quick") == 2
    captured = capsys.readouterr()
    error, *rest = captured.err.strip().splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert all(line.startswith("hint: ") for line in rest)
    assert captured.out == ""
    assert sorted(folder.rglob("*")) == before, "nothing is left behind"
    assert [pid for pid in children() if not ended(pid)] == []
