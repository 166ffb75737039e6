"""Files whose names, keys and classes are written to fool a terminal: every command shows them as plain text."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cli.conftest import GanTrain, Gen, Run
from gan_core.contract import Contract
from gan_core.printable import printable
from serve import onnx_files

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("drafted_once")]

EVIL = "cat\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\u2028\nerror: fake"
NAMES = [EVIL.replace("\u2028", ""), os.fsdecode(b"caf\xe9\xff\x9b")]


def evil_contract() -> Contract:
    return onnx_files.contract(
        image=(1, 8, 8),
        name=EVIL,
        n_classes=3,
        class_names=(EVIL, "\udcff", "dog"),
        source={"file": EVIL, EVIL: [EVIL]},
        training={"data": {"name": EVIL}},
        passes=(EVIL,),
        assumptions=(EVIL,),
    )


def check_plain(*texts: str) -> None:
    for text in texts:
        assert printable(text, keep="\n") == text
        assert not any(line.startswith("error: fake") for line in text.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_drawing(gen: Gen, tmp_path: Path, name: str) -> None:
    file = f"{name}.onnx"
    onnx_files.save(tmp_path / file, evil_contract())
    for options, code in (
        ((), 0),
        (("--json",), 0),
        (("--info",), 0),
        (("--info", "--json"), 0),
        (("--selftest",), 0),
        (("--selftest", "--json"), 0),
        (("--by-class", "--n", "1"), 0),
        (("--class", "horse"), 2),
        (("--class", EVIL, "--out", "one.png", "--n", "1"), 0),
        (("--out", f"{name}/", "--n", "2"), 0),
        (("--out", f"{name}.tif"), 2),
    ):
        done, out, err = gen("--model", file, *options)
        assert done == code, err
        check_plain(out, err)
        if "--json" in options:
            about = json.loads(out)
            assert file in (about.get("file"), about.get("model"))
    with Image.open(tmp_path / "one.png") as opened:
        assert opened.info["gan.classes"] == "0"
    with Image.open(tmp_path / name / "seed000000.png") as opened:
        drawn = {key: value for key, value in opened.info.items() if isinstance(value, str)}
    check_plain(*drawn.values())
    assert drawn["gan.class"].startswith(r"0 cat\x1b]0;owned\x07\x1b[2J\u009b31m\u202egnp\u2028\nerror: fake")


def test_a_strangers_graph(gen: Gen, tmp_path: Path) -> None:
    proto = onnx_files.foreign(["batch", 7], ["batch", 3, 6, 6])
    text = proto.SerializeToString().replace(b"noise", b"\x1b[2Jx")
    (tmp_path / "f.onnx").write_bytes(text)
    for options in ((), ("--info",)):
        code, out, err = gen("--model", "f.onnx", *options)
        assert code == 0
        check_plain(out, err)
        assert r"\x1b[2Jx is a latent" in out + err


@pytest.mark.parametrize("name", NAMES)
def test_exporting(run: Run, tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    folder = tmp_path / name
    folder.mkdir()
    ckpt = folder / f"{name}.pth"
    first, last = nn.Linear(8, 32), nn.Linear(32, 784)
    weights = {f"{EVIL}1.{k}": v for k, v in first.state_dict().items()}
    weights |= {f"{EVIL}2.{k}": v for k, v in last.state_dict().items()}
    torch.save({EVIL: weights, "epoch": EVIL}, ckpt)
    code, out, err = run("inspect", "--ckpt", ckpt)
    assert code == 0, err
    check_plain(out, err)
    code, out, err = run("inspect", "--ckpt", ckpt, "--json")
    check_plain(out, err)
    assert json.loads(out)["file"] == str(ckpt)
    assert json.loads(out)["key"] == printable(EVIL)
    code, out, err = run("onnx", "--ckpt", ckpt)
    assert code == 2
    check_plain(out, err)
    report = folder / f"{name}.json"
    code, out, err = run("onnx", "--ckpt", ckpt, "--accept", "--report", report)
    assert code == 0, err
    check_plain(out, err)
    assert json.loads(report.read_text("utf-8"))["file"] == f"{name}.onnx"
    model = ckpt.with_suffix(".onnx")
    assert model.is_file()
    code, out, err = run("verify", "--model", model, "--ckpt", ckpt, "--json")
    assert code == 0, err
    check_plain(out, err)


def test_what_cannot_be_exported(run: Run, tmp_path: Path) -> None:
    strange = tmp_path / "strange.pth"
    torch.save({f"{EVIL}.lambda_q": torch.ones(3), f"{EVIL}.weight": torch.ones(2, 2, 2)}, strange)
    twice = tmp_path / "twice.pth"
    torch.save({EVIL: nn.Linear(4, 784).state_dict(), f"{EVIL}2": nn.Linear(4, 784).state_dict()}, twice)
    text = tmp_path / "text.pth"
    text.write_bytes(b"c" + EVIL.encode().replace(b"\n", b"") + b"\nX\n.")
    for path, options in ((strange, ()), (twice, ()), (text, ()), (twice, ("--key", EVIL + "3"))):
        for command in ("inspect", "onnx"):
            code, out, err = run(command, "--ckpt", path, *options)
            assert code == 2
            check_plain(out, err)


@pytest.mark.parametrize("name", NAMES)
def test_training_and_its_report(gan_train: GanTrain, tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    for kind in (f"{name}\t1", "dog"):
        (tmp_path / name / kind).mkdir(parents=True)
        for index in range(4):
            picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            picture.save(tmp_path / name / kind / f"{index}.png")
    (tmp_path / name / "dog" / f"{name}.png").write_bytes(b"no picture")
    run_folder = f"runs/{name}"
    options = ("--data", name, "--size", "28", "--steps", "1", "--conditional", "--width", "2")
    done = gan_train(*options, "--batch-size", "4", "--device", "cpu", "--out", run_folder)
    assert done.code == 0, done.err
    check_plain(done.out, done.err)
    done = gan_train("report", run_folder)
    assert done.code == 0, done.err
    check_plain(done.out, done.err)
    page = next((tmp_path / "runs" / name).glob("*.html")).read_text("utf-8")
    check_plain(page.split("<script>")[0])
    done = gan_train("--resume", "--out", run_folder, "--steps", "2", "--json")
    assert done.code == 0, done.err
    check_plain(done.out, done.err)
    assert json.loads(done.out)["run"] == run_folder
