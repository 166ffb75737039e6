"""Generators whose truth is known, as files: what `fit` and `check` are given, and what `train` writes.

An example is, in one folder,

    STEM.EXT                 the checkpoint; its discriminator lies beside it where gan-export looks for one
    STEM.reference.npz       z, label where it is conditional, and image as the true network draws them in eval mode
    STEM.source.json         where it is from: name, repository, path, author, origin, latent, kind, note, about, spec
                             (the network, where a spec can say it); any of them may be missing, and the file
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files.model_file import sha256_of
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.draft import Draft
from gan_export.identify import module_of
from gan_export.reading.beside import SUFFIXES, file_beside

REFERENCE, SOURCE = ".reference.npz", ".source.json"
SAME = 1e-3
"""How far the images of the right network may be from the reference."""
FIRST = 2
"""Latents that are compared before all of them are."""


@dataclass(frozen=True)
class Reference:
    """What the true network draws: z float32 (N, D), label int64 (N,) or None, image float32 (N, …)."""

    z: Tensor
    label: Tensor | None
    image: Tensor

    def drawn_by(self, draft: Draft) -> bool:
        """Whether `draft` draws the same images, to within `SAME`."""
        interface = draft.spec.interface
        if interface.z_dim != self.z.shape[1] or bool(interface.n_classes) != (self.label is not None):
            return False
        if self.label is not None and int(self.label.max()) >= interface.n_classes:
            return False
        wanted = self.image.flatten(1)
        if wanted.shape[1] != int(np.prod(interface.image)) or (
            self.image.dim() == 4 and tuple(self.image.shape[1:]) != interface.image
        ):
            return False
        module = module_of(draft)
        for count in (FIRST, len(self.z)):
            label = () if self.label is None else (self.label[:count],)
            with torch.inference_mode():
                found = module(self.z[:count], *label).flatten(1)
            if not float((found - wanted[:count]).abs().max()) < SAME:
                return False
        return True


@dataclass(frozen=True)
class Example:
    """A file with its truth.

    origin  "real" or "trained", or the name of the folder that it was found in
    author  whose files are held out together
    law     that its z come from, "" where it is unknown
    kind    of generator, "" where nobody said
    """

    name: str
    checkpoint: Path
    discriminator: Path | None
    reference: Path
    repository: str
    path: str
    author: str
    origin: str
    law: str
    kind: str
    note: str

    def truth(self) -> Reference:
        """What the true network draws. Raises `GanportError` when the file cannot be read."""
        try:
            with np.load(self.reference) as held:
                z = torch.from_numpy(held["z"].astype(np.float32))
                label = torch.from_numpy(held["label"].astype(np.int64)) if "label" in held else None
                image = torch.from_numpy(held["image"].astype(np.float32))
        except (OSError, ValueError, KeyError) as error:
            hint = "it holds z, image and, where the generator is conditional, label"
            raise GanportError(f"{self.reference} is no reference: {error}", hint=hint) from error
        return Reference(z.reshape(len(z), -1), label, image)

    @property
    def spec(self) -> GeneratorSpec | None:
        """The true network, but for a resize at its end; None where nobody said."""
        said = said_of(self.reference).get("spec")
        return None if said is None else GeneratorSpec.from_json(said)

    @property
    def about(self) -> Json:
        """Which file it is, for a record."""
        said: Json = said_of(self.reference).get("about", {})
        return {"repository": self.repository, "path": self.path, "sha256": sha256_of(self.checkpoint)} | said


def find_examples(folders: Iterable[Path]) -> list[Example]:
    """All examples in `folders` and below, in the order of their names.

    Raises `GanportError` for a folder that has none, and for a reference without its checkpoint.
    """
    found: list[Example] = []
    for folder in folders:
        references = sorted(folder.rglob(f"*{REFERENCE}"))
        if not references:
            raise GanportError(f"{folder} has no examples", hint=f"an example is NAME.pth beside NAME{REFERENCE}")
        found += [_example(reference, folder) for reference in references]
    return found


def _example(reference: Path, folder: Path) -> Example:
    name = reference.name.removesuffix(REFERENCE)
    checkpoint = _first(reference.parent, name)
    if checkpoint is None:
        raise GanportError(f"there is no checkpoint of {reference}", hint=f"it is called {name}.pth or so")
    said = said_of(reference)
    return Example(
        str(said.get("name", name)),
        checkpoint,
        file_beside(checkpoint),
        reference,
        repository=str(said.get("repository", "")),
        path=str(said.get("path", checkpoint.name)),
        author=str(said.get("author", name)),
        origin=str(said.get("origin", folder.name)),
        law=str(said.get("latent", "")),
        kind=str(said.get("kind", "")),
        note=str(said.get("note", "")),
    )


def said_of(reference: Path) -> Json:
    """What the file beside `reference` says of it; nothing where there is none."""
    source = reference.with_name(reference.name.removesuffix(REFERENCE) + SOURCE)
    found: Json = json.loads(source.read_text(encoding="utf-8")) if source.exists() else {}
    return found


def _first(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / (stem + suffix) for suffix in SUFFIXES) if path.is_file()), None)


def write_example(place: Path, files: Mapping[str, Any], truth: Reference, source: Json) -> None:
    """Writes an example into the folder `place`: `files` by their names, the generator's first."""
    place.mkdir(parents=True, exist_ok=True)
    for name, holds in files.items():
        torch.save(holds, place / name)
    stem = Path(next(iter(files))).stem
    (place / f"{stem}{SOURCE}").write_text(json.dumps(source, indent=1) + "\n", encoding="utf-8")
    held = {"z": truth.z, "image": truth.image} | ({} if truth.label is None else {"label": truth.label})
    arrays: dict[str, Any] = {key: tensor.numpy() for key, tensor in held.items()}
    np.savez_compressed(place / f"{stem}{REFERENCE}", **arrays)
