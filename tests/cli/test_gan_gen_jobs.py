"""gan-gen --format: shards that other readers read, the same bytes whoever makes them, in folders and object stores."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cli.conftest import Gen
from cli.drawing import drawn, names, read, text_of
from cli.sharding import FORMATS, SIZE, N, content, make
from gan_core.errors import GanportError
from gan_core.files.model_file import sha256_of
from gan_serve.gen.job_options import JobOptions
from serve import onnx_files


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


@pytest.mark.slow  # it imports torch
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # its files
def test_tar_shards_are_read_by_webdataset(gen: Gen, model: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    make(gen, model)
    found = webdataset.WebDataset(str(tmp_path / "s/shard-{000000..000002}.tar"), shardshuffle=False).decode("rgb8")
    samples = list(found)
    assert [sample["__key__"] for sample in samples] == [f"{index:09d}" for index in range(N)]
    assert [sample["json"]["seed"] for sample in samples] == list(range(N))
    assert np.array_equal([sample["png"] for sample in samples], drawn(model, range(N)))


@pytest.mark.slow  # datasets imports pandas
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
    datasets = pytest.importorskip("datasets")
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
