"""Trains the same run under kill -9 at many moments; run by test_gan_train_signals.py as a process of its own.

    python -m cli.kill_moments FOLDER KILLS SEED

What it needs is imported once; each attempt is a fork that does what `gan-train --resume` does (or starts the run),
killed after a random time, often while it writes. After every kill each file must load, and the step never goes back.
Then the run goes on to its end, and must be, bit for bit, one that was never killed (FOLDER-whole).
Prints one JSON line: {"steps": the step after each kill}. SEED gives the same moments again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from cli.forked import make_ready
from gan_serve.terminal import console
from gan_trainer.cli import NAME, app
from gan_trainer.data import open_dataset
from gan_trainer.networks.generator import load_generator
from gan_trainer.state import load_networks, read_last

REPORT_EVERY = 3
OPTIONS = (
    "--width", "2", "--z-dim", "4", "--batch-size", "8", "--device", "cpu", "--steps", "100000",
    "--report-every", str(REPORT_EVERY), "--sample-every", "4",
)  # fmt: skip


def attempt(folder: Path, seconds: float | None) -> float:
    """Goes on with the run in `folder` in a fork, killed after `seconds` (None: at the first report).

    Returns how long it lived.
    """
    options = ("--resume",) if (folder / "last.pt").exists() else OPTIONS
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        console.run(app, NAME, (*options, "--out", str(folder)))
    began = time.monotonic()
    while time.monotonic() < began + seconds if seconds is not None else not (folder / "log.jsonl").exists():
        time.sleep(0.005)
        assert time.monotonic() < began + 60, "no report within a minute"
    lived = time.monotonic() - began
    assert os.waitpid(child, os.WNOHANG) == (0, 0), "the training ended by itself"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return lived


def finish(folder: Path, steps: int) -> None:
    """Goes on with the run in `folder`, or starts it, up to `steps`."""
    options = ("--resume",) if (folder / "last.pt").exists() else OPTIONS
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        console.run(app, NAME, (*options, "--steps", str(steps), "--out", str(folder)))
    _, status = os.waitpid(child, 0)
    assert status == 0, f"did not get to step {steps}"


def compare(folder: Path, whole: Path) -> None:
    """All that the two runs hold is the same but for times."""
    files = [{str(file.relative_to(run)) for file in run.rglob("*")} for run in (folder, whole)]
    assert files[0] == files[1]
    for file in files[0]:
        if file.endswith(".png") or file == "config.json":
            assert (folder / file).read_bytes() == (whole / file).read_bytes(), file
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (folder, whole)]
    for a, b in zip(*logs, strict=True):
        assert {**a, "images_per_s": 0, "minutes": 0} == {**b, "images_per_s": 0, "minutes": 0}
    states = [read_last(run / "last.pt")[1] for run in (folder, whole)]
    weights = [load_generator(run / "g.pt").weights for run in (folder, whole)]
    for pair in (states, weights):
        a, b = (leaves(content, "") for content in pair)
        assert a.keys() == b.keys()
        for name, value in a.items():
            same = torch.equal(value, b[name]) if isinstance(value, torch.Tensor) else value == b[name]
            assert same or name == "/seconds", name


def leaves(value: Any, path: str) -> dict[str, Any]:
    """Every tensor, number and text of a nested structure under its path."""
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in leaves(item, f"{path}/{name}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for index, item in enumerate(value) for k, v in leaves(item, f"{path}/{index}").items()}
    return {path: value}


def check(folder: Path) -> int:
    """Every file of the run loads; returns the step that a resumed run would start from."""
    if not (folder / "last.pt").exists():
        assert not (folder / "g.pt").exists()
        return 0
    _, content = read_last(folder / "last.pt")
    load_networks(folder / "last.pt")
    step = int(content["step"])
    if (folder / "g.pt").exists():
        checkpoint = load_generator(folder / "g.pt")
        assert all(tensor.isfinite().all() for tensor in checkpoint.weights.values())
        assert step - checkpoint.training["steps"] in (0, REPORT_EVERY), "g.pt is at most one report behind"
    else:
        assert step in (0, REPORT_EVERY)
    for picture in folder.rglob("*"):
        if picture.suffix in (".png", ".webp") and not picture.name.startswith("."):
            with Image.open(picture) as image:
                image.load()
    log = (folder / "log.jsonl").read_text().split("\n") if (folder / "log.jsonl").exists() else [""]
    assert log[-1] == "", "no half line"
    steps = [json.loads(line)["step"] for line in log[:-1]]
    assert steps == list(range(REPORT_EVERY, REPORT_EVERY * len(steps) + 1, REPORT_EVERY))
    assert step <= REPORT_EVERY * len(steps) <= step + REPORT_EVERY, "at most the steps since the last report are lost"
    return step


def main() -> None:
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    make_ready()
    rng = random.Random(seed)
    open_dataset("digits")  # decoded and cached before the clock runs
    # The first attempt tells how long this machine takes to the first report; the moments follow from that.
    first = attempt(folder, None)
    steps = [check(folder)]
    for _ in range(kills):
        attempt(folder, rng.uniform(0.1, 1.8) * first)
        steps.append(check(folder))
        assert steps[-1] >= steps[-2]
    whole = folder.with_name(f"{folder.name}-whole")
    for run in (folder, whole):
        finish(run, steps[-1] + 2)
    compare(folder, whole)
    print(json.dumps({"steps": steps}))


if __name__ == "__main__":
    main()
