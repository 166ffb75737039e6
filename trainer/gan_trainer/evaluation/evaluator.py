"""How far a generator's images are from a data set's.

n real images are the reference, n others (held out of it) give the floor, n images of the generator are measured: the
three sets are of one size, since a Fréchet distance depends on how many images it is estimated from. A conditional
generator draws the classes of the held-out images, so that it is asked for what the floor shows. Where the data
hold fewer than 2n images, the floor is of their two halves; where they hold fewer than n, all are the reference.
"""

from __future__ import annotations

import logging
import os
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.pictures import Track, untracked
from gan_serve.runtime.generator import Generator
from gan_trainer.data import ImageDataset
from gan_trainer.devices import resolve, versions
from gan_trainer.evaluation.features import Extractor, choose, extractor, sliced_info
from gan_trainer.evaluation.generators import ShardSet, about, as_generator, at_once
from gan_trainer.evaluation.results import DEFAULT_N, MIN_N, Evaluation, FeaturesInfo, Metrics
from gan_trainer.evaluation.sliced import Sliced
from gan_trainer.evaluation.statistics import Gaussian, Moments, compared, frechet_distance, kernel_distance, manifold
from gan_trainer.networks.generator import GeneratorCheckpoint, SpecGenerator

log = logging.getLogger(__name__)

Drawable = Generator | SpecGenerator | GeneratorCheckpoint | ShardSet | U8 | str | os.PathLike[str]
BATCH_SIZE = 64
SHARDS_AT_ONCE, VALUES_AT_ONCE = 1024, 1 << 24
"""Images of shards, or fewer of so many values, whose features are computed together."""


class Evaluator:
    """Measures any number of generators against one data set; the reference's features are computed once.

    features   "auto", "inception", "classifier" or "swd", see `gan_trainer.evaluation.features`
    n          images of each set; None: half of the data's, at most 10,000
    device     where the feature network runs, and the generators of checkpoints
    cache_dir  where classifiers are kept; None: the usual place
    track      shows how far drawing, and training a classifier, are
    Raises `GanportError` for too few images and for features that cannot be had.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        features: str = "auto",
        *,
        n: int | None = None,
        batch_size: int = BATCH_SIZE,
        device: str | torch.device = "auto",
        cache_dir: Path | None = None,
        track: Track = untracked,
    ) -> None:
        self.dataset = dataset
        self.n = min(DEFAULT_N, len(dataset) // 2) if n is None else n
        _check_numbers(self.n, len(dataset), batch_size)
        self.batch_size = batch_size
        self.device = resolve(device) if isinstance(device, str) else device
        self.track = track
        name = choose(features, dataset)
        order = np.random.default_rng(0).permutation(len(dataset))
        half = min(self.n, len(dataset) // 2)
        self.reference: I64 = np.sort(order[: self.n])
        self._halves = np.sort(order[:half]), np.sort(order[half : 2 * half])
        self.extractor: Extractor | None = None
        if name == "swd":
            self.info: FeaturesInfo = sliced_info(dataset.size, dataset.channels)
        else:
            self.extractor = extractor(name, dataset, self.device, cache_dir, track)
            self.info = self.extractor.info
            if self.n <= self.info.dimensions:
                log.info(
                    f"{self.n:,} images for {self.info.dimensions:,} features: the Fréchet distance is far too large, "
                    "compare it only with that of the real images"
                )

    def evaluate(self, source: Drawable, *, seed: int = 0, model: Json | None = None) -> Evaluation:
        """Draws n images with the seeds `seed` … `seed` + n - 1 and measures them.

        source  a generator (gan_serve's, a module of ours, a checkpoint, a file of any kind that gan-train eval takes),
                uint8 images (n, S, S, C) as they are, or shards, read as they are needed
        model   what the result shall say of it; None: what it says of itself
        Raises `GanportError` for images of another shape than the data's, and classes that do not fit.
        """
        pixels_NHWC, labels, said = self._images(source, seed)
        dataset = self.dataset
        return Evaluation(
            model=said if model is None else model,
            data={
                "name": dataset.name, "fingerprint": dataset.fingerprint, "images": len(dataset), "size": dataset.size,
                "channels": dataset.channels, "class_names": list(dataset.class_names),
            },
            features=self.info, n=len(pixels_NHWC), n_real=len(self.reference), seed=seed,
            metrics=self.measure(pixels_NHWC, labels), floor=self.floor, n_floor=len(self._halves[0]),
            versions=versions(),
        )  # fmt: skip

    def distance(self, source: Drawable, *, seed: int = 0) -> float:
        """Only the leading number of `Metrics.distance`: the Fréchet distance, or the mean of "swd". Quicker."""
        pixels_NHWC, _, _ = self._images(source, seed)
        if self.extractor is None:
            return Metrics(sliced=self._sliced.distance(pixels_NHWC)).distance
        return frechet_distance(self._gaussian, self._features(pixels_NHWC)[1])

    def _images(self, source: Drawable, seed: int) -> tuple[U8 | ShardSet, I64 | None, Json]:
        """Images of a source, the data's classes that they were drawn as, and what the source says of itself."""
        if isinstance(source, ShardSet):
            interface = source.contract.interface
            self._check_shape((interface.height, interface.width, interface.channels))
            _check_numbers(len(source), len(self.dataset), self.batch_size)
            return source, None, source.about
        if isinstance(source, np.ndarray):
            self._check_pixels(source)
            return source, None, {"file": None, "kind": "images"}
        generator = as_generator(source, self.device)
        labels = self.labels_for(generator.contract)
        said = about(generator)
        if isinstance(source, str | os.PathLike):
            said["file"] = Path(source).name
        return self.draw(generator, seed, labels), None if labels is None else self._data_labels(), said

    def measure(self, pixels_NHWC: U8 | ShardSet, labels: I64 | None = None) -> Metrics:
        """All numbers of uint8 images against the reference; `labels` are the data's classes they were drawn as."""
        if self.extractor is None:
            return Metrics(sliced=self._sliced.distance(pixels_NHWC))
        return self._compare(self._reference_features, self._gaussian, *self._features(pixels_NHWC), labels)

    def _features(self, pixels_NHWC: U8 | ShardSet) -> tuple[F32, Gaussian, I64 | None]:
        """The features to compare one with another, the Gaussian of all, and the classes of all."""
        assert self.extractor is not None
        if isinstance(pixels_NHWC, np.ndarray):
            features, classes = self.extractor(pixels_NHWC)
            return features[compared(len(features))], Gaussian.of(features), classes
        rows, moments = compared(len(pixels_NHWC)), Moments()
        kept = np.empty((len(rows), self.info.dimensions), np.float32)
        found = np.empty(len(pixels_NHWC), np.int64)
        classified = False
        step = at_once(pixels_NHWC.shape[1:], SHARDS_AT_ONCE, VALUES_AT_ONCE)
        for chunk in self.track(pixels_NHWC.chunks(step), len(pixels_NHWC), "reading"):
            features, classes = self.extractor(chunk)
            low, high = np.searchsorted(rows, (moments.n, moments.n + len(features)))
            kept[low:high] = features[rows[low:high] - moments.n]
            if classes is not None:
                found[moments.n : moments.n + len(classes)], classified = classes, True
            moments.add(features)
        return kept, moments.gaussian(), found if classified else None

    @cached_property
    def floor(self) -> Metrics:
        """The same numbers of real images: what a perfect generator would score."""
        pixels, (first, second) = self.dataset.pixels_NHWC, self._halves
        if self.extractor is None:
            same = np.array_equal(first, self.reference)
            reference = self._sliced if same else Sliced(pixels, self.device, rows=first)
            return Metrics(sliced=reference.distance(pixels, second))
        real = self._reference_features
        if not np.array_equal(first, self.reference):
            real = self.extractor(pixels, first)[0]
        features, classes = self.extractor(pixels, second)
        labels = None if self.dataset.labels is None else self.dataset.labels[second]
        gaussian = Gaussian.of(features)
        return self._compare(real, Gaussian.of(real), features[compared(len(features))], gaussian, classes, labels)

    def draw(self, generator: Generator, seed: int, labels: I64 | None) -> U8:
        """n images of a generator, uint8 (n, S, S, C), of the seeds from `seed` and as the model's classes `labels`."""
        c, h, w = generator.contract.interface.image
        self._check_shape((h, w, c))
        pixels_NHWC = np.empty((self.n, h, w, c), np.uint8)
        done = 0
        given = None if labels is None else labels.tolist()
        drawn = generator.stream(range(seed, seed + self.n), given, batch_size=self.batch_size)
        for batch in self.track(drawn, self.n, "generating"):
            pixels_NHWC[done : done + len(batch)] = batch
            done += len(batch)
        return pixels_NHWC

    def labels_for(self, contract: Contract) -> I64 | None:
        """The classes a conditional model is asked for, in its own numbering; None for an unconditional one."""
        if not contract.interface.conditional:
            return None
        dataset = self.dataset
        if dataset.labels is None:
            raise GanportError(
                f"the model has {contract.interface.n_classes} classes, {dataset.name} has no labels",
                hint="evaluate it on the labelled data it was trained on",
            )
        if sorted(contract.interface.class_names) == sorted(dataset.class_names):
            number = np.array([contract.interface.class_names.index(name) for name in dataset.class_names])
        elif contract.interface.n_classes == len(dataset.class_names):
            number = np.arange(contract.interface.n_classes)
            if contract.interface.class_names:
                log.info("the model's classes have other names than the data's: taken in their order")
        else:
            raise GanportError(
                f"the model has {contract.interface.n_classes} classes, {dataset.name} has {len(dataset.class_names)}",
                hint="evaluate it on the data it was trained on",
            )
        labels: I64 = number[self._data_labels()]
        return labels

    def _data_labels(self) -> I64:
        """The classes to draw: those of the images held out, and on around the data where n asks for more."""
        assert self.dataset.labels is not None
        order = np.random.default_rng(0).permutation(len(self.dataset))
        labels: I64 = self.dataset.labels[order[(self.n + np.arange(self.n)) % len(order)]]
        return labels

    @cached_property
    def _sliced(self) -> Sliced:
        return Sliced(self.dataset.pixels_NHWC, self.device, rows=self.reference)

    @cached_property
    def _reference_features(self) -> F32:
        assert self.extractor is not None
        return self.extractor(self.dataset.pixels_NHWC, self.reference)[0]

    @cached_property
    def _gaussian(self) -> Gaussian:
        return Gaussian.of(self._reference_features)

    def _compare(
        self,
        real: F32,
        real_gaussian: Gaussian,
        fake: F32,
        gaussian: Gaussian,
        classes: I64 | None,
        labels: I64 | None,
    ) -> Metrics:
        real = real[compared(len(real))]
        kernel, spread = kernel_distance(real, fake)
        n_classes = len(self.dataset.class_names)
        shares: tuple[float, ...] = ()
        if classes is not None:
            shares = tuple((np.bincount(classes, minlength=n_classes) / len(classes)).tolist())
        accuracy: float | None = None
        accuracies: tuple[float | None, ...] = ()
        if classes is not None and labels is not None:
            accuracy, accuracies = _accuracies(classes, labels, n_classes)
        return Metrics(
            frechet=frechet_distance(real_gaussian, gaussian), kernel=kernel, kernel_spread=spread,
            **manifold(real, fake), class_shares=shares, label_accuracy=accuracy, class_accuracies=accuracies,
        )  # fmt: skip

    def _check_pixels(self, pixels_NHWC: U8) -> None:
        if pixels_NHWC.ndim != 4 or pixels_NHWC.dtype != np.uint8:
            raise GanportError(
                f"images must be uint8 (n, H, W, C), got {pixels_NHWC.dtype} {tuple(pixels_NHWC.shape)}",
                hint="gan_core.images.to_pixels turns a generator's floats into them",
            )
        self._check_shape((pixels_NHWC.shape[1], pixels_NHWC.shape[2], pixels_NHWC.shape[3]))
        _check_numbers(len(pixels_NHWC), len(self.dataset), self.batch_size)

    def _check_shape(self, shape: tuple[int, int, int]) -> None:
        expected = self.dataset.pixels_NHWC.shape[1:]
        if shape != expected:
            h, w, c = shape
            raise GanportError(
                f"the images are {w}x{h} with {c} channels, the data {expected[1]}x{expected[0]} with {expected[2]}",
                hint="open the data at the model's size and channels",
            )


def evaluate(
    source: Drawable,
    dataset: ImageDataset,
    features: str = "auto",
    *,
    n: int | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
) -> Evaluation:
    """Measures one generator, or uint8 images, against a data set. Arguments and errors as `Evaluator`'s."""
    return Evaluator(dataset, features, n=n, device=device).evaluate(source, seed=seed)


def _check_numbers(n: int, n_data: int, batch_size: int) -> None:
    if n_data < 2 * MIN_N:
        raise GanportError(
            f"an evaluation needs at least {2 * MIN_N} real images, the data hold {n_data}", hint="add images"
        )
    if n < MIN_N:
        raise GanportError(f"an evaluation needs at least {MIN_N} images, got {n}", hint="10,000 are usual")
    if batch_size < 1:
        raise GanportError(f"batch size must be at least 1, got {batch_size}", hint="leave it out for a good one")


def _accuracies(classes: I64, labels: I64, n_classes: int) -> tuple[float, tuple[float | None, ...]]:
    right = classes == labels
    each = tuple(
        float(right[labels == label].mean()) if (labels == label).any() else None for label in range(n_classes)
    )
    return float(right.mean()), each
