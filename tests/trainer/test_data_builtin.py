"""Data sets known by name: where they are looked for, and what they hold."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gan_core.errors import GanportError, MissingPackageError
from gan_core.installation import install
from gan_trainer.data import BUILTIN, builtin
from trainer.data_files import Opened, fill, no_network, save_idx

pytestmark = pytest.mark.usefixtures("bare_machine")

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


def test_names() -> None:
    assert BUILTIN == ("digits", "mnist", "fashion-mnist", "cifar10", "celeba")


@pytest.mark.slow
def test_digits(opened: Opened) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    found = opened("digits")
    assert found.pixels_NHWC.shape == (1797, 32, 32, 1)
    assert (found.name, found.size, found.channels, found.class_names) == ("digits", 32, 1, tuple("0123456789"))
    bunch = datasets.load_digits()
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, bunch.target)
    assert found.pixels_NHWC.max() == 255
    # An image scaled 4 times keeps its mean but for the rounding.
    means = found.pixels_NHWC.mean(axis=(1, 2, 3)), bunch.images.mean(axis=(1, 2)) * 255 / 16
    assert np.abs(means[0] - means[1]).max() < 6
    opened("digits")
    assert not opened.decoded


def test_digits_without_scikit_learn(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingPackageError, match="the data set digits needs scikit-learn") as caught:
        opened("digits")
    assert caught.value.hint == install("train")


@pytest.mark.parametrize("below", ["", "MNIST/raw", "mnist", "mnist/MNIST/raw"])
def test_mnist_below_a_root(opened: Opened, tmp_path: Path, below: str) -> None:
    pixels, labels = save_idx(tmp_path / "root" / below)
    found = opened("mnist", root=tmp_path / "root")
    np.testing.assert_array_equal(found.pixels_NHWC[..., 0], pixels)
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, labels)
    assert (found.name, found.class_names) == ("mnist", tuple("0123456789"))


def test_where_it_is_looked_for_first(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {
        "cache": (tmp_path / "cache" / "downloads" / "fashion-mnist" / "FashionMNIST" / "raw", 11),
        "debian": (tmp_path / "debian" / "fashion-mnist", 12),
        "variable": (tmp_path / "variable" / "FashionMNIST" / "raw", 13),
        "root": (tmp_path / "root" / "fashion-mnist", 14),
    }
    monkeypatch.setenv("GANPORT_DATA", str(tmp_path / "variable"))
    (tmp_path / "root").mkdir()
    for folder, n in places.values():
        save_idx(folder, n=n)
        found = opened("fashion-mnist", root=tmp_path / "root")
        assert len(found) == n
        assert opened.notes[0] == f"fashion-mnist: {folder}"


def test_only_a_named_root_may_be_the_folder_itself(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchvision")
    no_network(monkeypatch)
    save_idx(tmp_path / "variable")
    monkeypatch.setenv("GANPORT_DATA", str(tmp_path / "variable"))
    with pytest.raises(GanportError, match="mnist is not on this machine"):
        opened("mnist")


def test_a_variable_that_names_nothing_is_passed_over(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_idx(tmp_path / "debian" / "mnist")
    monkeypatch.setenv("GANPORT_DATA", str(tmp_path / "gone"))
    assert len(opened("mnist")) == 12


def test_mnist_and_fashion_mnist_in_one_root_are_told_apart(opened: Opened, tmp_path: Path) -> None:
    save_idx(tmp_path / "root" / "MNIST/raw", n=11)
    save_idx(tmp_path / "root" / "FashionMNIST/raw", n=13)
    assert len(opened("mnist", root=tmp_path / "root")) == 11
    found = opened("fashion-mnist", root=tmp_path / "root")
    assert len(found) == 13
    assert found.class_names[0] == "T-shirt/top"


def test_the_same_files_as_a_folder_have_numbers_for_names(opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "root" / "fashion-mnist"
    save_idx(folder)
    named = opened("fashion-mnist", root=tmp_path / "root")
    assert opened(folder).class_names == tuple("0123456789")
    assert opened("fashion-mnist", root=tmp_path / "root").class_names == named.class_names == builtin.GARMENTS
    assert not opened.decoded


def test_more_classes_than_the_data_set_has(opened: Opened, tmp_path: Path) -> None:
    save_idx(tmp_path / "root", n=11, zipped=False)
    labels = tmp_path / "root" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x2e")
    with pytest.raises(GanportError, match="holds the label 46, mnist has 10 classes"):
        opened("mnist", root=tmp_path / "root")


def test_celeba_is_a_folder_without_classes(opened: Opened, tmp_path: Path) -> None:
    fill(tmp_path / "root" / "celeba" / "img_align_celeba", "000001.jpg", "000002.jpg")
    (tmp_path / "root" / "celeba" / "list_eval_partition.txt").write_text("")
    found = opened("celeba", root=tmp_path / "root")
    assert found.pixels_NHWC.shape == (2, 64, 64, 3)
    assert (found.name, found.labels, found.class_names) == ("celeba", None, ())


class Called:
    """Pickles as a call, which runs when it is loaded."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call[0], self.call[1:]


def cifar10_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Five small batches in CIFAR-10's format, which torchvision is told are the real ones; their images NHWC."""
    datasets = pytest.importorskip("torchvision.datasets")
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32)).astype(np.uint8)
    digests = {}
    for index, name in enumerate(builtin.CIFAR10_FILES):
        rows = images.reshape(5, 4, 3072)[index - 1] if "data" in name else images.reshape(-1, 3072)[:2]
        content = {"data": rows, "labels": [index] * len(rows), "label_names": list(builtin.CIFAR10_CLASSES)}
        content["dtype"] = Called(np.dtype, "u1", 0)  # an integer for align, as Python 2 wrote
        (folder / name).write_bytes(pickle.dumps(content))
        digests[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    batches = [[name, digests[name]] for name in builtin.CIFAR10_FILES[1:6]]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", batches)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", digests["test_batch"]]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": digests["batches.meta"]})
    return images.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("below", ["", "cifar-10-batches-py", "cifar10/cifar-10-batches-py"])
def test_cifar10(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str) -> None:
    images_NHWC = cifar10_files(tmp_path / "root" / below, monkeypatch)
    found = opened("cifar10", root=tmp_path / "root")
    np.testing.assert_array_equal(found.pixels_NHWC, images_NHWC)
    assert found.labels is not None
    assert np.bincount(found.labels).tolist() == [4] * 5
    assert found.class_names == builtin.CIFAR10_CLASSES[1:6]
    opened("cifar10", root=tmp_path / "root")
    assert not opened.decoded


def test_cifar10_runs_no_pickle_but_the_published(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "root" / "cifar-10-batches-py"
    cifar10_files(folder, monkeypatch)
    trace = tmp_path / "was-run"
    (folder / "data_batch_3").write_bytes(pickle.dumps(Called(Path.touch, trace)))
    with pytest.raises(GanportError, match="is not CIFAR-10 as published, or damaged"):
        opened("cifar10", root=tmp_path / "root")
    assert not trace.exists()


def test_cifar10_with_a_file_missing(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar10_files(tmp_path / "root" / "cifar-10-batches-py", monkeypatch)
    (tmp_path / "root" / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(GanportError, match="lacks data_batch_4, a file of CIFAR-10"):
        opened("cifar10", root=tmp_path / "root")


def test_a_root_that_is_none(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "gone", tmp_path / "file"):
        with pytest.raises(GanportError, match=f'`root="{root}"` is not a folder'):
            opened("mnist", root=root)
    with pytest.raises(GanportError, match="`root` does not apply to digits"):
        opened("digits", root=tmp_path)


def test_local_files_need_neither_torch_nor_torchvision(tmp_path: Path) -> None:
    save_idx(tmp_path / "root" / "mnist")
    fill(tmp_path / "pictures", "a.png")
    script = (
        "import sys; from pathlib import Path; from gan_trainer.data import open_dataset; "
        "cache = Path(sys.argv[2]); "
        "open_dataset('mnist', root=Path(sys.argv[1]), cache_dir=cache); "
        "open_dataset(sys.argv[3], cache_dir=cache); "
        "print(sorted({'torch', 'torchvision', 'sklearn'} & set(sys.modules)))"
    )
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        script,
        *(str(tmp_path / name) for name in ("root", "c", "pictures")),
    ]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN_FASHION.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "DEBIAN", DEBIAN_FASHION.parent)
    found = opened("fashion-mnist", size=28)
    assert found.pixels_NHWC.shape == (60_000, 28, 28, 1)
    assert found.labels is not None
    assert np.bincount(found.labels).tolist() == [6000] * 10
    assert found.class_names[9] == "Ankle boot"
    assert found.fingerprint == "99e1d1c2cbf8ce49a36792bef03240960d3ebabd2246e2e1b592c605f2c02ee3"
