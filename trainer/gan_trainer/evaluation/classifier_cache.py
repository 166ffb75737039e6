"""Trained classifiers, kept in the cache folder under a hash of data and configuration.

    FOLDER/evaluators/classifier-KEY.pt   {"ganport_classifier": 1, "weights", "accuracy"}

KEY is of the data set's fingerprint and `classifier.CONFIGURATION`, so that other images, or another way of training,
never meet an old network. The file is written whole or not at all; one that does not read is trained again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch

from gan_core.errors import GanportError
from gan_serve.terminal import console
from gan_trainer.data import ImageDataset
from gan_trainer.data.cache import CACHE_VARIABLE, default_cache_dir
from gan_trainer.evaluation.classifier import CONFIGURATION, Classifier, Trained, train_classifier
from gan_trainer.networks.checkpoint import load_torch, save_torch

FORMAT = 1


def classifier_for(
    dataset: ImageDataset,
    device: torch.device,
    *,
    cache_dir: Path | None = None,
    on_note: Callable[[str], None] = console.note,
) -> Trained:
    """The data set's classifier: read from the cache, or trained on `device` and kept there.

    cache_dir  None: where decoded images are kept, too
    Raises `GanportError` for a data set without classes, or with too few images.
    """
    if dataset.labels is None:
        raise GanportError(
            f"{dataset.name} has no labels to train a classifier on", hint="--features swd needs none; or sort the "
            "images into one folder per class"
        )  # fmt: skip
    folder = default_cache_dir() if cache_dir is None else cache_dir
    path = None if folder is None else folder / "evaluators" / f"classifier-{_key(dataset)}.pt"
    found = _read(path, dataset, on_note) if path is not None else None
    if found is not None:
        return found
    trained = _train(dataset, device, on_note)
    if path is None:
        on_note(f"the classifier is not kept: there is no cache folder; {CACHE_VARIABLE} names one")
        return trained
    content = {
        "ganport_classifier": FORMAT, "weights": trained.network.state_dict(), "accuracy": trained.accuracy,
    }  # fmt: skip
    try:
        save_torch(content, path)
    except GanportError as error:
        on_note(f"the classifier is not kept: {error}; {CACHE_VARIABLE} names another folder")
    else:
        on_note(f"classifier kept in {path}")
    return trained


def weights_hash(network: torch.nn.Module) -> str:
    """12 hex digits of the sha256 over a network's tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _train(dataset: ImageDataset, device: torch.device, on_note: Callable[[str], None]) -> Trained:
    assert dataset.labels is not None
    on_note(f"training a classifier on {len(dataset):,} images of {dataset.name}, once for these data")
    with console.progress(1000, "classifier") as bar:
        shown = 0

        def on_step(done: int, total: int) -> None:
            nonlocal shown
            bar.update(done * 1000 // total - shown)
            shown = done * 1000 // total

        return train_classifier(dataset.pixels_NHWC, dataset.labels, len(dataset.class_names), device, on_step)


def _key(dataset: ImageDataset) -> str:
    text = json.dumps({"fingerprint": dataset.fingerprint, "format": FORMAT, **CONFIGURATION}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _read(path: Path, dataset: ImageDataset, on_note: Callable[[str], None]) -> Trained | None:
    if not path.exists():
        return None
    network = Classifier(dataset.channels, dataset.size, len(dataset.class_names))
    try:
        content = load_torch(path, "classifier", hint="delete it")
        if content["ganport_classifier"] != FORMAT:
            raise ValueError(f"format {content['ganport_classifier']!r}")
        network.load_state_dict(content["weights"])
        return Trained(network.eval(), float(content["accuracy"]))
    except Exception as error:  # torch raises many kinds for a damaged file
        why = error if isinstance(error, GanportError) else type(error).__name__
        on_note(f"the kept classifier {path.name} does not read ({why}); training it again")
        return None
