"""Which features images are compared by, chosen by name.

auto        "classifier" where the data have labels, else "swd": it depends on the data alone, never on what happens
            to be installed, so that the same command gives comparable numbers everywhere
inception   torch-fidelity's Inception v3, the features of the published FID
classifier  a small network trained on the same data, see `gan_trainer.evaluation.classifier`
swd         no network: patches, see `gan_trainer.evaluation.sliced`
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from gan_core.errors import GanportError
from gan_core.images import U8
from gan_trainer.data import ImageDataset
from gan_trainer.data.decode import I64
from gan_trainer.evaluation import classifier, sliced
from gan_trainer.evaluation.choices import FEATURES
from gan_trainer.evaluation.classifier_cache import classifier_for, weights_hash
from gan_trainer.evaluation.results import FeaturesInfo

F32 = npt.NDArray[np.float32]


class Extractor(Protocol):
    """Images → features, with a network that stays on one device."""

    info: FeaturesInfo

    def __call__(self, pixels_NHWC: U8, rows: I64 | None = None) -> tuple[F32, I64 | None]:
        """(features float32 (n, d), classes int64 (n,) or None) of uint8 images, or of some of their rows."""


class ClassifierFeatures:
    """The classifier of a data set as an `Extractor`."""

    def __init__(
        self, dataset: ImageDataset, device: torch.device, cache_dir: Path | None, on_note: Callable[[str], None]
    ) -> None:
        trained = classifier_for(dataset, device, cache_dir=cache_dir, on_note=on_note)
        digest = weights_hash(trained.network)
        self.network = trained.network.to(device)
        self.info = FeaturesInfo(
            "classifier", digest, classifier.FEATURES,
            f"{classifier.FEATURES} features of a small classifier of {dataset.name} {dataset.size}x{dataset.size} "
            f"({trained.accuracy:.1%} right on images kept from it)",
            trained.accuracy,
        )  # fmt: skip

    def __call__(self, pixels_NHWC: U8, rows: I64 | None = None) -> tuple[F32, I64 | None]:
        return classifier.apply(self.network, pixels_NHWC, rows)


def choose(features: str, dataset: ImageDataset) -> str:
    """The feature set that a name means for these data. Raises `GanportError` for a name that does not exist."""
    if features not in FEATURES:
        raise GanportError(f"no features are called {features!r}", hint=f"features: {', '.join(FEATURES)}")
    if features != "auto":
        return features
    return "swd" if dataset.labels is None else "classifier"


def extractor(
    name: str, dataset: ImageDataset, device: torch.device, cache_dir: Path | None, on_note: Callable[[str], None]
) -> Extractor:
    """The network called `name`, "inception" or "classifier". Raises `GanportError` where it cannot be had."""
    if name == "inception":
        from gan_trainer.evaluation.inception import InceptionFeatures

        return InceptionFeatures(device)
    return ClassifierFeatures(dataset, device, cache_dir, on_note)


def sliced_info(size: int, channels: int) -> FeaturesInfo:
    """What is printed of "swd" for images of this shape."""
    levels = sliced.sides(size)
    text = json.dumps({**sliced.CONFIGURATION, "sides": levels, "channels": channels}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    at = ", ".join(map(str, levels))
    return FeaturesInfo("swd", digest, 0, f"no network: {sliced.PATCH}x{sliced.PATCH} patches at {at} pixels")
