"""The data sets known by name: where they lie on this machine, and fetching them where they do not.

Reading is ours where the format is simple (idx, a folder of JPEGs); torchvision downloads, checks and unpacks. It is
imported only for that, and for CIFAR-10, whose pickles it compares with known digests before it reads them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gan_core.errors import GanportError, MissingPackageError
from gan_core.files.atomic import explain_os_errors, hidden_name, sweep
from gan_core.pictures import ArrayPictures, Arrays, Pictures
from gan_core.pictures.folder import FolderPictures
from gan_core.pictures.idx import BELOW, DATA_VARIABLE, DEBIAN, content_hash, find_pair, idx_pictures
from gan_trainer.networks.architectures import NATURAL_SIZES

log = logging.getLogger(__name__)

TEN_DIGITS = tuple(map(str, range(10)))
GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_FILES = ("batches.meta", *(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


@dataclass(frozen=True)
class Download:
    """A data set that is a matter of files.

    `below` are the folders under a root where it may lie, in order; `holds(folder)` tells whether it does;
    `open(folder)` makes it a source. `torchvision` names the class that downloads it, `by_hand` says what else to do.
    """

    name: str
    torchvision: str
    below: tuple[str, ...]
    holds: Callable[[Path], bool]
    open: Callable[[Path], Pictures]
    by_hand: str


def digits() -> Pictures:
    """scikit-learn's 1,797 handwritten digits (UCI optdigits), 8x8, 0 … 16 scaled to 0 … 255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingPackageError("scikit-learn", "train", "the data set digits") from error
    bunch = load_digits()
    pixels = np.floor(bunch.images * (255 / 16) + 0.5).astype(np.uint8)
    labels = np.asarray(bunch.target, np.int64)

    def read() -> Arrays:
        return pixels, labels, TEN_DIGITS

    identity = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    return ArrayPictures("digits", "digits", identity, 32, read, len(pixels), 1)


def open_builtin(name: str, root: Path | None, downloads: Path | None) -> Pictures:
    """The data set `name`, from this machine if it lies here, else downloaded into `downloads`.

    Looked up in `root`, $GANPORT_DATA, Debian's folder and `downloads`. Raises `GanportError` when it is nowhere
    and cannot be downloaded, and when what was found is damaged.
    """
    if name == "digits":
        return digits()
    wanted = DOWNLOADS[name]
    folder = locate(wanted, root, downloads)
    if folder is None:
        folder = _download(wanted, downloads)
    log.info(f"{name}: {folder}")
    return wanted.open(folder)


def locate(wanted: Download, root: Path | None, downloads: Path | None) -> Path | None:
    """The folder on this machine that holds a data set, or None. Only `root` may itself be that folder."""
    if root is not None and not root.is_dir():
        raise GanportError(f'`root="{root}"` is not a folder', hint=f"name the folder that holds {wanted.name}")
    roots = [root, Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None, DEBIAN, downloads]
    for place in roots:
        if place is None:
            continue
        below = (*wanted.below, "") if place is root else wanted.below
        for name in below:
            with contextlib.suppress(OSError):  # a root that may not be read holds nothing for us
                if wanted.holds(place / name):
                    return place / name
    return None


def _download(wanted: Download, downloads: Path | None) -> Path:
    if downloads is None:
        raise _absent(wanted, "there is no cache folder to download it to")
    try:
        from torchvision import datasets
    except ImportError as error:
        raise _absent(wanted, "torchvision, which downloads it, is not installed") from error
    log.info(f"{wanted.name}: not on this machine, downloading it to {downloads}")
    with explain_os_errors(downloads):
        downloads.mkdir(parents=True, exist_ok=True)
        # Into a folder of its own, renamed when whole: an interrupted download is never taken for the data set.
        sweep(downloads)
        part = downloads / hidden_name(wanted.name)
        try:
            part.mkdir()
            _fetch(wanted, getattr(datasets, wanted.torchvision), part)
            if not (downloads / wanted.name).exists():  # another process may have been faster
                part.rename(downloads / wanted.name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    folder = locate(wanted, None, downloads)
    if folder is None:
        raise _absent(wanted, "the download does not hold it")
    return folder


def _fetch(wanted: Download, dataset: Any, folder: Path) -> None:
    settings = {"split": "all"} if wanted.name == "celeba" else {"train": True}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torchvision prints where we keep data
            dataset(str(folder), download=True, **settings)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise  # the disk's fault, not the network's
        cause = getattr(error, "reason", error)  # urllib wraps the socket's error
        raise _absent(wanted, _last_line(getattr(cause, "strerror", None) or cause)) from error
    except Exception as error:  # RuntimeError for a failed mirror or digest, ModuleNotFoundError for gdown, …
        raise _absent(wanted, _last_line(error)) from error


def _last_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torchvision quotes urllib's error for each mirror in a text of its own
    return re.sub(r"<urlopen error (?:\[Errno -?\d+\] )?(.*)>", r"\1", lines[-1]) if lines else type(error).__name__


def _absent(wanted: Download, reason: str) -> GanportError:
    return GanportError(
        f"{wanted.name} is not on this machine and could not be downloaded: {reason}", hint=wanted.by_hand
    )


def _holds_idx(folder: Path) -> bool:
    return folder.is_dir() and find_pair(folder) is not None


def _open_idx(name: str, class_names: tuple[str, ...]) -> Callable[[Path], Pictures]:
    def open_folder(folder: Path) -> Pictures:
        pair = find_pair(folder)
        assert pair is not None, "holds() said so"
        return idx_pictures(name, pair, NATURAL_SIZES, class_names)

    return open_folder


def _holds_cifar10(folder: Path) -> bool:
    return (folder / CIFAR10_FILES[1]).is_file()


def _open_cifar10(folder: Path) -> Pictures:
    for name in CIFAR10_FILES:
        if not (folder / name).is_file():
            raise GanportError(f"{folder} lacks {name}, a file of CIFAR-10", hint="unpack cifar-10-python.tar.gz again")

    def read() -> Arrays:
        try:
            from torchvision import datasets
        except ImportError as error:
            raise MissingPackageError("torchvision", "train", "the data set cifar10") from error

        class Here(datasets.CIFAR10):  # type: ignore[misc]
            base_folder = folder.name

        try:
            with warnings.catch_warnings():  # numpy 2.4.0 to 2.4.4 mind the integers that Python 2 pickled
                warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
                found = Here(str(folder.parent), train=True, download=False)
        except RuntimeError as error:
            raise GanportError(
                f"{folder} is not CIFAR-10 as published, or damaged: {_last_line(error)}",
                hint="unpack cifar-10-python.tar.gz again",
            ) from error
        return np.asarray(found.data, np.uint8), np.asarray(found.targets, np.int64), CIFAR10_CLASSES

    identity = content_hash(tuple(folder / name for name in CIFAR10_FILES))
    return ArrayPictures("cifar10", str(folder.resolve()), identity, 32, read, 50_000, 3)


def _holds_faces(folder: Path) -> bool:
    return folder.is_dir() and (any(folder.glob("*.jpg")) or any(folder.glob("img_align_celeba/*.jpg")))


def _open_faces(folder: Path) -> Pictures:
    return FolderPictures(folder, name="celeba", classes=False)


def _by_hand(files: str, package: str = "") -> str:
    install = f"sudo apt install {package}, or " if package else ""
    return f"{install}put {files} in a folder and name it: `root`"


_IDX_FILES = "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz"

DOWNLOADS = {
    download.name: download
    for download in (
        Download(
            "mnist", "MNIST", BELOW["mnist"], _holds_idx, _open_idx("mnist", TEN_DIGITS),
            _by_hand(_IDX_FILES),
        ),
        Download(
            "fashion-mnist", "FashionMNIST", BELOW["fashion-mnist"],
            _holds_idx, _open_idx("fashion-mnist", GARMENTS), _by_hand(_IDX_FILES, "dataset-fashion-mnist"),
        ),
        Download(
            "cifar10", "CIFAR10", ("cifar-10-batches-py", "cifar10", "cifar10/cifar-10-batches-py"), _holds_cifar10,
            _open_cifar10, _by_hand("the unpacked cifar-10-python.tar.gz"),
        ),
        Download(
            "celeba", "CelebA", ("celeba/img_align_celeba", "img_align_celeba", "celeba/celeba/img_align_celeba"),
            _holds_faces, _open_faces, _by_hand("the unpacked img_align_celeba.zip"),
        ),
    )
}  # fmt: skip

BUILTIN = ("digits", *DOWNLOADS)
"""The names that `open_dataset` takes besides paths."""
