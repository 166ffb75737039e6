"""The discriminator that lies beside a generator: in the same file, or in one of the same name but for its role."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from gan_core.errors import GanportError
from gan_export.reading import Reading, read_checkpoint
from gan_export.reading.roles import role_of_name, role_words, tokens

SUFFIXES = (".pt", ".pth", ".ckpt", ".pkl", ".safetensors", ".bin", ".tar")
MOST_FILES = 500


@dataclass(frozen=True)
class Beside:
    """A discriminator's weights, and where they are, for people."""

    tensors: dict[str, Tensor]
    where: str


def discriminator_of(reading: Reading, named: Path | None = None) -> Beside | None:
    """The discriminator in the file `named`, or of `reading`'s own file, or beside it; None where there is none.

    Raises `GanportError` when `named` cannot be read; what was only found and cannot be read is passed over.
    """
    if named is not None:
        return _read(named)
    with contextlib.suppress(GanportError):
        for other in reading.passed_over:
            if other.key and role_of_name(other.key.rpartition(".")[2]) == "discriminator":
                inside = read_checkpoint(reading.path, key=other.key, said_by="code")
                return Beside(inside.tensors, f"{reading.path.name}, at {other.key}")
        found = file_beside(reading.path)
        return None if found is None else _read(found)
    return None


def file_beside(path: Path, role: Literal["discriminator", "generator"] = "discriminator") -> Path | None:
    """The file in the folder of `path` whose name is that of `role` to it: netD.pth beside netG.pth and the reverse,
    g_10.discriminator.pt beside g_10.pt. None where there is none, or more than one."""
    own_words, words = role_words("generator" if role == "discriminator" else "discriminator"), role_words(role)
    own = [word for word in tokens(path.stem) if word not in own_words]
    said = (role, "") if own and role == "generator" else (role,)
    found = []
    for number, other in enumerate(sorted(path.parent.iterdir())):
        if number >= MOST_FILES:
            break
        if other.suffix.lower() not in SUFFIXES or other == path or role_of_name(other.stem) not in said:
            continue
        if [word for word in tokens(other.stem) if word not in words] == own and other.is_file():
            found.append(other)
    return found[0] if len(found) == 1 else None


def _read(path: Path) -> Beside:
    return Beside(read_checkpoint(path, said_by="code").tensors, path.name)
