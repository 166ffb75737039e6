"""A small classifier whose inner layer serves as features: what Inception is to photographs, this is to one data set.

It is trained on nine tenths of the labelled images (the rest, at most 10,000, gives its accuracy) and is the same for
the same data, machine and number of threads. Features are the 64 values before the last layer, divided by one number so
that those of the training images have a mean variance of 1: distances are then in squared standard deviations of the
real images, whatever scale a training happens upon.

Trained classifiers are kept under a hash of the data set's fingerprint and `CONFIGURATION`, so that other images, or
another way of training, never meet an old network. A file that does not read is trained again.

    FOLDER/evaluators/classifier-KEY.pt   {"ganport_classifier": 1, "weights", "accuracy"}
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.arrays import F32, I64, U8
from gan_core.errors import GanportError
from gan_core.pictures import Track, untracked
from gan_trainer.batches import normalise
from gan_trainer.data import ImageDataset
from gan_trainer.data.cache import CACHE_VARIABLE, default_cache_dir
from gan_trainer.data.store import keep_within, touch
from gan_trainer.evaluation.results import FeaturesInfo
from gan_trainer.networks.generator import load_torch, save_torch

log = logging.getLogger(__name__)

FORMAT = 1
WIDTH = 24
FEATURES = 64
INNER_SIDE = 32
"""Larger images are halved by strided convolutions until they are no larger."""

BATCH_SIZE = 128
IMAGES_SEEN = 160_000
EPOCHS = (2, 20)
LEAST_STEPS = 200
LR = 3e-3
WEIGHT_DECAY = 0.01
LABEL_SMOOTHING = 0.05
SHIFT = 2
MAX_TEST = 10_000
MIN_IMAGES = 20
APPLIED_AT_ONCE = 256

CONFIGURATION = {
    "version": 1, "width": WIDTH, "features": FEATURES, "inner_side": INNER_SIDE, "batch_size": BATCH_SIZE,
    "images_seen": IMAGES_SEEN, "epochs": EPOCHS, "least_steps": LEAST_STEPS, "lr": LR,
    "weight_decay": WEIGHT_DECAY, "seed": 0, "label_smoothing": LABEL_SMOOTHING, "shift": SHIFT, "max_test": MAX_TEST,
}  # fmt: skip
"""All that decides the weights beside the data: part of the key that a trained classifier is kept under."""


class Classifier(nn.Module):
    """forward(images float32 (N, C, S, S) in [-1, 1]) → logits (N, n_classes).

    `accuracy` is the share of the images kept from its training that it puts in their class, in [0, 1].
    """

    accuracy = math.nan

    def __init__(self, channels: int, size: int, n_classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        while size > INNER_SIDE:
            blocks.append(_block(channels, WIDTH, stride=2))
            channels, size = WIDTH, -(-size // 2)
        blocks += [_block(channels, WIDTH, 1), _block(WIDTH, 2 * WIDTH, 2), _block(2 * WIDTH, 4 * WIDTH, 2)]
        self.body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.inner = nn.Sequential(nn.Linear(16 * WIDTH, FEATURES, bias=False), nn.BatchNorm1d(FEATURES), nn.ReLU())
        self.head = nn.Linear(FEATURES, n_classes)
        self.register_buffer("scale", torch.ones(()))
        self.scale: Tensor

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits: Tensor = self.head(self.inner(self.body(images_NCHW)))
        return logits

    def both(self, images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(features divided by their scale, logits)."""
        inner = self.inner(self.body(images_NCHW))
        return inner / self.scale, self.head(inner)


def split(n: int) -> tuple[I64, I64]:
    """Indices to train on and to test on, of `n` images."""
    order = np.random.default_rng(CONFIGURATION["seed"]).permutation(n)  # type: ignore[arg-type]
    n_test = min(MAX_TEST, n // 10)
    return np.sort(order[n_test:]), np.sort(order[:n_test])


def train_classifier(
    pixels_NHWC: U8,
    labels: I64,
    n_classes: int,
    device: torch.device,
    track: Track = untracked,
) -> Classifier:
    """Trained on uint8 images (N, S, S, C) with labels (N,), in eval mode on the CPU; `track` shows how far it is.

    Raises `GanportError` for fewer than 20 images. Leaves torch's global random state as it was.
    """
    if len(pixels_NHWC) < MIN_IMAGES:
        raise GanportError(
            f"a classifier needs at least {MIN_IMAGES} labelled images, the data hold {len(pixels_NHWC)}",
            hint='`features="swd"` needs no classifier',
        )
    rows, tests = split(len(pixels_NHWC))
    per_epoch = -(-len(rows) // BATCH_SIZE)
    epochs = max(int(np.clip(round(IMAGES_SEEN / len(rows)), *EPOCHS)), -(-LEAST_STEPS // per_epoch))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Classifier(pixels_NHWC.shape[3], pixels_NHWC.shape[1], n_classes).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=epochs * per_epoch)
        rng = np.random.default_rng(1)

        def batches() -> Iterator[I64]:
            for _ in range(epochs):
                order = rng.permutation(rows)
                for start in range(0, len(rows), BATCH_SIZE):
                    yield np.sort(order[start : start + BATCH_SIZE])

        for chosen in track(batches(), epochs * len(rows), "training a classifier"):
            if len(chosen) > 1:  # BatchNorm
                images = _shifted(_batch(pixels_NHWC, chosen, device), rng)
                target = torch.from_numpy(labels[chosen]).to(device)
                loss = F.cross_entropy(network(images), target, label_smoothing=LABEL_SMOOTHING)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
    network.eval()
    features, _ = apply(network, pixels_NHWC, rows[: 1 << 14])
    network.scale.fill_(max(float(features.var(0, ddof=1).mean()) ** 0.5, 1e-6))
    _, classes = apply(network, pixels_NHWC, tests)
    network.accuracy = float((classes == labels[tests]).mean())
    return network.cpu()


@torch.no_grad()
def apply(network: Classifier, pixels_NHWC: U8, rows: I64 | None = None) -> tuple[F32, I64]:
    """(features float32 (n, 64), classes int64 (n,)) of some or all images, on the network's device."""
    device = network.scale.device
    rows = np.arange(len(pixels_NHWC)) if rows is None else rows
    # Not a list of parts: each would lie in the heap behind a batch's activations, and keep it from shrinking.
    features, classes = np.empty((len(rows), FEATURES), np.float32), np.empty(len(rows), np.int64)
    for start in range(0, len(rows), APPLIED_AT_ONCE):
        part = slice(start, start + APPLIED_AT_ONCE)
        inner, logits = network.both(_batch(pixels_NHWC, rows[part], device))
        features[part], classes[part] = inner.cpu().numpy(), logits.argmax(1).cpu().numpy()
    return features, classes


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _batch(pixels_NHWC: U8, rows: I64, device: torch.device) -> Tensor:
    return normalise(torch.from_numpy(pixels_NHWC[rows]).to(device))


def _shifted(images_NCHW: Tensor, rng: np.random.Generator) -> Tensor:
    """The batch moved by up to `SHIFT` pixels either way; edges repeat."""
    top, left = rng.integers(0, 2 * SHIFT + 1, 2)
    side = images_NCHW.shape[-1]
    padded = F.pad(images_NCHW, (SHIFT,) * 4, mode="replicate")
    return padded[:, :, top : top + side, left : left + side]


def classifier_for(
    dataset: ImageDataset, device: torch.device, *, cache_dir: Path | None = None, track: Track = untracked
) -> Classifier:
    """The data set's classifier: read from the cache, or trained on `device` and kept there.

    cache_dir  None: where decoded images are kept, too
    Raises `GanportError` for a data set without classes, or with too few images.
    """
    if dataset.labels is None:
        raise GanportError(
            f"{dataset.name} has no labels to train a classifier on",
            hint='`features="swd"` needs none; or sort the images into one folder per class',
        )
    key = json.dumps({"fingerprint": dataset.fingerprint, "format": FORMAT, **CONFIGURATION}, sort_keys=True)
    folder = default_cache_dir() if cache_dir is None else cache_dir
    name = f"classifier-{hashlib.sha256(key.encode()).hexdigest()[:24]}.pt"
    path = None if folder is None else folder / "evaluators" / name
    found = None if path is None else _read(path, dataset)
    if path is not None and found is not None:
        touch(path)
        return found
    log.info(f"training a classifier on {len(dataset):,} images of {dataset.name}, once for these data")
    network = train_classifier(dataset.pixels_NHWC, dataset.labels, len(dataset.class_names), device, track)
    if path is None:
        log.info(f"the classifier is not kept: there is no cache folder; {CACHE_VARIABLE} names one")
        return network
    try:
        save_torch(
            {"ganport_classifier": FORMAT, "weights": network.state_dict(), "accuracy": network.accuracy}, path
        )  # fmt: skip
    except GanportError as error:
        log.info(f"the classifier is not kept: {error}; {CACHE_VARIABLE} names another folder")
    else:
        log.info(f"classifier kept in {path}")
        keep_within(path.parent.parent, but=path)
    return network


class ClassifierFeatures:
    """The classifier of a data set as an `Extractor`."""

    def __init__(self, dataset: ImageDataset, device: torch.device, cache_dir: Path | None, track: Track) -> None:
        network = classifier_for(dataset, device, cache_dir=cache_dir, track=track)
        self.info = FeaturesInfo(
            "classifier", weights_hash(network), FEATURES,
            f"{FEATURES} features of a small classifier of {dataset.name} {dataset.size}x{dataset.size} "
            f"({network.accuracy:.1%} right on images kept from it)",
            network.accuracy,
        )  # fmt: skip
        self.network = network.to(device)

    def __call__(self, pixels_NHWC: U8, rows: I64 | None = None) -> tuple[F32, I64 | None]:
        return apply(self.network, pixels_NHWC, rows)


def weights_hash(network: nn.Module) -> str:
    """12 hex digits of the sha256 over a network's tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _read(path: Path, dataset: ImageDataset) -> Classifier | None:
    if not path.exists():
        return None
    network = Classifier(dataset.channels, dataset.size, len(dataset.class_names))
    try:
        content = load_torch(path, "classifier", hint="delete it")
        if content["ganport_classifier"] != FORMAT:
            raise ValueError(f"format {content['ganport_classifier']!r}")
        network.load_state_dict(content["weights"])
        network.accuracy = float(content["accuracy"])
        return network.eval()
    except Exception as error:  # torch raises many kinds for a damaged file
        why = error if isinstance(error, GanportError) else type(error).__name__
        log.info(f"the kept classifier {path.name} does not read ({why}); training it again")
        return None
