"""gan-gen's jobs are made once: what is there stays, what is missing or damaged is made, other jobs are refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli.conftest import Gen
from cli.drawing import names
from cli.sharding import FORMATS, content, make
from gan_serve.gen import run
from gan_serve.gen.jobs import metered
from gan_serve.gen.stores import Folder, open_store
from serve import onnx_files


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
    assert err.startswith("error: 1 of 3 shards of s are damaged or gone: shard-000001.tar\nhint: delete them")
    shard.write_bytes(data[:-1])
    (tmp_path / "s/shard-000000_stats.json").write_bytes(b"{")
    code, _, err = make(gen, model)
    assert code == 0
    assert "warning: s/shard-000001.tar is damaged or gone" in err
    assert "warning: s/shard-000000.tar is damaged or gone" in err
    assert content(tmp_path / "s") == whole
    shard.rename(tmp_path / "s/shard-000003.tar")
    assert gen("--verify", "--out", "s")[2].startswith(
        "error: 1 of 3 shards of s are damaged or gone: shard-000001.tar"
    )
    make(gen, model)
    code, _, err = gen("--verify", "--out", "s")
    assert (code, err) == (1, "error: s has files of another job: shard-000003.tar\nhint: delete them\n")


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


def test_another_precision_of_products_in_the_folder(gen: Gen, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with --tf32 on a GPU."""
    make(gen, model)
    make_shards = run._make_shards
    monkeypatch.setattr(run, "_make_shards", lambda a, b, c, d, _: make_shards(a, b, c, d, True))
    assert "its tf32 is false, here true" in make(gen, model)[2]


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
    _, out, err = make(gen, own, "tar", "s", "--json")
    assert json.loads(out)["made"] == 2
    assert "damaged" not in err
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


@pytest.mark.parametrize(
    "changed",
    [
        {"n": 1e400}, {"n": 10**30}, {"n": "50"}, {"n": True, "shard_size": True}, {"shard_size": 20.0},
        {"shard_size": 0}, {"format": ["tar"]}, {"format": "zip"},
    ],
)  # fmt: skip
def test_a_job_that_was_edited(gen: Gen, model: Path, tmp_path: Path, changed: dict[str, object]) -> None:
    make(gen, model)
    whole = content(tmp_path / "s")
    (tmp_path / "s/job.json").write_text(json.dumps(json.loads(whole["job.json"]) | changed))
    for check in ("--verify", "--finish"):
        code, _, err = gen(check, "--out", "s")
        assert (code, err.splitlines()[0]) == (2, "error: s/job.json is damaged")
    assert make(gen, model)[0] == 2
    (tmp_path / "s/job.json").write_bytes(whole["job.json"])
    assert gen("--finish", "--verify", "--out", "s")[0] == 0
    assert content(tmp_path / "s") == whole


@pytest.mark.parametrize("version", [2, "1", None, [1]])
def test_a_job_of_another_version(gen: Gen, model: Path, tmp_path: Path, version: object) -> None:
    make(gen, model)
    whole = content(tmp_path / "s")
    (tmp_path / "s/job.json").write_text(json.dumps(json.loads(whole["job.json"]) | {"version": version}))
    code, _, err = gen("--finish", "--out", "s")
    assert code == 2
    assert err.startswith(
        f"error: s/job.json is of another version of ganport: {json.dumps(version)}, here 1\nhint: use"
    )
    assert f"another job: its version is {json.dumps(version)}, here 1" in make(gen, model)[2]


@pytest.mark.parametrize(
    "changed", [{"sha256": None}, {"n": 3}, {"size_bytes": "1"}, {"file": "../x.tar"}, {"start": -1}]
)
def test_statistics_that_were_edited(gen: Gen, model: Path, tmp_path: Path, changed: dict[str, object]) -> None:
    make(gen, model)
    whole, path = content(tmp_path / "s"), tmp_path / "s/shard-000001_stats.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    assert "1 of 3 shards of s are missing: shard-000001.tar" in gen("--finish", "--out", "s")[2]
    assert json.loads(make(gen, model, "tar", "s", "--json")[1])["made"] == 1
    assert content(tmp_path / "s") == whole


def test_two_jobs_for_the_same_shards(gen: Gen, model: Path, tmp_path: Path) -> None:
    store = Folder(tmp_path / "s")
    store.begin()
    with store.held(0, 2):
        code, out, err = make(gen, model)
        assert (code, out) == (2, "")
        assert err.endswith(
            "error: another gan-gen writes these images into s\nhint: wait until it ends, or write to another folder\n"
        )
        assert names(tmp_path / "s") == [".ganport-lock"]
        assert make(gen, model, "tar", "s", "--shard", "2/3")[0] == 0, "the other parts go on"
    assert make(gen, model)[0] == 0


def test_a_log_says_how_long_it_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 1.0, 61.0, 62.0])
    monkeypatch.setattr("gan_serve.gen.jobs.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with metered(1_000_000, "generating") as tell:
        tell(100)
        tell(6000)
        tell(100)
    assert capsys.readouterr().err == "6,100 of 1,000,000 images, 100 a second, 2:45:39 left\n"


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
