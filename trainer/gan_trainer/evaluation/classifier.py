"""A small classifier whose inner layer serves as features: what Inception is to photographs, this is to one data set.

It is trained on nine tenths of the labelled images (the rest, at most 10,000, gives its accuracy) and is the same for
the same data, machine and number of threads. Features are the 64 values before the last layer, divided by one number so
that those of the training images have a mean variance of 1: distances are then in squared standard deviations of the
real images, whatever scale a training happens upon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.errors import GanportError
from gan_core.images import U8
from gan_trainer.batches import normalise
from gan_trainer.data.decode import I64

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

CONFIGURATION = {
    "version": 1, "width": WIDTH, "features": FEATURES, "inner_side": INNER_SIDE, "batch_size": BATCH_SIZE,
    "images_seen": IMAGES_SEEN, "epochs": EPOCHS, "least_steps": LEAST_STEPS, "lr": LR,
    "weight_decay": WEIGHT_DECAY, "seed": 0, "label_smoothing": LABEL_SMOOTHING, "shift": SHIFT, "max_test": MAX_TEST,
}  # fmt: skip
"""All that decides the weights beside the data: part of the key that a trained classifier is kept under."""


class Classifier(nn.Module):
    """forward(images float32 (N, C, S, S) in [-1, 1]) → logits (N, n_classes); `features` gives (N, 64)."""

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


@dataclass(frozen=True)
class Trained:
    """A classifier in eval mode on the CPU, and its accuracy on the images that were kept from it, in [0, 1]."""

    network: Classifier
    accuracy: float


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
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
) -> Trained:
    """Trains on uint8 images (N, S, S, C) with labels (N,). `on_step` gets (steps done, steps in all).

    Raises `GanportError` for fewer than 20 images. Leaves torch's global random state as it was.
    """
    if len(pixels_NHWC) < MIN_IMAGES:
        raise GanportError(
            f"a classifier needs at least {MIN_IMAGES} labelled images, the data hold {len(pixels_NHWC)}",
            hint="--features swd needs no classifier",
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
        for step in range(epochs * per_epoch):
            at = step % per_epoch
            if at == 0:
                order = rng.permutation(rows)
            chosen = np.sort(order[at * BATCH_SIZE : (at + 1) * BATCH_SIZE])
            if len(chosen) > 1:  # BatchNorm
                images = _shifted(_batch(pixels_NHWC, chosen, device), rng)
                target = torch.from_numpy(labels[chosen]).to(device)
                loss = F.cross_entropy(network(images), target, label_smoothing=LABEL_SMOOTHING)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
            on_step(step + 1, epochs * per_epoch)
    network.eval()
    features, _ = apply(network, pixels_NHWC, rows[: 1 << 14])
    network.scale.fill_(max(float(features.var(0, ddof=1).mean()) ** 0.5, 1e-6))
    _, classes = apply(network, pixels_NHWC, tests)
    return Trained(network.cpu(), float((classes == labels[tests]).mean()))


@torch.no_grad()
def apply(
    network: Classifier, pixels_NHWC: U8, rows: I64 | None = None, batch_size: int = 256
) -> tuple[np.typing.NDArray[np.float32], I64]:
    """(features float32 (n, 64), classes int64 (n,)) of some or all images, on the network's device."""
    device = network.scale.device
    rows = np.arange(len(pixels_NHWC)) if rows is None else rows
    features, classes = [np.empty((0, FEATURES), np.float32)], [np.empty(0, np.int64)]
    for start in range(0, len(rows), batch_size):
        inner, logits = network.both(_batch(pixels_NHWC, rows[start : start + batch_size], device))
        features.append(inner.cpu().numpy())
        classes.append(logits.argmax(1).cpu().numpy())
    return np.concatenate(features), np.concatenate(classes)


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
