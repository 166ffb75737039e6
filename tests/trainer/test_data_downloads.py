"""Data sets known by name that have to be fetched: from where, once, and what is said when it fails."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from gan_core.errors import GanportError
from trainer.data_files import Opened, fill, no_network, save_idx

pytestmark = pytest.mark.usefixtures("bare_machine")


class FakeDatasets:
    """A torchvision dataset class that 'downloads' with `fetch(folder)`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, fetch: object) -> None:
        self.calls: list[tuple[Path, dict[str, object]]] = []

        def dataset(root: str, **settings: object) -> None:
            self.calls.append((Path(root), settings))
            print("Downloading!")
            fetch(Path(root))  # type: ignore[operator]

        pytest.importorskip("torchvision")
        monkeypatch.setattr(f"torchvision.datasets.{name}", dataset)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mnist", "put train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz in a folder and name it: `root`"),
        ("fashion-mnist", "sudo apt install dataset-fashion-mnist, or put train-images"),
        ("cifar10", "the unpacked cifar-10-python.tar.gz"),
        ("celeba", "the unpacked img_align_celeba.zip"),
    ],
)
def test_without_a_network_one_line_and_what_to_do(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    pytest.importorskip("torchvision")
    no_network(monkeypatch)
    with pytest.raises(GanportError) as caught:
        opened(name)
    assert str(caught.value).startswith(f"{name} is not on this machine and could not be downloaded: ")
    assert "Name or service not known" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hint in caught.value.hint
    assert list((opened.cache_dir / "downloads").iterdir()) == []


FAILURES = [
    (URLError("timed out"), "timed out"),
    (URLError(OSError(111, "Connection refused")), "Connection refused"),
    (HTTPError("http://x", 403, "Forbidden", None, None), "Forbidden"),  # type: ignore[arg-type]
    (TimeoutError("the read operation timed out"), "the read operation timed out"),
    (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
    (
        RuntimeError("Error downloading x:\nTried one, got:\nFile not found or corrupted."),
        "File not found or corrupted.",
    ),
    (
        RuntimeError("Error:\nTried one, got:\n<urlopen error [Errno -2] Name or service not known>\n"),
        "Name or service not known",
    ),
    (ModuleNotFoundError("No module named 'gdown'"), "No module named 'gdown'"),
    (RuntimeError(), "RuntimeError"),
]


@pytest.mark.parametrize(("error", "reason"), FAILURES, ids=[reason for _, reason in FAILURES])
def test_every_failed_download_is_one_line(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fetch(folder: Path) -> None:
        (folder / "half").write_bytes(b"x")
        raise error

    FakeDatasets(monkeypatch, "MNIST", fetch)
    with pytest.raises(GanportError) as caught:
        opened("mnist")
    assert str(caught.value) == f"mnist is not on this machine and could not be downloaded: {reason}"
    assert list((opened.cache_dir / "downloads").iterdir()) == []


def test_a_download_is_kept(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeDatasets(monkeypatch, "FashionMNIST", lambda folder: save_idx(folder / "FashionMNIST" / "raw"))
    assert len(opened("fashion-mnist")) == 12
    assert "not on this machine, downloading it to" in opened.notes[0]
    assert len(opened("fashion-mnist")) == 12
    assert [settings for _, settings in fake.calls] == [{"download": True, "train": True}]
    assert capsys.readouterr().out == "", "stdout is data"


def test_celeba_downloads_every_split(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDatasets(monkeypatch, "CelebA", lambda folder: fill(folder / "celeba/img_align_celeba", "000001.jpg"))
    assert len(opened("celeba")) == 1
    assert fake.calls[0][1] == {"download": True, "split": "all"}


def test_a_download_that_holds_something_else(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeDatasets(monkeypatch, "MNIST", lambda folder: (folder / "readme").write_text("moved"))
    with pytest.raises(GanportError, match="the download does not hold it"):
        opened("mnist")


def test_a_full_disk_while_downloading(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(_: Path) -> None:
        raise OSError(28, "No space left on device")

    FakeDatasets(monkeypatch, "MNIST", fetch)
    with pytest.raises(GanportError, match=r"no room to write .*downloads: No space left on device"):
        opened("mnist")


def test_a_cache_that_cannot_be_written(opened: Opened) -> None:
    pytest.importorskip("torchvision")
    opened.cache_dir.write_text("a file")
    with pytest.raises(GanportError, match=r"cannot write .*downloads"):
        opened("mnist")


def test_without_torchvision(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(GanportError, match="torchvision, which downloads it, is not installed"):
        opened("fashion-mnist")
