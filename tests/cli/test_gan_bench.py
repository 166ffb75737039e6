"""gan-bench as a command: what it prints and writes, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from bench.processes import children, ended, needs_proc, wait_until
from bench.tiny_models import tiny_model
from gan_bench.cli import app
from gan_serve import console

COMMAND = [sys.executable, "-P", "-c", "from gan_bench.cli import main; main()"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, holding g.onnx and the usual wrong files."""
    onnx.save(tiny_model(), tmp_path / "g.onnx")
    onnx.save(tiny_model(mixes_batch=True), tmp_path / "mixes.onnx")
    onnx.save(tiny_model(max_batch=1), tmp_path / "one.onnx")
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "g.onnx").read_bytes()[:200])
    (tmp_path / "g.pt").write_bytes(b"PK\x03\x04")
    (tmp_path / "models").mkdir()
    (tmp_path / "file").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended_with:
        console.run(app, "gan-bench", arguments)
    assert isinstance(ended_with.value.code, int)
    return ended_with.value.code


QUICK = ("--quick", "--seconds", "0.01", "--rounds", "3")


def test_table_json_and_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    outputs = ("--json", "out/speed.json", "--plot", "out/speed.png")
    assert run("--model", "g.onnx", "--batch", "1,8", "--threads", "1,auto", *QUICK, *outputs) == 0
    table = capsys.readouterr().out.splitlines()
    assert "tiny fp32, 8×8×1 on " in table[0]
    assert [line.split()[2] for line in table[3:]] == ["1", "8", "1", "8"]
    made = json.loads((folder / "out" / "speed.json").read_text(encoding="utf-8"))
    assert made["schema"] == 1
    assert made["tool"] == "gan-bench"
    assert made["model"]["file"] == "g.onnx"
    assert made["settings"] == {
        "window_s": 0.01, "max_rounds": 3, "quick": True, "timeout_s": 300, "min_calls_per_window": 34,
        "agreeing_windows": 3, "agreement": 0.1,
    }  # fmt: skip
    assert [(row["threads_requested"], row["batch"]) for row in made["rows"]] == [(1, 1), (1, 8), (None, 1), (None, 8)]
    assert made["environment"]["took_s"] > 0
    assert (folder / "out" / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["speed.json", "speed.png"]


def test_json_on_stdout_is_all_that_is_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    assert run("--model", "g.onnx", "--batch", "2", *QUICK, "--json", "-") == 0
    captured = capsys.readouterr()
    assert [row["batch"] for row in json.loads(captured.out)["rows"]] == [2]
    assert "tiny fp32" in captured.err, "the table is for the person"


def test_a_wrong_row_is_struck_out_and_ends_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "mixes.onnx", "--batch", "1,8", *QUICK, "--json", "speed.json") == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].split()[:4] == ["cpu", captured.out.splitlines()[-1].split()[1], "8", "WRONG"]
    assert "error: 1 of 2 rows drew other pixels than the CPU provider" in captured.err
    assert json.loads((folder / "speed.json").read_text())["rows"][1]["status"] == "wrong", "the record is kept"


def test_a_failed_row_among_others_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    assert run("--model", "one.onnx", "--batch", "1,8", *QUICK) == 0
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert "warning: auto, threads auto, batch 8: failed: cpu failed on a batch of 8" in captured.err


def test_when_all_rows_fail_it_ends_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    assert run("--model", "one.onnx", "--batch", "8,16", *QUICK) == 1
    assert "error: no row could be measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "--batch takes whole numbers from 1 to 65536, got '0'"),
        (["--batch", "a"], "got 'a'"),
        (["--batch", ""], "got ''"),
        (["--batch", "1,,2"], "got ''"),
        (["--batch", "-8"], "got '-8'"),
        (["--batch", ",".join(map(str, range(1, 100)))], "99 rows asked for"),
        (["--threads", "0"], "--threads takes whole numbers from 1 to 1024, got '0'"),
        (["--threads", "many"], "got 'many'"),
        (["--provider", ""], "--provider is empty"),
        (["--provider", "quantum"], "provider must be auto or one of cpu, cuda"),
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
        (["g.onnx"], "unexpected extra argument"),
    ],
)
def test_wrong_input(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    before = sorted(folder.rglob("*"))
    given = arguments if "--model" in arguments else ["--model", "g.onnx", *arguments]
    assert run(*given, *QUICK[:1]) == 2
    captured = capsys.readouterr()
    error, *rest = captured.err.strip().splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert all(line.startswith("hint: ") for line in rest)
    assert captured.out == ""
    assert sorted(folder.rglob("*")) == before, "nothing is left behind"
    assert [pid for pid in children() if not ended(pid)] == []


def test_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "Missing option '--model'" in capsys.readouterr().err


def test_the_signal_handler_is_put_back(folder: Path) -> None:  # noqa: ARG001
    before = signal.getsignal(signal.SIGTERM)
    assert run("--model", "g.onnx", "--batch", "1", *QUICK) == 0
    assert signal.getsignal(signal.SIGTERM) is before


@needs_proc
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_an_interrupted_benchmark_leaves_no_process(folder: Path, number: signal.Signals, code: int) -> None:
    long = ["--model", "g.onnx", "--batch", "1,8", "--seconds", "120", "--json", "speed.json"]
    process = subprocess.Popen([*COMMAND, *long], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    workers: list[int] = []

    def both_rows_live() -> bool:
        workers[:] = children(process.pid)
        assert process.poll() is None
        return len(workers) == 2

    wait_until(both_rows_live)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    wait_until(lambda: all(ended(pid) for pid in workers), seconds=10)
    assert out == ""
    assert err in ("error: interrupted\n", "") or err.endswith("\nerror: interrupted\n") or number == signal.SIGKILL
    assert "Traceback" not in err
    assert not (folder / "speed.json").exists()


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    os.environ.pop("COLUMNS", None)
    assert run("--help") == 0
    shown = capsys.readouterr().out
    for option in ("model", "provider", "batch", "threads", "json", "plot", "seconds", "rounds", "quick", "timeout"):
        assert f"--{option}" in shown
    assert shown.count("  gan-bench --model g.onnx") == 4
