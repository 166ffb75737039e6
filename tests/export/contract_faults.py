"""Faults of what a file says of itself: what plants each, and the check that has to name it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

from gan_core.contract import Contract
from gan_core.interface import with_interface


def respecified(contract: Contract, layer: int, **values: object) -> Contract:
    spec = json.loads(json.dumps(contract.spec))
    spec["layers"][layer] |= values
    return dataclasses.replace(contract, spec=spec)


CONTRACT_FAULTS: dict[str, tuple[Callable[[Contract], Contract], str]] = {
    "value range [0, 1]": (lambda c: with_interface(c, value_range=(0.0, 1.0)), "contract"),
    "latent distribution": (lambda c: with_interface(c, latent="uniform"), "contract"),
    "z_dim": (lambda c: with_interface(c, z_dim=9), "inputs"),
    "no classes": (lambda c: with_interface(c, n_classes=0), "inputs"),
    "one class more": (lambda c: with_interface(c, n_classes=4), "contract"),
    "image size": (lambda c: with_interface(c, image=(3, 32, 32)), "outputs"),
    "raw weights called EMA": (lambda c: dataclasses.replace(c, weights="ema"), "contract"),
    "another checkpoint": (lambda c: dataclasses.replace(c, source={"file": "h.pt", "sha256": "0"}), "contract"),
    "spec with another eps": (lambda c: respecified(c, 3, eps=0.8), "contract"),
    "spec that fits no weight": (lambda c: respecified(c, 8, kernel=6, padding=2), "spec fits weights"),
    "spec that does not chain": (lambda c: respecified(c, 8, kernel=99), "contract"),
    "no golden set": (lambda c: dataclasses.replace(c, golden=()), "golden set"),
    "golden set in another order": (
        lambda c: dataclasses.replace(
            c, golden=tuple(dataclasses.replace(g, seed=3 - g.seed, label=(3 - g.seed) % 3) for g in c.golden)
        ),
        "golden images",
    ),
    "golden images damaged": (
        lambda c: dataclasses.replace(c, golden=tuple(dataclasses.replace(g, png="AAAA") for g in c.golden)),
        "golden images",
    ),
}
