"""What the tests of the commands share."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_export import cli
from gan_serve.gen import cli as gen_cli
from gan_serve.terminal import console
from gan_trainer.cli import NAME as TRAIN
from gan_trainer.cli import app as train_app
from serve import onnx_files

Run = Callable[..., tuple[int, str, str]]


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Root may read and write everywhere, so that a test as root has to be somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@contextlib.contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """As on a full disk: no file can grow beyond this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs gan-export in this process: (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            console.run(cli.app, cli.NAME, [str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return int(done.value.code or 0), printed.out, printed.err

    return call


TINY = ("--width", "2", "--z-dim", "4", "--batch-size", "8", "--device", "cpu")


class Result:
    """`code`, `out` (stdout) and `err` (stderr) of a command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


GanTrain = Callable[..., Result]


@pytest.fixture
def gan_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> GanTrain:
    """Runs the command in tmp_path, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANPORT_CACHE", str(tmp_path / "cache"))

    def run(*args: str) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            console.run(train_app, TRAIN, args)
        out, err = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return Result(exit_.value.code, out, err)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 12 RGB pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


Gen = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_files.save(tmp_path_factory.mktemp("gen") / "g.onnx")


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_files.save(tmp_path_factory.mktemp("gen") / "c.onnx", onnx_files.classes())


@pytest.fixture
def gen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Gen:
    """Runs gan-gen in an empty folder: (exit code, stdout, stderr). Bytes that are no text are surrogates in stdout."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            console.run(gen_cli.app, "gan-gen", [str(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        return int(str(done.value.code)), out.decode(errors="surrogateescape"), err.decode()

    return run
