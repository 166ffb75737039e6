"""A generator in every form that it is offered in, and once damaged, as proved files."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gan_core.errors import GanportError, JobError
from gan_core.interface import with_interface

if TYPE_CHECKING:
    from gan_export.source import Source
    from gan_trainer.data import ImageDataset

SHIPPED, DAMAGED = "store fp16", "damaged"
EXPORTS: dict[str, dict[str, str]] = {
    SHIPPED: {"store": "fp16"},
    "fp32": {},
    "fp16": {"precision": "fp16"},
    "int8": {"precision": "int8"},
}
"""Each variant's options of `gan-export onnx`; the first is what ships."""


@dataclass(frozen=True)
class Variant:
    """One proved file. `options` are those of the export, `damage` says what was done to the weights before it."""

    name: str
    path: Path
    options: dict[str, str]
    damage: str = ""


def open_source(ckpt: Path) -> Source:
    """A checkpoint of gan-train's. Raises `GanportError` for anything else."""
    from gan_export.answers import Answers
    from gan_export.identify import identify, source_of

    identified = identify(ckpt, Answers())
    if identified.reading.ours is None:
        raise GanportError(
            f"{ckpt} is not a checkpoint of gan-train", hint="what ships is trained by ganport: name g.pt"
        )
    return source_of(identified)


def with_class_names(source: Source, dataset: ImageDataset) -> Source:
    """The source with the data's class names, where its own are mere numbers (data named by a folder have no others).

    Raises `GanportError` for data with another number of classes.
    """
    interface, names = source.interface, dataset.class_names
    numbers = tuple(map(str, range(interface.n_classes)))
    if interface.n_classes and len(names) != interface.n_classes:
        raise GanportError(
            f"the checkpoint has {interface.n_classes} classes, {dataset.name} has {len(names)}",
            hint="--data names what it was trained on",
        )
    if not interface.n_classes or interface.class_names not in ((), numbers) or interface.class_names == names:
        return source
    spec = None if source.spec is None else with_interface(source.spec, class_names=names)
    return dataclasses.replace(with_interface(source, class_names=names), spec=spec)


def damaged(source: Source, seed: int = 0) -> tuple[Source, str]:
    """The source with the channels of its second kernel shuffled, as wrong wiring would, and words that say so.

    (Noise as strong as the weights on the same kernel is a damage that a trained DCGAN hardly shows.)
    """
    import torch

    module = copy.deepcopy(source.module)
    kernels = [(name, weight) for name, weight in module.named_parameters() if weight.ndim >= 4]
    if len(kernels) < 2:
        kernels = [(name, weight) for name, weight in module.named_parameters() if weight.ndim >= 2]
    name, weight = kernels[min(1, len(kernels) - 1)]
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        weight.copy_(weight[order].clone())
    return dataclasses.replace(source, module=module), f"the channels of {name} shuffled"


def export_all(source: Source, folder: Path, stem: str) -> Iterator[Variant]:
    """Every export, then the damaged generator's, each in `folder` when it is yielded.

    Raises `JobError` for one that is not proved.
    """
    for name, options in EXPORTS.items():
        path = folder / f"{stem}{'' if name == SHIPPED else '.' + name}.onnx"
        _export(source, path, options)
        yield Variant(name, path, options)
    broken, damage = damaged(source)
    path = folder / f"{stem}.{DAMAGED}.onnx"
    _export(broken, path, {})
    yield Variant(DAMAGED, path, {}, damage)


def _export(source: Source, path: Path, options: dict[str, str]) -> None:
    from gan_export.answers import OnnxOptions
    from gan_export.exporting import export_onnx

    report = export_onnx(source, path, OnnxOptions(**options))  # type: ignore[arg-type]
    if not report.ok:
        raise JobError(f"{path.name}: {report.verdict()}", hint="the table of gan-export onnx says on which seed")
