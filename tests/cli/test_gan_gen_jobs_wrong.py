"""What goes wrong with gan-gen's jobs: options, folders, models, disks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Gen, nobody
from cli.sharding import FORMATS, content, make
from gan_core.errors import GanportError
from gan_core.installation import install
from gan_serve.gen.jobs import Maker
from gan_serve.gen.run import choose_device
from gan_serve.runtime.generator import Generator


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--format zip --out s/", "--format is one of tar, parquet, npy, folder, got 'zip'"),
        ("--format tar", "a job in shards needs a folder"),
        ("--format tar --out -", "a job in shards needs a folder"),
        ("--format tar --out ://x", "cannot open ://x: no protocol"),
        ("--format tar --out s.tar", "--format tar makes a folder of shards, got s.tar"),
        ("--format tar --out s/ --walk 3", "a walk is one file"),
        ("--format tar --out s/ --cols 3", "--cols is for a grid"),
        ("--format tar --out s/ --shard 2/2", "--shard is PART/PARTS, with parts from 0, got 2/2"),
        ("--format tar --out s/ --shard 1", "--shard is PART/PARTS"),
        ("--format tar --out s/ --shard -1/2", "--shard is PART/PARTS"),
        ("--format tar --out s/ --shard 1/x", "--shard is PART/PARTS"),
        ("--format tar --out s/ --shard-size 0", "--shard-size must be at least 1, got 0"),
        ("--format tar --out s/ --engine spark", "--engine is one of local, ray, got 'spark'"),
        ("--format tar --out s/ --workers 2", "--workers is for --engine ray"),
        ("--format tar --out s/ --ray-address x:1", "--ray-address is for --engine ray"),
        ("--format tar --out s/ --engine ray --workers 0", "--workers must be at least 1, got 0"),
        ("--format tar --out s/ --engine ray --shard 0/2", "--shard and --engine ray both divide the job"),
        ("--shard 0/2 --out s/", "--shard is for a job in shards"),
        ("--shard-size 5 --out s/", "--shard-size is for a job in shards"),
        ("--out nowhere://x/", "nowhere://x/ takes a job in shards"),
        ("--format tar --out nowhere://x/", "cannot open nowhere://x/"),
        ("--overwrite --out x.png", "--overwrite is for folders"),
        ("--info --format tar", "--info writes no images, so --format has no meaning"),
        ("--out s/ --format tar --n 100000000000000", "10,000,000,000 shards, the most are 1,000,000"),
        ("--out s/ --format npy --n 100000000000000 --shard-size 100000000000", "100000000000000 images take about"),
    ],
)
def test_wrong_options(gen: Gen, model: Path, tmp_path: Path, arguments: str, message: str) -> None:
    code, out, err = gen(model, *arguments.split())
    assert (code, out) == (2, ""), err
    error = next(line for line in err.splitlines() if line.startswith("error: "))
    assert message in error
    assert "\nhint: " in err
    assert not list(tmp_path.glob("s/shard*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--verify", "which shards?"),
        ("--finish --out nowhere", "nowhere has no job.json"),
        ("--verify --out there", "there has no job.json"),
        ("--verify --out s --n 5", "--verify or --finish writes no images, so --n has no meaning"),
        ("--verify --out s --format tar", "--verify or --finish writes no images, so --format has no meaning"),
        ("--finish --out s g.onnx", "need no model"),
    ],
)
def test_wrong_checks(gen: Gen, tmp_path: Path, arguments: str, message: str) -> None:
    (tmp_path / "there").mkdir()
    code, out, err = gen(*arguments.split())
    assert (code, out) == (2, ""), err
    assert message in err


def test_unfinished_jobs_are_not_finished(gen: Gen, model: Path, tmp_path: Path) -> None:
    make(gen, model, "tar", "s", "--shard", "0/3")
    code, _, err = gen("--finish", "--out", "s")
    assert code == 1
    assert err.startswith(
        "error: 2 of 3 shards of s are missing: shard-000001.tar, shard-000002.tar\nhint: run the job"
    )
    assert gen("--verify", "--out", "s")[0] == 1
    (tmp_path / "s/manifest.json").write_text('{"shards": []}')
    assert "has no manifest of this job" in gen("--verify", "--out", "s")[2]


def test_a_folder_that_is_not_ours_to_write(gen: Gen, model: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "g.onnx").write_bytes(model.read_bytes())
    tmp_path.chmod(0o755)
    with nobody():
        code, _, err = make(gen, Path("g.onnx"))
    assert code == 2
    assert "error: cannot write s: Permission denied\nhint: choose a folder you may write to" in err


@pytest.mark.parametrize("kind", FORMATS)
def test_no_room_for_a_shard(gen: Gen, model: Path, tmp_path: Path, kind: str, limited: Callable[[int], None]) -> None:
    make(gen, model, kind, "s", "--shard", "0/3")
    before = content(tmp_path / "s")
    limited(100)
    code, _, err = make(gen, model, kind)
    limited(-1)
    assert code == 2, err
    assert "error: no room to write s" in err
    assert "hint: free some disk space" in err
    assert content(tmp_path / "s") == before
    assert json.loads(make(gen, model, kind, "s", "--json")[1])["made"] == 2


@pytest.fixture
def limited() -> Iterator[Callable[[int], None]]:
    """Sets the most bytes that a file may have; -1: as before."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, before if size < 0 else (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_job_that_is_too_large_leaves_the_folder_to_others(gen: Gen, model: Path) -> None:
    code, _, err = gen(model, "--n", 10**11, "--shard-size", 10**8, "--out", "s/", "--format", "npy")
    assert (code, "100000000000 images take about" in err) == (2, True)
    assert make(gen, model)[0] == 0


def test_a_model_that_goes_during_the_job(
    gen: Gen, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.onnx"
    own.write_bytes(model.read_bytes())
    run = Maker.run

    def run_without(maker: Maker, generator: Generator, *rest: Any) -> None:
        own.unlink()
        run(maker, generator, *rest)

    monkeypatch.setattr(Maker, "run", run_without)
    assert make(gen, own, "tar", "ä ö/名 前")[0] == 0
    assert gen("--verify", "--out", "ä ö/名 前")[0] == 0


def test_a_model_that_has_gone(gen: Gen, model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    own.write_bytes(model.read_bytes())
    make(gen, own, "tar", "s", "--shard", "0/3")
    before = content(tmp_path / "s")
    own.unlink()
    assert "error: no model at" in make(gen, own)[2]
    assert content(tmp_path / "s") == before


def test_no_pyarrow(gen: Gen, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = make(gen, model, "parquet")
    assert (code, f"error: Parquet needs pyarrow, which is not installed\nhint: {install('parquet')}" in err) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    ("provider", "visible", "expected"),
    [
        ("cuda:1", None, ("cuda", "1")),
        ("tensorrt:0", "", ("tensorrt", "0")),
        ("cuda:1", "4,GPU-7", ("cuda", "GPU-7")),
        ("cuda", "3", ("cuda", "3")),
        ("cpu:1", None, ("cpu:1", None)),
        ("cuda:2", "4,5", None),
        ("cuda:x", None, None),
        ("cuda:", None, None),
        ("cuda:-1", None, None),
    ],
)
def test_a_gpu_by_its_number(provider: str, visible: str | None, expected: tuple[str, str | None] | None) -> None:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    if expected is None:
        with pytest.raises(GanportError, match="names no GPU"):
            choose_device(provider, environ)
    else:
        assert (choose_device(provider, environ), environ.get("CUDA_VISIBLE_DEVICES")) == expected
