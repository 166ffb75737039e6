"""gan-train cache: what lies in the cache folder, cleared and kept within its limit, and nothing else touched."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from cli.conftest import GanTrain
from gan_core.errors import GanportError
from gan_trainer.data import open_dataset, store


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Three things of 1000, 2000 and 3000 bytes, the first used longest ago, and what is not the cache's."""
    folder = tmp_path / "cache"
    things: dict[str, tuple[int, int]] = {
        "images/digits-1-2-28x1.npy": (900, 100), "images/digits-1-2-28x1.json": (100, 100),
        "downloads/MNIST/raw/train.gz": (2000, 200), "evaluators/classifier-ab.pt": (3000, 300),
        "mine.txt": (5000, 50), "images/.half-written": (5000, 50),
    }  # fmt: skip
    for name, (size, used) in things.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * size)
        os.utime(folder / name, (used, used))
    for path in (folder / "downloads/MNIST/raw", folder / "downloads/MNIST"):
        os.utime(path, (200, 200))
    return folder


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


OTHERS = {"mine.txt", "images/.half-written"}


def test_what_lies_there_is_listed(cache: Path, gan_train: GanTrain) -> None:
    result = gan_train("cache")
    assert result.code == 0
    lines = result.out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["decoded", "download", "classifier"]
    assert "digits-1-2-28x1" in lines[2]
    assert lines[-1] == f"6 kB in {cache}, limit 50 GB"
    found = json.loads(gan_train("cache", "--json").out)
    assert (found["bytes"], found["limit"]) == (6000, 50e9)
    assert [(each["kind"], each["bytes"]) for each in found["kept"]] == [
        ("images", 1000), ("downloads", 2000), ("evaluators", 3000),
    ]  # fmt: skip


def test_clearing(cache: Path, gan_train: GanTrain) -> None:
    result = gan_train("cache", "--clear", "digits")
    assert result.code == 0
    assert "cleared 1 of 3, 1 kB" in result.err
    assert files(cache) == OTHERS | {"downloads/MNIST/raw/train.gz", "evaluators/classifier-ab.pt"}
    assert gan_train("cache", "--clear").code == 0
    assert files(cache) == OTHERS
    assert gan_train("cache").out == f"0 bytes in {cache}, limit 50 GB\n"


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (("digits",), "names say what to clear", "gan-train cache --clear digits"),
        (("--clear", "digit"), "nothing in the cache is called digit", "did you mean digits-1-2-28x1?"),
        (("--clear", "../mine"), "nothing in the cache is called ../mine", ""),
        (("--limit", "much"), "a size is a number with kB, MB, GB or TB, got 'much'", "20GB"),
        (("--limit", "-1GB"), "a size is a number with kB, MB, GB or TB, got '-1GB'", "20GB"),
        (("--clear", "--limit", "20PB"), "a size is a number with kB", "20GB"),
    ],
)
def test_wrong_input_deletes_nothing(
    args: tuple[str, ...], message: str, hint: str, cache: Path, gan_train: GanTrain
) -> None:
    before = files(cache)
    result = gan_train("cache", *args)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert hint in result.err
    assert files(cache) == before


def test_the_limit_is_set_and_kept(cache: Path, gan_train: GanTrain) -> None:
    result = gan_train("cache", "--limit", "5.5 kB")
    assert result.code == 0
    assert "the cache keeps its limit of 5.5 kB: digits-1-2-28x1 of images was deleted" in result.err
    assert files(cache) == OTHERS | {
        "downloads/MNIST/raw/train.gz", "evaluators/classifier-ab.pt", "limit.txt",
    }  # fmt: skip
    assert result.out.splitlines()[-1] == f"5 kB in {cache}, limit 5.5 kB"
    gan_train("cache", "--limit", "none")
    assert store.read_limit(cache) == math.inf
    (cache / "limit.txt").write_text("rubbish")
    assert store.read_limit(cache) == store.DEFAULT_LIMIT


def test_a_new_data_set_takes_the_place_of_old_things(cache: Path, photos: Path) -> None:
    store.write_limit(cache, 12 * 28 * 28 * 3 + 4000)
    open_dataset(str(photos), size=28, cache_dir=cache)
    left = {each.name.split("-")[0] for each in store.kept_in(cache)}
    assert left == {"photos", "classifier"}
    store.write_limit(cache, 1)
    dataset = open_dataset(str(photos), size=32, cache_dir=cache)
    assert dataset.pixels_NHWC.sum() > 0
    assert [each.name.rsplit("-", 1)[-1] for each in store.kept_in(cache)] == ["32x3"], "never what is in use"
    used = store.kept_in(cache)[0]
    os.utime(used.paths[0], (1, 1))
    os.utime(used.paths[1], (1, 1))
    open_dataset(str(photos), size=32, cache_dir=cache)
    assert store.kept_in(cache)[0].used > 1, "reading counts as use"


def test_a_link_in_the_cache_is_not_followed(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a.txt").write_text("a")
    (cache / "downloads" / "linked").symlink_to(tmp_path / "precious")
    for each in store.kept_in(cache):
        each.delete()
    assert (tmp_path / "precious" / "a.txt").exists()
    assert files(cache) == OTHERS


def test_sizes() -> None:
    for text, size in (("1 bytes", 1), ("1.5k", 1500), ("2 MB", 2e6), ("3gb", 3e9), ("4TB", 4e12), ("none", math.inf)):
        assert store.parse_size(text) == size
    for wrong in ("", "5", "GB", "1e9", "nan", "5 GiB", "1,5GB"):
        with pytest.raises(GanportError):
            store.parse_size(wrong)
    assert (store.limit_text(5e10), store.limit_text(math.inf)) == ("50 GB", "none")
