"""gan-gen opens the sessions that it needs; and latents that come through a pipe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import Gen
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.runtime.runtimes import DEFAULT_MODEL

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("arguments", "threads"),
    [
        (("--n", 1), 3),
        (("--seeds", "7"), 3),
        (("--latents", "one.npy"), 3),
        (("--latents", "flat.npy"), 3),
        (("--selftest",), 3),
        (("--info",), 3),
        (("--n", 2), 1),
        (("--seeds", "7,9"), 1),
        (("--latents", "two.npy"), 1),
        (("--by-class", "--n", 1), 1),
        ((), 1),
    ],
    ids=str,
)
def test_one_session_is_enough(arguments: tuple[object, ...], threads: int, gen: Gen, opened: list[int]) -> None:
    z_dim = OnnxGenerator(DEFAULT_MODEL, "cpu", 1).contract.interface.z_dim
    opened.clear()
    for name, shape in (("one", (1, z_dim)), ("flat", (z_dim,)), ("two", (2, z_dim))):
        np.save(f"{name}.npy", np.zeros(shape, np.float32))
    code, _, err = gen("--threads", 3, "--provider", "cpu", *arguments)
    assert code == 0, err
    assert opened == [threads]


# ── latents through a pipe ───────────────────────────────────────────────────────────────────────────────────────────

START = f"{sys.executable} -c 'from gan_serve.gen.cli import main; main()' --provider cpu"


@pytest.fixture
def z(model: Path, tmp_path: Path) -> Path:
    z_dim = OnnxGenerator(model, "cpu", 1).contract.interface.z_dim
    np.save(tmp_path / "z.npy", np.random.default_rng(0).standard_normal((3, z_dim)).astype(np.float32))
    return tmp_path / "z.npy"


@pytest.mark.parametrize(
    "line",
    ["cat z.npy | {gen} --latents /dev/stdin", "{gen} --latents /dev/stdin < z.npy", "{gen} --latents <(cat z.npy)"],
)
def test_latents_through_a_pipe(line: str, model: Path, z: Path) -> None:
    gen = f"{START} --model {model} --out -"
    seen, expected = (
        subprocess.run(
            ["bash", "-c", text.format(gen=gen)], cwd=z.parent, capture_output=True, check=True, timeout=60
        ).stdout
        for text in (line, "{gen} --latents z.npy")
    )
    assert seen[:4] == b"\x89PNG"
    # The name of the file stands in the PNG's text: only the pixels are the same.
    assert seen[seen.index(b"IDAT") :] == expected[expected.index(b"IDAT") :]


def test_a_pipe_that_nobody_writes_to_is_refused(gen: Gen) -> None:
    os.mkfifo("z.npy")
    code, _, err = gen("--latents", "z.npy")
    assert code == 2
    assert "error: z.npy is not a regular file, expected a latents file\nhint: save the file to a disk first\n" in err


@pytest.mark.parametrize("sent", ["", "no numbers"])
def test_a_pipe_of_something_else(sent: str, model: Path, tmp_path: Path) -> None:
    line = f"printf '{sent}' | {START} --model {model} --latents /dev/stdin"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: /dev/stdin is not a .npy file of numbers\nhint: ")


def test_a_pipe_without_an_end_is_cut(model: Path, tmp_path: Path) -> None:
    limit = "from gan_core.files import model_file; model_file.MAX_PIPED_BYTES = 1 << 20"
    code = f"{limit}; from gan_serve.gen.cli import main; main()"
    line = f"cat /dev/zero | {sys.executable} -c '{code}' --model {model} --latents /dev/stdin"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: /dev/stdin sends more than 1 MiB")
