"""The idx format: every standard name, and every way a file can be wrong."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gan_core.errors import GanportError
from gan_core.pictures.idx import find_pair, natural_size, read_header, read_idx
from gan_trainer.networks.architectures import NATURAL_SIZES
from trainer.data_files import Opened, idx_bytes, save_idx

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("prefix", "dot"), [("train-", "-"), ("train-", "."), ("t10k-", "-"), ("emnist-letters-train-", "-"), ("", "-")]
)
def test_a_folder_of_idx_files(tmp_path: Path, prefix: str, dot: str, zipped: bool) -> None:
    pixels, labels = save_idx(tmp_path / "in", prefix=prefix, dot=dot, zipped=zipped)
    found = Opened(tmp_path / "cache")(tmp_path / "in")
    np.testing.assert_array_equal(found.pixels_NHWC[..., 0], pixels)
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, labels)
    assert found.class_names == tuple("0123456789")
    assert (found.name, found.size, found.channels, len(found)) == ("in", 28, 1, 12)


def test_the_training_split_is_taken(tmp_path: Path) -> None:
    save_idx(tmp_path, n=4, prefix="t10k-")
    save_idx(tmp_path, n=7, prefix="train-")
    pair = find_pair(tmp_path)
    assert pair is not None
    assert read_header(pair.images) == (7, 28, 28)
    assert pair.labels is not None
    assert pair.labels.name.startswith("train-labels")


def test_a_plain_file_is_preferred_to_its_gz(tmp_path: Path) -> None:
    save_idx(tmp_path, zipped=True)
    save_idx(tmp_path, zipped=False)
    pair = find_pair(tmp_path)
    assert pair is not None
    assert [path.name for path in pair.files] == [IMAGES, LABELS]


def test_names_in_capitals_and_a_gz_that_is_not_one(tmp_path: Path) -> None:
    pixels, _ = save_idx(tmp_path, zipped=False)
    (tmp_path / IMAGES).rename(tmp_path / f"{IMAGES.upper()}.GZ")
    pair = find_pair(tmp_path)
    assert pair is not None
    np.testing.assert_array_equal(read_idx(pair.images), pixels)


def test_two_splits_of_equal_right_are_an_error(tmp_path: Path) -> None:
    save_idx(tmp_path, prefix="emnist-letters-train-")
    save_idx(tmp_path, prefix="emnist-digits-train-")
    with pytest.raises(GanportError, match=r"several idx image files: emnist-digits-train-.*, emnist-letters-train-"):
        find_pair(tmp_path)


def test_no_labels_no_classes(tmp_path: Path) -> None:
    save_idx(tmp_path / "in")
    (tmp_path / "in" / f"{LABELS}.gz").unlink()
    opened = Opened(tmp_path / "cache")
    found = opened(tmp_path / "in")
    assert found.labels is None
    assert found.class_names == ()
    assert any("no labels beside it" in note for note in opened.notes)


def test_labels_that_skip_numbers_become_indices(tmp_path: Path) -> None:
    save_idx(tmp_path / "in", n=4, zipped=False)
    (tmp_path / "in" / LABELS).write_bytes(idx_bytes(np.array([26, 1, 26, 5], np.uint8)))
    found = Opened(tmp_path / "cache")(tmp_path / "in")
    assert found.labels is not None
    assert found.labels.tolist() == [2, 0, 2, 1]
    assert found.class_names == ("1", "5", "26")


@pytest.mark.parametrize(
    ("height", "width", "size"), [(28, 28, 28), (8, 8, 28), (30, 40, 32), (64, 64, 64), (500, 500, 128)]
)
def test_natural_size(height: int, width: int, size: int) -> None:
    assert natural_size(height, width, NATURAL_SIZES) == size


def test_a_folder_without_idx_files_has_none(tmp_path: Path) -> None:
    for name in ("a.png", "train-images", "train-images-idx1-ubyte", ".train-images-idx3-ubyte"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / IMAGES).mkdir()
    assert find_pair(tmp_path) is None


PIXELS = np.zeros((6, 28, 28), np.uint8)
GOOD = idx_bytes(PIXELS)
ZIPPED_NOISE = gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (6, 28, 28)).astype(np.uint8)))

WRONG_IMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not an idx file: it starts with nothing"),
    "text": (b"hello, world", "not an idx file: it starts with 68656c6c"),
    "a png": (b"\x89PNG\r\n\x1a\n", "not an idx file"),
    "signed bytes": (idx_bytes(PIXELS, kind=9), "idx type 0x09"),
    "floats": (idx_bytes(PIXELS, kind=13), "idx type 0x0d"),
    "no dimension": (b"\0\0\x08\0", "0 dimensions, expected 1 to 4"),
    "nine dimensions": (b"\0\0\x08\x09" + bytes(36), "9 dimensions, expected 1 to 4"),
    "labels": (idx_bytes(np.zeros(6, np.uint8)), "1 dimensions, images have 3"),
    "colour": (idx_bytes(np.zeros((2, 8, 8, 3), np.uint8)), "4 dimensions, images have 3"),
    "ends in the header": (GOOD[:9], "truncated: it ends in its header"),
    "ends in the pixels": (GOOD[:-100], "truncated: 6x28x28 values expected, 4604 found"),
    "goes on": (GOOD + b"\0", "damaged: more than the 6x28x28 values"),
    "no images": (idx_bytes(np.zeros((0, 28, 28), np.uint8)), "holds 0 images of 28x28"),
    "no rows": (idx_bytes(np.zeros((5, 0, 28), np.uint8)), "holds 5 images of 28x0"),
    "a lie of 10^18 pixels": (
        b"\0\0\x08\x03" + struct.pack(">3I", 10**9, 9000, 9000) + bytes(50), "truncated: 1000000000x9000x9000"
    ),
    "a lie of one side": (b"\0\0\x08\x03" + struct.pack(">3I", 1, 2**31, 2**31), "nothing to train on"),
    "cut gzip": (gzip.compress(GOOD)[:-12], "not a whole gzip file"),
    "gzip of nothing": (gzip.compress(b""), "not an idx file"),
    "damaged gzip": (ZIPPED_NOISE[:400] + bytes(99) + ZIPPED_NOISE[499:], "not a whole gzip file"),
    "gzip magic only": (b"\x1f\x8b", "not a whole gzip file"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_IMAGES)
def test_a_wrong_image_file_is_one_line(tmp_path: Path, case: str) -> None:
    data, message = WRONG_IMAGES[case]
    save_idx(tmp_path / "in", n=6, zipped=False)
    (tmp_path / "in" / IMAGES).write_bytes(data)
    with pytest.raises(GanportError) as caught:
        Opened(tmp_path / "cache")(tmp_path / "in")
    assert message in str(caught.value)
    assert IMAGES in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_a_gzip_of_zeros_is_not_unpacked(tmp_path: Path) -> None:
    """Gigabytes out of megabytes: told from the header, before any memory is taken for them."""
    head = b"\0\0\x08\x03" + struct.pack(">3I", 128 << 10, 28, 28)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(head)
        for _ in range(98):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(GanportError, match="announces 102,760,448 values in") as caught:
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "gunzip" in caught.value.hint
    assert peak < 4 << 20
    small = gzip.compress(head[:4] + struct.pack(">3I", 1000, 28, 28) + bytes(784_000))
    path.write_bytes(small)
    assert read_idx(path).shape == (1000, 28, 28)


WRONG_LABELS: dict[str, tuple[Callable[[], bytes], str]] = {
    "too few": (lambda: idx_bytes(np.zeros(5, np.uint8)), "holds 5 labels, train-images-idx3-ubyte beside it 6 images"),
    "images": (lambda: GOOD, "holds 6x28x28 labels"),
    "cut": (lambda: idx_bytes(np.zeros(6, np.uint8))[:-2], "truncated: 6 values expected, 4 found"),
    "text": (lambda: b"hello", "not an idx file"),
}


@pytest.mark.parametrize("case", WRONG_LABELS)
def test_a_wrong_label_file_is_one_line(tmp_path: Path, case: str) -> None:
    data, message = WRONG_LABELS[case]
    save_idx(tmp_path / "in", n=6, zipped=False)
    (tmp_path / "in" / LABELS).write_bytes(data())
    with pytest.raises(GanportError) as caught:
        Opened(tmp_path / "cache")(tmp_path / "in")
    assert message in str(caught.value)


def test_an_unreadable_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_idx(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(GanportError, match=r"cannot read .*: Permission denied"):
        read_idx(tmp_path / f"{IMAGES}.gz")


@pytest.mark.skipif(not DEBIAN_FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_files_read() -> None:
    pair = find_pair(DEBIAN_FASHION)
    assert pair is not None
    assert read_header(pair.images) == (60_000, 28, 28)
    assert pair.labels is not None
    assert np.bincount(read_idx(pair.labels)).tolist() == [6000] * 10
