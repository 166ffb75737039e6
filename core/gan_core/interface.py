"""What goes into a generator and what comes out: declared once, for its spec, its contract and what draws with it.

And the text that names its classes: `3`, `cat`, `0,cat,7`, `all`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32, I64
from gan_core.errors import GanportError
from gan_core.fields import MAX_CLASSES, Features, Json, Name, Number, Range, Shape, Side, SpecError, check_fields
from gan_core.latents import LatentLaw, latents
from gan_core.printable import shorten

T = TypeVar("T")
_SHOWN = 12

CHANNELS_IN_WORDS = {1: "grey", 3: "RGB", 4: "RGBA"}
IMAGE_CHANNELS = tuple(CHANNELS_IN_WORDS)
"""Channels that a picture can have; the fourth is opacity."""


@dataclass(frozen=True)
class Styles:
    """The inner latents of a generator with styles (StyleGAN): `num_ws` styles of `w_dim` numbers for each image."""

    w_dim: Features
    num_ws: Annotated[int, Range(1, 1000)]

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Option:
    """An optional input: the shape that it has for each image, and its value where it is left out."""

    shape: Shape
    default: np.float32 | np.bool_

    @property
    def row(self) -> npt.NDArray[Any]:
        """The default for one image: (1, *shape)."""
        return np.full((1, *self.shape), self.default)


@dataclass(frozen=True)
class Interface:
    """A generator's inputs, a latent and maybe a class, and its output, an image.

    z_dim        components of a latent
    image        (C, H, W) of an image
    latent       law of the components: "normal" N(0, 1) or "uniform" U(-1, 1)
    value_range  the output values of (black, white)
    n_classes    0 for an unconditional generator; labels are 0 … n_classes - 1
    class_names  one per class, or empty
    styles       the latents w that its layers take, where it has a mapping network; None without one
    noise        whether it adds constant noise, which can be left out

    Raises `SpecError` on construction for a field of another type or out of its range.
    """

    z_dim: Features
    image: tuple[Side, Side, Side]
    latent: LatentLaw = "normal"
    value_range: tuple[Number, Number] = (-1.0, 1.0)
    n_classes: Annotated[int, Range(0, MAX_CLASSES)] = 0
    class_names: tuple[Name, ...] = ()
    styles: Styles | None = None
    noise: bool = False

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
    def options(self) -> dict[str, Option]:
        """The optional inputs by name; each has a row for each image, or one for all.

        psi     how far w is from its mean: 1 as it is, 0 the mean image
        w       the styles of each layer, (num_ws, w_dim), taken as they are where from_w is true
        from_w  whether w is taken, and z is not
        noise   what the noise is multiplied by
        """
        found: dict[str, Option] = {}
        if self.styles is not None:
            found["psi"] = Option((), np.float32(1))
            found["w"] = Option((self.styles.num_ws, self.styles.w_dim), np.float32(0))
            found["from_w"] = Option((), np.False_)
        if self.noise:
            found["noise"] = Option((), np.float32(1))
        return found

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of all inputs of a file, the optional ones last."""
        return ("z", *(["label"] if self.conditional else []), *self.options)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of a file's outputs."""
        return ("image", "pixels", *(["styles"] if self.styles else []))

    @property
    def picture(self) -> str:
        """The image for people: "64x64 RGB"."""
        return f"{self.width}x{self.height} {CHANNELS_IN_WORDS.get(self.channels, f'in {self.channels} channels')}"

    def latents(self, seeds: Iterable[int] | I64, truncation: float | None = None) -> F32:
        """The latents of `seeds`, float32 (len(seeds), z_dim). Takes `truncation` and raises as `latents.latents`."""
        return latents(seeds, self.z_dim, self.latent, truncation)

    def to_json(self) -> Json:
        """The fields as JSON values, without those of inputs that it does not have."""
        said = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in said.items() if name not in ("styles", "noise") or value}


def with_interface(owner: T, **changes: Any) -> T:
    """A spec, a contract or an exporter's source with `changes` to its interface."""
    interface = replace(owner.interface, **changes)  # type: ignore[attr-defined]
    return replace(owner, interface=interface)  # type: ignore[type-var]


def parse_classes(values: Iterable[str], interface: Interface) -> tuple[int, ...]:
    """The classes that `values` name, in order: indices, names (case does not matter), commas between, or
    `all`. Empty for no values.

    A name that holds a comma is taken whole. Its first words will do where no other class begins with them, whatever
    stands between them: `t-shirt` and `ankle_boot` for "T-shirt/top" and "Ankle boot".
    Raises `GanportError` for a generator without classes and for a class it does not have.
    """
    values = list(values)
    if values and not interface.conditional:
        raise GanportError("this generator has no classes", hint="leave `classes` out")
    found: list[int] = []
    for value in values:
        whole = _find(value, interface)
        pieces = [value] if whole is not None else value.split(",")
        for piece in pieces:
            if piece.strip().lower() == "all" and _find(piece, interface) is None:
                found += range(interface.n_classes)
                continue
            label = _find(piece, interface)
            if label is None:
                label = _find_by_words(piece, interface)
            if label is None:
                raise GanportError(
                    f"class {shorten(piece.strip(), 40)!r} does not exist",
                    hint=f"classes are {describe_classes(interface)}",
                )
            found.append(label)
    return tuple(found)


def describe_classes(interface: Interface) -> str:
    """ "0 … 9", or "0 cat, 1 dog, …" with names."""
    if not interface.class_names:
        return f"0 … {interface.n_classes - 1}"
    return number_classes(interface.class_names)


def class_label(interface: Interface, label: int) -> str:
    """ "3 cat", or "3" where classes have no names."""
    return f"{label} {interface.class_names[label]}" if interface.class_names else str(label)


def number_classes(names: Sequence[str]) -> str:
    """ "0 cat, 1 dog, …": the names of classes with their numbers, the first dozen of them."""
    shown = [f"{label} {name}" for label, name in enumerate(names[:_SHOWN])]
    return ", ".join(shown) + (" …" if len(names) > _SHOWN else "")


def _find(text: str, interface: Interface) -> int | None:
    """A name first, so that classes named by numbers can be named; then an index."""
    wanted = text.strip().casefold()
    for label, name in enumerate(interface.class_names):
        if name.casefold() == wanted:
            return label
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 10 and int(wanted) < interface.n_classes:
        return int(wanted)
    return None


def _find_by_words(text: str, interface: Interface) -> int | None:
    """The one class whose name begins with the words of `text`."""
    wanted = _words(text)
    found = [label for label, name in enumerate(interface.class_names) if _words(name)[: len(wanted)] == wanted]
    return found[0] if wanted and len(found) == 1 else None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())
