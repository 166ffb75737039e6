"""The inputs of a proof: batches of every kind of latent and every class, each row with a name.

Ordinary latents in batches of 1, 2, 3, 8 and 25 (a graph can be right for one batch size and wrong for the next), zero,
and the far ends of the latent law, where activations saturate and float16 overflows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gan_core.latents import LatentLaw, latents
from gan_serve.runtime.generator import F32, I64

BATCHES = (1, 2, 3, 8, 25)
FAR = {"normal": 4.0, "uniform": 1.0}
"""How far out a component can be asked to go: 4 sigma of N(0, 1), the corners of U(-1, 1)."""
_FAR_ROWS = 6


@dataclass(frozen=True, eq=False)
class Case:
    """One batch. `z` (n, z_dim), `label` (n,) or None; `rows` says what each row is: "seed 7", "seed 7 class 3".

    kind  "ordinary", "zero", "far" or "class"
    """

    kind: str
    z: F32
    label: I64 | None
    rows: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"batch of {len(self.z)} {'classes' if self.kind == 'class' else f'{self.kind} latents'}"


def cases(z_dim: int, law: LatentLaw, n_classes: int) -> tuple[Case, ...]:
    """Every batch of a proof, the ordinary ones first, in the order of `BATCHES`."""
    made = [_ordinary(range(size), z_dim, law, n_classes) for size in BATCHES]
    made.append(_case("zero", np.zeros((2, z_dim), np.float32), ("latent of zeros",) * 2, n_classes))
    made.append(_far(z_dim, law, n_classes))
    made.extend(_classes(z_dim, law, n_classes))
    return tuple(made)


def _ordinary(seeds: range, z_dim: int, law: LatentLaw, n_classes: int) -> Case:
    return _case("ordinary", latents(seeds, z_dim, law), tuple(f"seed {seed}" for seed in seeds), n_classes)


def _far(z_dim: int, law: LatentLaw, n_classes: int) -> Case:
    """All components at +far, all at -far, and the signs of a few seeds at ±far."""
    far = FAR[law]
    signs = np.where(latents(range(_FAR_ROWS), z_dim, law) < 0, -1.0, 1.0)
    z = far * np.concatenate([np.ones((1, z_dim)), -np.ones((1, z_dim)), signs])
    rows = (
        f"latent of +{far:g}",
        f"latent of -{far:g}",
        *(f"±{far:g} by the signs of seed {s}" for s in range(_FAR_ROWS)),
    )
    return _case("far", z.astype(np.float32), rows, n_classes)


def _classes(z_dim: int, law: LatentLaw, n_classes: int) -> list[Case]:
    """Two seeds for every class, at most the largest batch at a time."""
    step = BATCHES[-1]
    found = []
    for seed in (0, 1):
        for start in range(0, n_classes, step):
            classes = np.arange(start, min(start + step, n_classes), dtype=np.int64)
            z = np.repeat(latents([seed], z_dim, law), len(classes), axis=0)
            found.append(Case("class", z, classes, tuple(f"seed {seed} class {label}" for label in classes)))
    return found


def _case(kind: str, z: F32, rows: tuple[str, ...], n_classes: int) -> Case:
    """Labels count through the classes, as `default_labels` does."""
    if not n_classes:
        return Case(kind, z, None, rows)
    label = np.arange(len(z), dtype=np.int64) % n_classes
    return Case(kind, z, label, tuple(f"{row} class {k}" for row, k in zip(rows, label, strict=True)))
