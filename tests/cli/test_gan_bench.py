"""gan-bench as a command: what it prints and writes, what it refuses, how it ends."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from bench import running
from bench.processes import children, ended, needs_proc, wait_until
from bench.tiny_models import tiny_model
from gan_bench.cli import app

pytestmark = pytest.mark.slow

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


run = functools.partial(running.run, app)
QUICK = ("--quick", "--seconds", "0.01", "--rounds", "3", "--no-roofline")


def test_table_json_and_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    outputs = ("--json", "out/speed.json", "--plot", "out/speed.png")
    before = signal.getsignal(signal.SIGTERM)
    assert run("--model", "g.onnx", "--batch", "1,8", "--threads", "1,auto", *QUICK, *outputs) == 0
    assert signal.getsignal(signal.SIGTERM) is before, "it is put back"
    table = capsys.readouterr().out.splitlines()
    assert "tiny, 8×8×1, 0.001 MFLOP an image on " in table[0]
    assert [line for line in table if line.startswith("batch")] == ["batch 1", "batch 8"]
    assert sum(line.startswith(" ganport") for line in table) == 4
    made = json.loads((folder / "out" / "speed.json").read_text(encoding="utf-8"))
    assert made["schema"] == 2
    assert made["tool"] == "gan-bench"
    assert made["models"][0]["file"] == "g.onnx"
    assert made["settings"] == {
        "window_s": 0.01, "max_rounds": 3, "quick": True, "timeout_s": 300, "min_calls_per_window": 34,
        "agreeing_windows": 3, "agreement": 0.1, "roofline": False, "share_process": False,
    }  # fmt: skip
    assert [(row["threads_requested"], row["batch"]) for row in made["rows"]] == [(1, 1), (1, 8), (None, 1), (None, 8)]
    assert made["environment"]["took_s"] > 0
    assert (folder / "out" / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["speed.json", "speed.png"]


def test_json_on_stdout_is_all_that_is_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    assert run("--model", "g.onnx", "--batch", "2", *QUICK, "--json", "-") == 0
    captured = capsys.readouterr()
    assert [row["batch"] for row in json.loads(captured.out)["rows"]] == [2]
    assert "tiny, 8×8×1" in captured.err, "the table is for the person"


def test_a_wrong_row_is_struck_out_and_ends_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "mixes.onnx", "--batch", "1,8", *QUICK, "--json", "speed.json") == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-2] == "batch 8"
    assert captured.out.splitlines()[-1].split()[:5:2] == ["✗", "cpu", "WRONG"]
    assert "error: 1 of 2 rows drew other pixels than the reference" in captured.err
    assert json.loads((folder / "speed.json").read_text())["rows"][1]["status"] == "wrong", "the record is kept"


def test_a_failed_row_among_others_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    assert run("--model", "one.onnx", "--batch", "1,8", *QUICK) == 0
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert "batch 8: failed: cpu failed on a batch of" in captured.err


def test_when_all_rows_fail_it_ends_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    assert run("--model", "one.onnx", "--batch", "8,16", *QUICK) == 1
    assert "error: no row could be measured" in capsys.readouterr().err


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
        (["g.onnx"], "a record (g.onnx) is shown again, --model and --ckpt are measured"),
        (["--json", "a.json", "extra.json", "more.json"], "unexpected extra argument"),
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
    assert run(*given, *QUICK[:1]) == 2
    captured = capsys.readouterr()
    error, *rest = captured.err.strip().splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert all(line.startswith("hint: ") for line in rest)
    assert captured.out == ""
    assert sorted(folder.rglob("*")) == before, "nothing is left behind"
    assert [pid for pid in children() if not ended(pid)] == []


def test_a_record_is_compared_and_shown_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "g.onnx", "--batch", "1", *QUICK, "--json", "old.json") == 0
    capsys.readouterr()
    assert run("--model", "g.onnx", "--batch", "1,2", *QUICK, "--compare", "old.json", "--json", "new.json") == 0
    assert "\nonly now: ganport, cpu ×" in capsys.readouterr().out
    assert run("new.json") == 0
    shown = capsys.readouterr()
    assert "batch 2\n ganport" in shown.out
    assert run("new.json", "--compare", "old.json") == 0
    compared = capsys.readouterr()
    assert compared.out.startswith(shown.out)
    assert "of 1 rows as before within noise" in compared.out
    made = json.loads((folder / "old.json").read_text())
    made["environment"]["hardware"]["cpu"] = "Abacus 9"
    (folder / "other.json").write_text(json.dumps(made))
    for arguments in (["new.json"], ["--model", "g.onnx", *QUICK]):
        assert run(*arguments, "--compare", "other.json") == 2
        assert "error: the records are of different machines: Abacus 9, " in capsys.readouterr().err
    assert run("new.json", "--compare", "other.json", "--across") == 0
    assert "\ndifferent machines: Abacus 9, " in capsys.readouterr().out


def test_the_limit_is_measured_beside(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "g.onnx", "--batch", "4", *QUICK[:-1], "--json", "speed.json") == 0
    assert "\nlimit cpu ×" in capsys.readouterr().out
    made = json.loads((folder / "speed.json").read_text())
    (limit,), (row,) = made["limits"], made["rows"]
    assert limit["product_gflop_per_s_low"] <= limit["product_gflop_per_s"] <= limit["product_gflop_per_s_high"]
    assert row["limit_images_per_s"] > 0
    assert row["limited_by"] in ("products", "bytes")
    assert made["generator"]["counted_from"] == "graph"


def test_end_to_end_and_precisions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(tiny_model(precision="fp16"), folder / "g.fp16.onnx")
    files = ("--model", "g.fp16.onnx", "--model", "g.onnx")
    assert run(*files, "--batch", "2", *QUICK, "--end-to-end", "--json", "speed.json") == 0
    made = json.loads((folder / "speed.json").read_text())
    assert made["reference"] == {"runtime": "ganport", "model": "g.onnx", "provider": "cpu"}, "the first in fp32"
    assert [(row["model"], row["precision"], row["task"], row["batch"]) for row in made["rows"]] == [
        ("g.fp16.onnx", "fp16", "pixels", 2), ("g.onnx", "fp32", "pixels", 2),
        ("g.fp16.onnx", "fp16", "png", 256), ("g.onnx", "fp32", "png", 256),
    ]  # fmt: skip
    assert all(row["parity"]["pixels_max_lsb"] == 0 for row in made["rows"])
    out = capsys.readouterr().out
    assert "256 PNG files" in out
    assert " ganport fp16" in out


def test_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "error: nothing to measure" in capsys.readouterr().err


@needs_proc
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), *((number, -number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL))],
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
    assert err.endswith("error: interrupted\n") == (number == signal.SIGINT)
    assert "Traceback" not in err
    assert not (folder / "speed.json").exists()


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    os.environ.pop("COLUMNS", None)
    assert run("--help") == 0
    shown = capsys.readouterr().out
    options = "model ckpt peers provider batch threads tf32 end-to-end roofline share-process json plot compare across"
    for option in (*options.split(), "seconds", "rounds", "quick", "timeout"):
        assert f"--{option}" in shown
    assert shown.count("  gan-bench --model g.onnx") == 5
