"""gan-gen --format: shards that other readers read, the same bytes whoever makes them, and made only once."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from cli.conftest import Gen, nobody
from cli.documents import blocks, commands, execute
from cli.drawing import drawn, names, read, text_of
from gan_core.errors import GanportError
from gan_core.files.model_file import sha256_of
from gan_core.installation import install
from gan_serve.gen.job_options import JobOptions
from gan_serve.gen.jobs import Meter
from gan_serve.gen.run import choose_device
from gan_serve.gen.stores import Folder, open_store
from serve import onnx_files

FORMATS = ("tar", "parquet", "npy", "folder")
N, SIZE = 50, 20


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def make(gen: Gen, model: Path, kind: str = "tar", out: str = "s", *more: object) -> tuple[int, str, str]:
    return gen(model, "--n", N, "--out", f"{out}/", "--format", kind, "--shard-size", SIZE, *more)


def decoded(png: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


# ── what other readers find ──────────────────────────────────────────────────────────────────────────────────────────


def test_tar_shards_are_read_by_tarfile(gen: Gen, classes: Path, tmp_path: Path) -> None:
    assert make(gen, classes)[:2] == (0, "s\n")
    labels = np.arange(N) % 3
    expected = drawn(classes, range(N), labels)
    for shard, (start, stop) in enumerate(((0, 20), (20, 40), (40, 50))):
        with tarfile.open(tmp_path / f"s/shard-{shard:06d}.tar") as archive:
            members = archive.getmembers()
            assert [m.name for m in members] == [f"{i:09d}.{s}" for i in range(start, stop) for s in ("png", "json")]
            assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}
            for index in range(start, stop):
                png, about = (archive.extractfile(f"{index:09d}.{suffix}") for suffix in ("png", "json"))
                assert png is not None
                assert about is not None
                assert np.array_equal(decoded(png.read()), expected[index])
                said = json.loads(about.read())
                assert (said["seed"], said["class"], len(said["model_sha256"])) == (index, index % 3, 64)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # its files
def test_tar_shards_are_read_by_webdataset(gen: Gen, model: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    make(gen, model)
    found = webdataset.WebDataset(str(tmp_path / "s/shard-{000000..000002}.tar"), shardshuffle=False).decode("rgb8")
    samples = list(found)
    assert [sample["__key__"] for sample in samples] == [f"{index:09d}" for index in range(N)]
    assert [sample["json"]["seed"] for sample in samples] == list(range(N))
    assert np.array_equal([sample["png"] for sample in samples], drawn(model, range(N)))


def test_parquet_is_read_by_pyarrow_and_datasets(
    gen: Gen, classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    make(gen, classes, "parquet")
    expected = drawn(classes, range(N), np.arange(N) % 3)
    files = [tmp_path / f"s/shard-{shard:06d}.parquet" for shard in range(3)]
    rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
    assert [(row["index"], row["seed"], row["label"]) for row in rows] == [(i, i, i % 3) for i in range(N)]
    assert np.array_equal([decoded(row["image"]["bytes"]) for row in rows], expected)
    assert parquet.read_schema(files[0]).metadata[b"gan.model_sha256"] == sha256_of(classes).encode()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="datasets is not in the dev extra")
    loaded = datasets.Dataset.from_parquet(list(map(str, files)), cache_dir=str(tmp_path / "cache"))
    assert loaded.features["label"].num_classes == 3
    assert np.array_equal(np.asarray(loaded[41]["image"]).reshape(expected[41].shape), expected[41])


def test_npy_shards_have_their_seeds_and_labels_beside_them(gen: Gen, classes: Path, tmp_path: Path) -> None:
    gen(classes, "--seeds", "9,3-5", "--class", "2,0", "--out", "s/", "--format", "npy", "--shard-size", 3)
    pixels = np.concatenate([np.load(tmp_path / f"s/shard-{shard:06d}.npy") for shard in range(2)])
    assert np.array_equal(pixels, drawn(classes, [9, 3, 4, 5], [2, 0, 2, 0]))
    stats = [json.loads((tmp_path / f"s/shard-{shard:06d}_stats.json").read_text()) for shard in range(2)]
    assert [each["images"] for each in stats] == [{"seed": [9, 3, 4], "class": [2, 0, 2]}, {"seed": [5], "class": [0]}]


def test_folders_have_a_png_for_each_image(gen: Gen, classes: Path, tmp_path: Path) -> None:
    make(gen, classes, "folder")
    expected = drawn(classes, range(N), np.arange(N) % 3)
    for index in (0, 19, 20, 49):
        path = tmp_path / f"s/shard-{index // SIZE:06d}/{index:09d}.png"
        assert np.array_equal(read(path), expected[index])
        assert text_of(path)["gan.seed"] == str(index)
    assert len(names(tmp_path / "s/shard-000002")) == 10


def test_latents_and_images_in_every_class(gen: Gen, classes: Path, tmp_path: Path) -> None:
    z = np.random.default_rng(0).standard_normal((7, onnx_files.classes().interface.z_dim), np.float32)
    np.save(tmp_path / "z.npy", z)
    code, _, err = gen(classes, "--latents", "z.npy", "--by-class", "--out", "s/", "--format", "tar", "--scale", 3)
    assert code == 0, err
    with tarfile.open(tmp_path / "s/shard-000000.tar") as archive:
        about = [json.loads(archive.extractfile(m).read()) for m in archive if m.name.endswith("json")]  # type: ignore[union-attr]
        png = archive.extractfile("000000008.png")
        assert png is not None
        assert decoded(png.read()).shape[:2] == (24, 24)
    assert [(row["row"], row["class"]) for row in about] == [(row, label) for label in range(3) for row in range(7)]
    assert about[0]["scale"] == "3"


# ── the same bytes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", FORMATS)
def test_the_bytes_depend_on_no_batch_thread_or_part(gen: Gen, classes: Path, tmp_path: Path, kind: str) -> None:
    make(gen, classes, kind, "whole")
    make(gen, classes, kind, "other", "--batch-size", 1, "--threads", 1)
    for part in (2, 0, 1):
        make(gen, classes, kind, "parts", "--shard", f"{part}/3", "--batch-size", 7, "--threads", 2)
    assert "manifest.json" not in names(tmp_path / "parts")
    assert gen("--finish", "--out", "parts")[:2] == (0, "parts/manifest.json\n")
    whole = content(tmp_path / "whole")
    assert content(tmp_path / "other") == whole
    assert content(tmp_path / "parts") == whole


def test_more_parts_than_shards(gen: Gen, model: Path, tmp_path: Path) -> None:
    for part in range(5):
        assert make(gen, model, "tar", "s", "--shard", f"{part}/5")[0] == 0
    assert gen("--finish", "--verify", "--out", "s")[0] == 0
    assert len([name for name in names(tmp_path / "s") if name.endswith(".tar")]) == 3


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (0, 1)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, (3, 4)),
        ({"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}, (3, 4)),
        (
            {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "4"}
            | {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2"},
            (2, 4),
        ),
        ({"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "2", "RANK": "5", "WORLD_SIZE": "6"}, (0, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
    ],
)
def test_a_cluster_says_which_part_this_is(variables: dict[str, str], expected: tuple[int, int]) -> None:
    assert JobOptions("tar").part(variables)[:2] == expected
    assert JobOptions("tar", shard="1/7").part(variables)[:2] == (1, 7)


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4"},
        {"SLURM_ARRAY_TASK_ID": "4"},
        {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"},
        {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "4"}
        | {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2"},
        {"JOB_COMPLETION_INDEX": "1"},
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "-1", "WORLD_SIZE": "2"},
        {"RANK": "", "WORLD_SIZE": ""},
    ],
)
def test_a_cluster_that_says_half_of_it(variables: dict[str, str]) -> None:
    with pytest.raises(GanportError) as raised:
        JobOptions("tar").part(variables)
    assert "--shard" in raised.value.hint


# ── made once ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", FORMATS)
def test_a_job_makes_only_what_is_missing(gen: Gen, model: Path, tmp_path: Path, kind: str) -> None:
    make(gen, model, kind)
    whole, folder = content(tmp_path / "s"), tmp_path / "s"
    store = open_store(str(folder))
    (middle,) = (name for name in names(folder) if name.startswith("shard-000001") and "stats" not in name)
    times = {name: (folder / name).stat().st_mtime_ns for name in names(folder) if "000001" not in name}
    for name in (middle, "shard-000002_stats.json", "manifest.json"):
        store.remove(name)
    code, out, err = make(gen, model, kind, "s", "--json")
    assert (code, json.loads(out)["made"], json.loads(out)["images"]) == (0, 2, 30)
    assert "1 of 3 shards are there already" in err
    assert content(folder) == whole
    first = "shard-000000_stats.json"
    assert (folder / first).stat().st_mtime_ns == times[first]
    assert json.loads(make(gen, model, kind, "s", "--json")[1])["made"] == 0


def test_a_damaged_shard(gen: Gen, model: Path, tmp_path: Path) -> None:
    make(gen, model)
    whole, shard = content(tmp_path / "s"), tmp_path / "s/shard-000001.tar"
    assert gen("--verify", "--out", "s/")[0] == 0
    data = bytearray(shard.read_bytes())
    data[3000] ^= 1
    shard.write_bytes(data)
    code, out, err = gen("--verify", "--out", "s")
    assert (code, out) == (1, "")
    assert err.startswith("error: 1 of 3 shards of s are damaged: shard-000001.tar\nhint: delete them")
    shard.write_bytes(data[:-1])
    (tmp_path / "s/shard-000000_stats.json").write_bytes(b"{")
    code, _, err = make(gen, model)
    assert code == 0
    assert "warning: s/shard-000001.tar is damaged or gone" in err
    assert "warning: s/shard-000000.tar is damaged or gone" in err
    assert content(tmp_path / "s") == whole


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("--n", 51), "its n is 50, here 51"),
        (("--seed", 1), 'its seeds is "0-49", here "1-50"'),
        (("--format", "npy"), 'its format is "tar", here "npy"'),
        (("--shard-size", 10), "its shard_size is 20, here 10"),
        (("--truncation", 0.5), "its truncation is null, here 0.5"),
        (("--scale", 2), 'its image is {"channels"'),
    ],
)
def test_another_job_in_the_folder(
    gen: Gen, model: Path, tmp_path: Path, changed: tuple[object, ...], message: str
) -> None:
    make(gen, model)
    before = content(tmp_path / "s")
    code, out, err = make(gen, model, "tar", "s", *changed)
    assert (code, out) == (2, "")
    assert f"error: s has the shards of another job: {message}" in err
    assert "hint: choose another folder, or add --overwrite" in err
    assert content(tmp_path / "s") == before


def test_another_model_in_the_folder(gen: Gen, model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    own.write_bytes(model.read_bytes())
    make(gen, own)
    onnx_files.save(own, onnx_files.contract(name="other"))
    code, _, err = make(gen, own)
    assert code == 2
    assert "its model_sha256 is" in err
    # The shards of the old job are not taken for those of the new one, wherever a run with --overwrite stops.
    assert make(gen, own, "tar", "s", "--overwrite", "--shard", "2/3")[0] == 0
    assert json.loads(make(gen, own, "tar", "s", "--json")[1])["made"] == 2
    make(gen, own, "tar", "fresh")
    assert content(tmp_path / "s") == content(tmp_path / "fresh")


def test_overwrite_leaves_no_shard_of_the_old_job(gen: Gen, model: Path, tmp_path: Path) -> None:
    make(gen, model)
    assert make(gen, model, "npy", "s", "--overwrite", "--n", 20)[0] == 0
    assert names(tmp_path / "s") == [
        ".ganport-lock", "job.json", "manifest.json", "shard-000000.npy", "shard-000000_stats.json",
    ]  # fmt: skip


def test_shards_without_a_job(gen: Gen, model: Path, tmp_path: Path) -> None:
    make(gen, model)
    (tmp_path / "s/job.json").unlink()
    code, _, err = make(gen, model)
    assert (code, "but no job.json" in err) == (2, True)
    (tmp_path / "s/job.json").write_text("{}")
    assert "another job" in make(gen, model)[2]
    (tmp_path / "s/job.json").write_text("[")
    assert "job.json is damaged" in make(gen, model)[2]


def test_two_jobs_for_the_same_shards(gen: Gen, model: Path, tmp_path: Path) -> None:
    store = Folder(tmp_path / "s")
    store.begin()
    with store.held(0, 2):
        code, out, err = make(gen, model)
        assert (code, out) == (2, "")
        assert err.endswith(
            "error: another gan-gen makes these shards of s\nhint: wait until it ends, or write to another folder\n"
        )
        assert names(tmp_path / "s") == [".ganport-lock"]
        assert make(gen, model, "tar", "s", "--shard", "2/3")[0] == 0, "the other parts go on"
    assert make(gen, model)[0] == 0


def test_a_log_says_how_long_it_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 1.0, 61.0, 62.0])
    monkeypatch.setattr("gan_serve.gen.jobs.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with Meter(1_000_000, "generating") as meter:
        meter(100)
        meter(6000)
        meter(100)
    assert capsys.readouterr().err == "6,100 of 1,000,000 images, 100 a second, 2:45:39 left\n"


# ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--format zip --out s/", "--format is one of tar, parquet, npy, folder, got 'zip'"),
        ("--format tar", "a job in shards needs a folder"),
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
        "error: 2 of 3 shards of s are missing: shard-000001.tar, shard-000002.tar\nhint: run the same"
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


# ── object stores ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def bucket() -> Any:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_store_has_the_same_bytes_as_a_folder(gen: Gen, model: Path, tmp_path: Path, bucket: Any, kind: str) -> None:
    url = "memory://bucket/set"
    make(gen, model, kind)
    for part in range(2):
        code, out, err = make(gen, model, kind, url, "--shard", f"{part}/2")
        assert (code, out) == (0, f"{url}\n"), err
    assert gen("--finish", "--verify", "--out", url)[0] == 0
    there = {path.removeprefix("/bucket/set/"): bucket.cat_file(path) for path in bucket.find("/bucket/set")}
    assert there == {name: data for name, data in content(tmp_path / "s").items() if name != ".ganport-lock"}
    bucket.rm("/bucket/set/shard-000001_stats.json")
    assert json.loads(make(gen, model, kind, url, "--json")[1])["made"] == 1
    assert "another job" in make(gen, model, kind, url, "--seed", 3)[2]
    assert make(gen, model, kind, url, "--seed", 3, "--overwrite")[0] == 0


def test_a_store_that_fails(gen: Gen, model: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make(gen, model, "tar", "memory://b", "--shard", "0/3")

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "put_file", fail)
        code, _, err = make(gen, model, "tar", "memory://b")
    assert code == 1
    assert "error: memory://b: ConnectionError: reset by peer\nhint: check the address" in err
    assert [path for path in bucket.find("/b") if "000001" in path] == []
    assert json.loads(make(gen, model, "tar", "memory://b", "--json")[1])["made"] == 2


# ── folders without shards ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_of_images_is_completed(gen: Gen, model: Path, tmp_path: Path) -> None:
    gen(model, "--n", 30, "--out", "many/")
    whole = content(tmp_path / "many")
    kept = (tmp_path / "many/seed000007.png").stat().st_mtime_ns
    (tmp_path / "many/seed000003.png").unlink()
    (tmp_path / "many/seed000004.png").write_bytes(b"")
    (tmp_path / "many/seed000029.png").write_bytes(whole["seed000029.png"][:-3])
    code, _, err = gen(model, "--n", 30, "--out", "many/")
    assert code == 0
    assert "27 of 30 images were there already" in err
    assert content(tmp_path / "many") == whole
    assert (tmp_path / "many/seed000007.png").stat().st_mtime_ns == kept
    assert gen(model, "--n", 40, "--out", "many/", "--batch-size", 3)[0] == 0
    assert len(names(tmp_path / "many")) == 40


@pytest.mark.parametrize("changed", [("--scale", 2), ("--truncation", 0.5)])
def test_a_folder_with_other_images(gen: Gen, model: Path, tmp_path: Path, changed: tuple[object, ...]) -> None:
    gen(model, "--n", 3, "--out", "many/")
    before = content(tmp_path / "many")
    code, _, err = gen(model, "--n", 3, "--out", "many/", *changed)
    assert code == 2
    assert "error: many/seed000000.png is another image" in err
    assert content(tmp_path / "many") == before
    assert gen(model, "--n", 3, "--out", "many/", *changed, "--overwrite")[0] == 0
    assert content(tmp_path / "many") != before


# ── docs/scale.md ────────────────────────────────────────────────────────────────────────────────────────────────────

PAGE = blocks(Path(__file__).parents[2] / "docs/scale.md")


def block(language: str, section: str) -> str:
    """The first block of a section, for fewer images."""
    code = next(block.code for block in PAGE if (block.language, block.section) == (language, section))
    return code.replace("--n 1000000", "--n 40 --shard-size 10").replace('"1000000"', '"40", --shard-size, "10"')


@pytest.fixture
def beside(gen: Gen, model: Path, tmp_path: Path) -> Path:
    """The current folder, with g.onnx and the job of the page made by one command, in whole/."""
    (tmp_path / "g.onnx").write_bytes(model.read_bytes())
    assert gen("g.onnx", "--n", 40, "--shard-size", 10, "--out", "whole/", "--format", "tar")[0] == 0
    return tmp_path


def test_the_commands_of_the_page(beside: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    for command in commands(block("sh", "")):
        assert execute(command) == 0
    exec(compile(block("python", "What is in the folder"), "scale.md", "exec"), {})
    assert capsysbinary.readouterr().out.endswith(b"(5, 6) 3\n")
    shutil.rmtree(beside / "shards")
    for command in commands(block("sh", "Several machines")):
        assert execute(command) == 0
    assert content(beside / "shards") == content(beside / "whole")


def test_kubernetes_makes_every_part(gen: Gen, beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = yaml.safe_load(block("yaml", "Kubernetes"))["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    for index in range(spec["completions"]):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        command = [word.replace(mount["mountPath"], str(beside)) for word in container["command"]]
        assert gen(*command[1:])[0] == 0
    assert gen("--finish", "--out", "shards")[0] == 0
    assert content(beside / "shards") == content(beside / "whole")


@pytest.mark.slow
def test_a_slurm_array_makes_every_part(gen: Gen, beside: Path) -> None:
    script = beside / "gan-gen"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m gan_serve "$@"\n')
    script.chmod(0o755)
    for task in range(2):
        variables = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "2"}
        environment = os.environ | variables | {"PATH": f"{beside}:{os.environ['PATH']}"}
        subprocess.run(["bash", "-c", block("bash", "SLURM")], env=environment, check=True, capture_output=True)
    assert gen("--finish", "--out", "shards")[0] == 0
    assert content(beside / "shards") == content(beside / "whole")
