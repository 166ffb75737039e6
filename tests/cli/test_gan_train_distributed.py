"""gan-train as several processes: the losses of one, one log, one voice, no hang; and on with any number of them."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_trainer.state import load_networks, read_last

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]

TINY = ("--width", "2", "--z-dim", "4", "--device", "cpu", "--report-every", "1", "--sample-every", "100")
DATA = ("--data", "images", "--size", "28")
RECIPES = {
    # Batches of 6 or 4 of 22 images: the last ones of an epoch are smaller, and do not divide evenly.
    "joined": ("--batch-size", "6"),
    "two backward passes": ("--preset", "dcgan64", "--channels", "1", "--batch-size", "6"),
    "one of two passes": ("--preset", "gan-basic", "--batch-size", "6"),
    "gradient penalty": ("--preset", "wgan-gp", "--batch-size", "6"),
    "penalties, classes, augmentation": (
        "--preset",
        "r3gan",
        "--conditional",
        "--augment",
        "auto",
        "--batch-size",
        "6",
    ),
    "average": ("--preset", "mlp-mnist", "--batch-size", "4", "--ema"),
}
WORLDS = {"joined": 3, "two backward passes": 3, "one of two passes": 2, "average": 3}
WORLDS |= {"gradient penalty": 2, "penalties, classes, augmentation": 3}
RESUMED = {(0, 2): "joined", (2, 0): "gradient penalty", (2, 3): "penalties, classes, augmentation"}
"""Processes before, processes after: what is trained."""

NUMBERS = ("loss_d", "loss_g", "d_x", "d_g_z1", "d_g_z2")


@dataclasses.dataclass
class Done:
    """How the processes of a job ended."""

    codes: list[int]
    out: str
    err: str


def environment(folder: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")},
        "GANPORT_CACHE": str(folder / "cache"), "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip


def make_images(folder: Path, seed: int = 0) -> None:
    for name in "ab":
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(22):
        Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)).save(folder / "ab"[number % 2] / f"{number}.png")


def train(*args: str, world: int = 2, **more: Any) -> dict[str, Any]:
    return {"args": [*args], "world": world, **more}


def jobs() -> dict[str, dict[str, Any]]:
    """In order: some go on with the runs of those before."""
    all_jobs: dict[str, dict[str, Any]] = {}
    for name, options in RECIPES.items():
        options = (*TINY, *DATA, *options, "--steps", "10")
        all_jobs[f"{name}, one"] = train(*options, "--out", f"{name}-one", world=0)
        all_jobs[f"{name}, several"] = train(*options, "--out", f"{name}-several", world=WORLDS[name])
    for (before, after), name in RESUMED.items():
        start = (*TINY, *DATA, *RECIPES[name], "--steps", "5", "--out", f"resume-{before}-{after}")
        all_jobs[f"start on {before} for {after}"] = train(*start, world=before)
        again = ("--resume", "--steps", "10", "--out", f"resume-{before}-{after}")
        all_jobs[f"go on with {after} after {before}"] = train(*again, world=after)
    long = (*TINY, *DATA, "--steps", "100000")
    for rank in (0, 1):
        out = f"killed-{rank}"
        all_jobs[out] = train(*long, "--out", out, signal=[signal.SIGKILL, rank, f"{out}/log.jsonl"])
        all_jobs[f"on after {out}"] = train("--resume", "--out", out, "--minutes", "0.001", "--sample-every", "1000000")
        out = f"stopped-{rank}"
        all_jobs[out] = train(*long, "--out", out, signal=[signal.SIGTERM, rank, f"{out}/log.jsonl"])
    all_jobs["minutes"] = train(*TINY, *DATA, "--minutes", "0.01", "--out", "minutes", "--json")
    all_jobs["diverged"] = train(*TINY, *DATA, "--lr", "1e30", "--out", "diverged")
    all_jobs["no such data"] = train(*TINY, "--data", "nowhere", "--out", "x")
    all_jobs["no such option"] = train("--no-such-option")
    all_jobs["ngpu"] = train(*TINY, *DATA, "--ngpu", "2", "--out", "x")
    all_jobs["compile"] = train(*TINY, *DATA, "--compile", "on", "--out", "x")
    all_jobs["cuda"] = train(*TINY[:4], *DATA, "--device", "cuda:1", "--out", "x")
    all_jobs["taken"] = train(*TINY, *DATA, "--out", "minutes")
    all_jobs["nothing to resume"] = train("--resume", "--out", "nowhere")
    all_jobs["other images"] = train(*TINY, *DATA, "--out", "y", cwd=[".", "elsewhere"])
    all_jobs["bfloat16"] = train(
        *TINY, *DATA, *RECIPES["gradient penalty"], "--amp", "bf16", "--steps", "5", "--out", "bf16"
    )
    all_jobs["eval"] = train("eval", "--ckpt", "minutes/g.pt")
    all_jobs["report"] = train("report", "minutes", "--out", "x.html")
    all_jobs["half an environment"] = train(*TINY, *DATA, "--out", "x", world=0, env={"RANK": "0"})
    all_jobs["help"] = train("--help")
    return all_jobs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    make_images(folder / "images")
    make_images(folder / "elsewhere/images", seed=1)
    return folder


@pytest.fixture(scope="module")
def done(folder: Path) -> dict[str, Done]:
    """How each of `jobs` ended; they share one import of torch."""
    finished = subprocess.run(
        (sys.executable, "-m", "cli.ranks"), input=json.dumps([*jobs().values()]),
        cwd=folder, env=environment(folder), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    results = {}
    for name, processes in zip(jobs(), json.loads(finished.stdout), strict=True):
        codes, outs, errs = zip(*processes, strict=True)
        results[name] = Done([*codes], "".join(outs), "".join(errs))
    return results


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def assert_same_curve(first: Path, second: Path, tolerance: float = 5e-3) -> None:
    one, several = log(first), log(second)
    assert [line["step"] for line in several] == [line["step"] for line in one] == [*range(1, len(one) + 1)]
    assert [line["images"] for line in several] == [line["images"] for line in one]
    for a, b in zip(one, several, strict=True):
        assert [b[name] for name in NUMBERS] == pytest.approx([a[name] for name in NUMBERS], abs=tolerance), a["step"]


def assert_one_error(job: Done, codes: list[int], start: str) -> None:
    lines = [line for line in job.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, job.err
    assert lines[0].startswith(f"error: {start}"), job.err
    assert job.err.count("hint: ") == 1
    assert "Traceback" not in job.err
    assert (job.codes, job.out) == (codes, "")


@pytest.mark.parametrize("name", RECIPES)
def test_the_losses_are_those_of_one_process(name: str, done: dict[str, Done], folder: Path) -> None:
    job = done[f"{name}, several"]
    assert job.codes == [0] * WORLDS[name], job.err
    assert job.out == f"{name}-several/g.pt\n", "told once"
    assert job.err.count("[1/") == done[f"{name}, one"].err.count("[1/"), "each report once"
    assert f"{WORLDS[name]} processes on cpu" in job.err
    one, several = folder / f"{name}-one", folder / f"{name}-several"
    assert_same_curve(one, several)
    names = [sorted(str(file.relative_to(run)) for file in run.rglob("*")) for run in (one, several)]
    assert names[0] == names[1]
    (_, a), (_, b) = read_last(one / "last.pt"), read_last(several / "last.pt")
    assert torch.equal(a["z_rng"], b["z_rng"])
    assert torch.equal(a["torch_rng"], b["torch_rng"])
    for network in ("generator", "discriminator", "ema"):
        for tensor, value in (a[network] or {}).items():
            torch.testing.assert_close(value, b[network][tensor], rtol=0.05, atol=5e-3, msg=f"{network} {tensor}")


@pytest.mark.parametrize(("before", "after"), RESUMED)
def test_resumed_on_another_number_of_processes(before: int, after: int, done: dict[str, Done], folder: Path) -> None:
    for job in (done[f"start on {before} for {after}"], done[f"go on with {after} after {before}"]):
        assert set(job.codes) == {0}, job.err
    assert "from step 5 to 10 steps" in job.err
    assert_same_curve(folder / f"{RESUMED[before, after]}-one", folder / f"resume-{before}-{after}")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_job_which_resumes(rank: int, done: dict[str, Done], folder: Path) -> None:
    codes = [1, 1]
    codes[rank] = -signal.SIGKILL
    job = done[f"killed-{rank}"]
    assert_one_error(job, codes, "another process of the job is gone (connection ")
    assert "--resume" in job.err
    again = done[f"on after killed-{rank}"]
    assert again.codes == [0, 0], again.err
    steps = [line["step"] for line in log(folder / f"killed-{rank}")]
    assert steps == [*range(1, len(steps) + 1)]
    load_networks(folder / f"killed-{rank}/last.pt")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_stops_all_after_the_same_step(rank: int, done: dict[str, Done], folder: Path) -> None:
    job = done[f"stopped-{rank}"]
    assert (job.codes, job.out) == ([130, 130], ""), job.err
    _, content = read_last(folder / f"stopped-{rank}/last.pt")
    assert job.err.count(f"interrupted at step {content['step']}, saved\n") == 1
    assert job.err.count("interrupted") == 1


def test_process_0_says_when_the_time_is_over(done: dict[str, Done], folder: Path) -> None:
    job = done["minutes"]
    assert job.codes == [0, 0], job.err
    outcome = json.loads(job.out)
    assert outcome["minutes"] >= 0.01
    assert log(folder / "minutes")[-1]["step"] == outcome["step"] > 0


@pytest.mark.parametrize(
    ("name", "codes", "start"),
    [
        ("diverged", [1, 1], "the training diverged: "),
        ("no such data", [2, 1], "no data set and no folder is called nowhere"),
        ("no such option", [2, 2], "No such option: --no-such-option"),
        ("ngpu", [2, 2], "--ngpu 2 shares a batch inside one process, torchrun among several"),
        ("compile", [2, 2], "--compile on does not go with torchrun"),
        ("cuda", [2, 2], "no CUDA device"),
        ("taken", [2, 1], "minutes already holds a run"),
        ("nothing to resume", [2, 1], "nothing to resume: no folder nowhere"),
        ("other images", [1, 2], "process 1 reads other images from images than process 0"),
        ("eval", [2, 2], "gan-train eval runs in one process, this is one of torchrun's"),
        ("report", [2, 2], "gan-train report runs in one process, this is one of torchrun's"),
        ("half an environment", [2], "expected the environment of torchrun: "),
    ],
)  # fmt: skip
def test_an_error_is_told_once(name: str, codes: list[int], start: str, done: dict[str, Done]) -> None:
    assert_one_error(done[name], codes, start)


def test_bfloat16_goes_with_penalties(done: dict[str, Done], folder: Path) -> None:
    """The double backward pass under autocast, in DDP: near float32's losses, which differ by more from each other."""
    job = done["bfloat16"]
    assert job.codes == [0, 0], job.err
    assert "2 processes on cpu, bfloat16, channels-last" in job.err
    for exact, rounded in zip(log(folder / "gradient penalty-one"), log(folder / "bf16"), strict=False):
        assert [rounded[name] for name in NUMBERS] == pytest.approx([exact[name] for name in NUMBERS], abs=0.02)


def test_what_is_refused_leaves_nothing(done: dict[str, Done], folder: Path) -> None:
    assert done
    assert not [*folder.glob("x*"), *folder.glob("y*"), *(folder / "elsewhere").glob("[xy]*")]


def test_help_is_printed_once(done: dict[str, Done]) -> None:
    assert done["help"].codes == [0, 0]
    assert done["help"].out.count("Usage: ") == 1


def torchrun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *arguments)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        command, cwd=folder, env={**environment(folder), "PATH": path}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def test_torchrun(done: dict[str, Done], folder: Path) -> None:
    assert done["joined, one"].codes == [0]
    options = (*TINY, *DATA, *RECIPES["joined"], "--steps", "10", "--out", "torchrun")
    with torchrun(folder, "--standalone", "-m", "gan_trainer.cli", *options) as job:
        out, err = job.communicate(timeout=150)
    assert (job.returncode, out) == (0, "torchrun/g.pt\n"), err
    assert_same_curve(folder / "joined-one", folder / "torchrun")


def test_torchrun_restarts_a_killed_job_which_goes_on(folder: Path) -> None:
    """--max-restarts 1, killed twice: the message, the run resumed, then the end."""
    arguments = ("--standalone", "--max-restarts", "1", "--no-python", "gan-train", *TINY, *DATA, "--steps", "100000")
    run = folder / "runs/images-dcgan28"
    with torchrun(folder, *arguments) as job:
        reached = 0
        killed: set[int] = set()
        for _ in range(2):
            deadline = time.monotonic() + 150
            while last_step(run) < reached + 3:
                assert time.monotonic() < deadline
                assert job.poll() is None, job.communicate()
                time.sleep(0.02)
            workers = children(job.pid) - killed
            killed |= workers
            os.kill(max(workers), signal.SIGKILL)
            time.sleep(0.5)  # what the survivor still writes
            reached = last_step(run)
        _, err = job.communicate(timeout=150)
    assert job.returncode == 1
    assert err.count("error: another process of the job is gone (") == 2, err
    assert "from step " in err, "resumed by itself"
    steps = [line["step"] for line in log(run)]
    assert steps == [*range(1, len(steps) + 1)]


def last_step(run: Path) -> int:
    return len((run / "log.jsonl").read_text().splitlines()) if (run / "log.jsonl").exists() else 0


def children(pid: int) -> set[int]:
    listed = subprocess.run(("pgrep", "-P", str(pid)), capture_output=True, text=True, check=False).stdout
    return {int(line) for line in listed.split()}
