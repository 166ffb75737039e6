"""Runs candidates from one BatchNorm to the next, sharing what they have in common."""

from __future__ import annotations

from torch import Tensor

from gan_export.draft import Draft
from gan_export.forensics.divergence import Moments
from gan_export.forensics.statistics import apply_layer, label_batch, latent_batch, layer_weights, moments


class Runner:
    """Runs candidates over one segment: from the latent, or from what arrived at a BatchNorm, to the next BatchNorm.

    arrived  float32 (N, …), what arrived at layer `start`; None for the first segment, which starts with the latent
    rows     how many of those (or of the latents from `seed` on) to run

    The path of the last candidate is kept; the next one starts where its layers first differ. So run them in an
    order in which neighbours share their first layers.
    """

    def __init__(self, arrived: Tensor | None, start: int, rows: int, seed: int) -> None:
        self._arrived = None if arrived is None else arrived[:rows]
        self._moments: Moments | None = None if arrived is None else moments(arrived, correction=0)
        self._start, self._rows, self._seed = start, rows, seed
        self._path: list[tuple[object, Tensor]] = []

    def run(self, draft: Draft, stop: int) -> Tensor:
        """What arrives at layer `stop` in `draft`: float32 (rows, *shape)."""
        spec = draft.spec
        keys: list[object] = [spec.latent, *((spec.shapes[i], spec.layers[i]) for i in range(self._start, stop))]
        common = 0
        while common < min(len(keys), len(self._path)) and keys[common] == self._path[common][0]:
            common += 1
        del self._path[common:]
        if not self._path:
            x = self._arrived
            if x is None:
                x = latent_batch(spec.z_dim, spec.latent, self._rows, self._seed)
            self._path.append((keys[0], x))
        labels = label_batch(spec.n_classes, self._rows)
        for i in range(self._start + len(self._path) - 1, stop):
            x = self._path[-1][1]
            arrived = self._moments if i == self._start else None
            x = apply_layer(spec.layers[i], spec.shapes[i], layer_weights(draft, i), x, labels, arrived)
            self._path.append((keys[len(self._path)], x))
        return self._path[-1][1]
