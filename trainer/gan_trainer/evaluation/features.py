"""Which features images are compared by, chosen by name.

auto        "classifier" where the data have labels, else "swd": it depends on the data alone, never on what happens
            to be installed, so that the same command gives comparable numbers everywhere
inception   torch-fidelity's Inception v3, the features of the published FID
classifier  a small network trained on the same data, see `gan_trainer.evaluation.classifier`
swd         no network: patches, see `gan_trainer.evaluation.sliced`
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from gan_core.arrays import F32, I64, U8
from gan_core.errors import GanportError, MissingPackageError
from gan_core.files.model_file import sha256_of
from gan_core.installation import install
from gan_core.pictures import Track
from gan_trainer.data import ImageDataset
from gan_trainer.evaluation import sliced
from gan_trainer.evaluation.classifier import ClassifierFeatures
from gan_trainer.evaluation.results import FEATURES, FeaturesInfo


class Extractor(Protocol):
    """Images → features, with a network that stays on one device."""

    info: FeaturesInfo

    def __call__(self, pixels_NHWC: U8, rows: I64 | None = None) -> tuple[F32, I64 | None]:
        """(features float32 (n, d), classes int64 (n,) or None) of uint8 images, or of some of their rows."""


def choose(features: str, dataset: ImageDataset) -> str:
    """The feature set that a name means for these data. Raises `GanportError` for a name that does not exist."""
    if features not in FEATURES:
        raise GanportError(f"no features are called {features!r}", hint=f"features: {', '.join(FEATURES)}")
    if features != "auto":
        return features
    return "swd" if dataset.labels is None else "classifier"


def extractor(
    name: str, dataset: ImageDataset, device: torch.device, cache_dir: Path | None, track: Track
) -> Extractor:
    """The network called `name`, "inception" or "classifier". Raises `GanportError` where it cannot be had."""
    return InceptionFeatures(device) if name == "inception" else ClassifierFeatures(dataset, device, cache_dir, track)


def sliced_info(size: int, channels: int) -> FeaturesInfo:
    """What is printed of "swd" for images of this shape."""
    levels = sliced.sides(size)
    text = json.dumps({**sliced.CONFIGURATION, "sides": levels, "channels": channels}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    at = ", ".join(map(str, levels))
    return FeaturesInfo("swd", digest, 0, f"no network: {sliced.PATCH}x{sliced.PATCH} patches at {at} pixels")


DIMENSIONS = 2048
BATCH_SIZE = 32
INSTEAD = '`features="classifier"` (labelled data) and `features="swd"` need neither package nor download'


class InceptionFeatures:
    """The 2048 values of Inception's last pooling layer, as the published FID has them, through torch-fidelity.

    Its weights (the TensorFlow network of 2015, converted) are in torch's hub folder, or torch-fidelity downloads
    them. Grey images are shown as RGB; torch-fidelity scales them to 299x299 as TensorFlow did.
    Raises `MissingPackageError` without torch-fidelity, `GanportError` when its weights cannot be had.
    """

    def __init__(self, device: torch.device) -> None:
        try:
            from torch_fidelity import feature_extractor_inceptionv3 as fidelity
        except ModuleNotFoundError as error:
            missing = (error.name or "torch_fidelity").partition(".")[0].replace("_", "-")
            raise MissingPackageError(
                missing, "inception", '`features="inception"`',
                hint=f"{install('inception')}; {INSTEAD}",
            ) from error  # fmt: skip
        path = _weights_path(fidelity)
        try:
            with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
        except (OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise GanportError(
                f"Inception's weights cannot be had: {reason}", hint=f"put them at {path}; {INSTEAD}"
            ) from error
        self.network: Any = network.eval().to(device)
        self.device = device
        digest = sha256_of(path)[:12] if path.is_file() else "unknown"
        self.info = FeaturesInfo(
            "inception", digest, DIMENSIONS, f"{DIMENSIONS} features of Inception v3 (2015, as the published FID)"
        )

    @torch.no_grad()
    def __call__(self, pixels_NHWC: U8, rows: I64 | None = None) -> tuple[F32, I64 | None]:
        rows = np.arange(len(pixels_NHWC)) if rows is None else rows
        parts = []
        for start in range(0, len(rows), BATCH_SIZE):
            batch = torch.from_numpy(pixels_NHWC[rows[start : start + BATCH_SIZE]]).permute(0, 3, 1, 2)
            (found,) = self.network(batch.expand(-1, 3, -1, -1).contiguous().to(self.device))
            parts.append(found.cpu().numpy().astype(np.float32))
        return np.concatenate(parts), None


def _weights_path(fidelity: Any) -> Path:
    """Where torch-fidelity looks for the file and downloads it to."""
    url = str(getattr(fidelity, "URL_INCEPTION_V3", "weights-inception-2015-12-05-6726825d.pth"))
    return Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(url)  # noqa: PTH119 (a URL's)
