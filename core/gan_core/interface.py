"""What goes into a generator and what comes out: declared once, for its spec, its contract and what draws with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt

from gan_core.fields import MAX_CLASSES, Features, Json, Name, Number, Range, Side, SpecError, check_fields
from gan_core.latents import LatentLaw, latents

T = TypeVar("T")

CHANNELS_IN_WORDS = {1: "grey", 3: "RGB", 4: "RGBA"}
IMAGE_CHANNELS = tuple(CHANNELS_IN_WORDS)
"""Channels that a picture can have; the fourth is opacity."""


@dataclass(frozen=True)
class Interface:
    """A generator's inputs, a latent and maybe a class, and its output, an image.

    z_dim        components of a latent
    image        (C, H, W) of an image
    latent       law of the components: "normal" N(0, 1) or "uniform" U(-1, 1)
    value_range  the output values of (black, white)
    n_classes    0 for an unconditional generator; labels are 0 … n_classes - 1
    class_names  one per class, or empty

    Raises `SpecError` on construction for a field of another type or out of its range.
    """

    z_dim: Features
    image: tuple[Side, Side, Side]
    latent: LatentLaw = "normal"
    value_range: tuple[Number, Number] = (-1.0, 1.0)
    n_classes: Annotated[int, Range(0, MAX_CLASSES)] = 0
    class_names: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.value_range[0] < self.value_range[1]:
            raise SpecError(
                f"value_range must be (black, white) with black < white, got {self.value_range}",
                hint="as in [-1, 1] or [0, 1]",
            )
        if len(self.class_names) not in (0, self.n_classes):
            raise SpecError(
                f"{len(self.class_names)} class names for {self.n_classes} classes",
                hint="class_names has one name a class, or none",
            )

    @property
    def channels(self) -> int:
        return self.image[0]

    @property
    def height(self) -> int:
        return self.image[1]

    @property
    def width(self) -> int:
        return self.image[2]

    @property
    def conditional(self) -> bool:
        return self.n_classes > 0

    @property
    def picture(self) -> str:
        """The image for people: "64x64 RGB"."""
        return f"{self.width}x{self.height} {CHANNELS_IN_WORDS.get(self.channels, f'in {self.channels} channels')}"

    def latents(
        self, seeds: Iterable[int] | npt.NDArray[np.int64], truncation: float | None = None
    ) -> npt.NDArray[np.float32]:
        """The latents of `seeds`, float32 (len(seeds), z_dim). Takes `truncation` and raises as `latents.latents`."""
        return latents(seeds, self.z_dim, self.latent, truncation)

    def to_json(self) -> Json:
        """The fields as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def with_interface(owner: T, **changes: Any) -> T:
    """A spec, a contract or an exporter's source with `changes` to its interface."""
    interface = replace(owner.interface, **changes)  # type: ignore[attr-defined]
    return replace(owner, interface=interface)  # type: ignore[type-var]
