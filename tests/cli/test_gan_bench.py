"""gan-bench as a command: what it prints and writes, and how it ends."""

from __future__ import annotations

import copy
import csv
import functools
import io
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

import gan_serve
from bench import running
from bench.processes import children, ended, needs_proc, wait_until
from bench.tiny_models import tiny_model
from gan_bench.cli import app
from gan_core.errors import GanportError
from gan_serve.runtime.providers import PROVIDERS
from gan_serve.runtime.runtimes import DEFAULT_MODEL
from gan_serve.terminal import commands

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-P", "-c", "from gan_bench.cli import main; main()"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, holding g.onnx and two that do not take a batch as they should. Rows have no processes."""
    running.without_processes(monkeypatch)
    onnx.save(tiny_model(), tmp_path / "g.onnx")
    onnx.save(tiny_model(mixes_batch=True), tmp_path / "mixes.onnx")
    onnx.save(tiny_model(max_batch=1), tmp_path / "one.onnx")
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


def test_two_formats_for_one_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("g.onnx", "--format", "csv", "--json", "-") == 2
    assert json.loads(capsys.readouterr().out)["error"] == "--format csv and --json - both write to stdout"


def test_a_wrong_row_is_struck_out_and_ends_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "mixes.onnx", "--batch", "1,8", *QUICK, "--json", "speed.json") == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[lines.index("batch 8") + 1].split()[:5:2] == ["✗", "cpu", "WRONG"]
    assert "error: 1 of 2 rows generated other pixels than the reference" in captured.err
    assert json.loads((folder / "speed.json").read_text())["rows"][1]["status"] == "wrong", "the record is kept"


def test_a_failed_row_among_others_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    assert run("--model", "one.onnx", "--batch", "1,8", *QUICK) == 0
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert "batch 8: failed: cpu failed on a batch of" in captured.err


def test_when_all_rows_fail_it_ends_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    assert run("--model", "one.onnx", "--batch", "8,16", *QUICK) == 1
    assert "error: no row could be measured" in capsys.readouterr().err


def test_a_record_is_compared_and_shown_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", "g.onnx", "--batch", "1", *QUICK, "--json", "old.json") == 0
    capsys.readouterr()
    assert run("--model", "g.onnx", "--batch", "1,2", *QUICK, "--compare", "old.json", "--json", "new.json") == 0
    assert capsys.readouterr().out.splitlines()[-2].split()[-2:] == ["only", "now"]
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
        assert "error: the records are of different machines: Abacus 9" in capsys.readouterr().err
    assert run("new.json", "--compare", "other.json", "--across") == 0
    assert "\ndifferent machines: Abacus 9" in capsys.readouterr().out


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


def test_files_by_their_place_and_a_strangers_beside(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = tiny_model()
    del theirs.metadata_props[:]
    onnx.save(theirs, folder / "theirs.onnx")
    onnx.save(tiny_model(precision="fp16"), folder / "g.fp16.onnx")
    files = ("g.onnx", "g.fp16.onnx", "theirs.onnx", "--model", "g.onnx")
    outputs = ("--format", "csv", "--json", "speed.json", "--baseline", "theirs.onnx")
    assert run(*files, "--batch", "2", *QUICK, *outputs) == 0
    captured = capsys.readouterr()
    first, *rows = csv.DictReader(io.StringIO(captured.out))
    assert [first["name"], *(row["name"] for row in rows)] == ["g", "ganport fp16", "theirs"]
    assert [row["pixels_max_lsb"] for row in rows] == ["0", "0"]
    assert float(rows[1]["ratio"]) == 1.0
    assert "\n theirs " in captured.err, "the table is for the person"
    assert "theirs.onnx has no gan.* metadata; assumed: " in captured.err
    made = json.loads((folder / "speed.json").read_text())
    assert made["baseline"] == "theirs.onnx"
    assert [model["ours"] for model in made["models"]] == [True, True, False]
    assert run("speed.json", "--baseline", "ganport fp16", "--format", "markdown", "--quiet") == 0
    shown = capsys.readouterr()
    assert "\n| batch 2 | theirs | cpu ×" in shown.out
    assert all(line.startswith("warning: ") for line in shown.err.splitlines()), "no notes"
    assert run("speed.json", "theirs.onnx") == 2
    assert "theirs.onnx is for measuring" in capsys.readouterr().err


def test_what_a_strangers_file_does_not_say(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(DEFAULT_MODEL, folder / "classes.onnx")
    theirs = onnx.load(DEFAULT_MODEL)
    del theirs.metadata_props[:]
    onnx.save(theirs, folder / "theirs.onnx")
    files = ("classes.onnx", "theirs.onnx", "--batch", "2", *QUICK)
    assert run(*files) == 2
    refused = capsys.readouterr().err
    assert "theirs.onnx does not show how many classes its input label has" in refused
    assert "hint: --classes 10 for ten; or gan-export adopt theirs.onnx makes a copy that says it" in refused
    assert run(*files, "--classes", "10") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[lines.index("batch 2") + 1 :][:2]] == ["classes", "theirs"]
    assert run(*files, "--classes", "4") == 2
    assert "they are different generators" in capsys.readouterr().err
    assert run(*files, "--value-range", "dark") == 2
    assert run("classes.onnx", *QUICK, "--classes", "10") == 2
    assert "classes.onnx says what it is, so --classes has no place" in capsys.readouterr().err


def test_fail_if_slower(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("g.onnx", "--batch", "1", *QUICK, "--json", "now.json") == 0
    record = json.loads((folder / "now.json").read_text())
    for name, factor in (("slow", 0.01), ("fast", 100)):
        made = copy.deepcopy(record)
        row = made["rows"][0]
        for key in ("images_per_s", "images_per_s_low", "images_per_s_high"):
            row[key] *= factor
        for window in row["windows"]:
            window["images_per_s"] *= factor
        (folder / f"{name}.json").write_text(json.dumps(made))
    capsys.readouterr()
    assert run("now.json", "--compare", "slow.json", "--fail-if-slower", "10%") == 0
    assert " faster\n" in capsys.readouterr().out
    assert run("now.json", "--compare", "fast.json", "--fail-if-slower", "10") == 1
    captured = capsys.readouterr()
    assert " slower\n" in captured.out, "what changed is shown all the same"
    assert "error: more than 10 % slower than before: ganport, cpu ×" in captured.err
    assert "or allow more with --fail-if-slower" in captured.err
    assert run("now.json", "--baseline", "ganport", "--fail-if-slower", "10") == 1
    assert "error: --fail-if-slower: no row can be compared with the baseline ganport" in capsys.readouterr().err
    assert run("now.json", "--batch", "1", "--seconds", "2") == 2
    assert "now.json is a record, which is shown again; --batch is for measuring" in capsys.readouterr().err


def test_providers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list-providers") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cpu", "ok", "onnxruntime"] in [line[:3] for line in lines]
    assert run("--list-providers", "--format", "json") == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert set(found) == set(PROVIDERS)
    assert found["cpu"]["works"]
    assert all(each["note"] for each in found.values())


def test_a_provider_that_does_not_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = gan_serve.load

    def load(provider: str = "auto") -> Any:
        if provider == "cuda":
            raise GanportError("no driver", hint="get one")
        return real(provider=provider)

    monkeypatch.setattr("gan_serve.load", load)
    monkeypatch.setattr("gan_bench.cli.providers.available", lambda: ("cpu", "cuda"))
    assert run("--list-providers") == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "cuda FAIL no driver" in lines
    assert [line for line in lines if line.startswith("tensorrt not installed ")]


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
    assert run("--help") == 0
    shown = capsys.readouterr().out
    options = "model ckpt peers provider batch threads tf32 end-to-end roofline share-process json plot compare across"
    options += " baseline fail-if-slower format list-providers trust-script quiet version"
    for option in (*options.split(), "seconds", "rounds", "quick", "timeout"):
        assert f"--{option}" in shown
    assert shown.count("  gan-bench g.onnx") == 6
    panels = [line for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert panels == [
        "Arguments:", "What is measured:", "How it is measured:", "Comparison:", "Output:",
        f"{commands.UNSAID}:", "General:"
    ]  # fmt: skip
