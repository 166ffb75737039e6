"""What goes into a generator and what comes out: declared once, for its spec, its contract and what draws with it.

A generator takes a latent, or an image: a super-resolver and an image-to-image network are generators of the second
kind (`ImageInput`).

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
from gan_core.fields import (
    MAX_CLASSES,
    MAX_FEATURES,
    Features,
    Json,
    Name,
    Number,
    Range,
    Shape,
    Side,
    SpecError,
    check_fields,
    check_range,
    from_json,
)
from gan_core.image_input import CHANNELS_IN_WORDS, ImageInput
from gan_core.latents import LatentLaw, latents
from gan_core.printable import shorten

T = TypeVar("T")
MAX_NOISE = 1 << 24
_SHOWN = 12


@dataclass(frozen=True)
class Styles:
    """The inner latents of a generator with styles (StyleGAN): `num_ws` styles of `w_dim` numbers for each image."""

    w_dim: Features
    num_ws: Annotated[int, Range(1, 1000)]

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class NoiseMaps:
    """The noise of all layers, one map after the other, as one input of `size` numbers: N(0, 1), or U(0, 1) for
    "uniform"."""

    size: Annotated[int, Range(1, MAX_NOISE)]
    law: LatentLaw = "normal"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Option:
    """An optional input: the shape that it has for each image, and its value where it is left out; of `constant` ones
    each file has its own values."""

    shape: Shape
    default: np.float32 | np.bool_
    constant: bool = False

    @property
    def row(self) -> npt.NDArray[Any]:
        """The default for one image, zeros for a file's own: (1, *shape)."""
        return np.full((1, *self.shape), self.default)


@dataclass(frozen=True)
class Interface:
    """A generator's inputs, a latent or an image and maybe a class, and its output, an image.

    z_dim        components of a latent; 0 for a generator that takes an image
    image        (C, H, W) of an image; of a generator that takes images of any size, of what it makes of an example,
                 whose size the shapes of its spec are given for
    latent       law of the components: "normal" N(0, 1), "uniform" U(-1, 1) or "uniform01" U(0, 1)
    value_range  the output values of (black, white)
    n_classes    0 for an unconditional generator; labels are 0 … n_classes - 1
    class_names  one per class, or empty
    styles       the latents w that its layers take, where it has a mapping network; None without one
    noise        whether it adds constant noise, which can be left out
    noise_maps   that noise as an input, so that an image may have its own; None where the layers keep it
    input        the image that it takes; None for a latent

    Raises `SpecError` on construction for a field of another type or out of its range.
    """

    z_dim: Annotated[int, Range(0, MAX_FEATURES)]
    image: tuple[Side, Side, Side]
    latent: LatentLaw = "normal"
    value_range: tuple[Number, Number] = (-1.0, 1.0)
    n_classes: Annotated[int, Range(0, MAX_CLASSES)] = 0
    class_names: tuple[Name, ...] = ()
    styles: Styles | None = None
    noise: bool = False
    noise_maps: NoiseMaps | None = None
    input: ImageInput | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_range(self.value_range)
        if self.input is not None:
            self._check_input(self.input)
        elif not self.z_dim:
            raise SpecError(
                f"z_dim must be a whole number from 1 to {MAX_FEATURES:,}, got 0",
                hint="a generator takes a latent of z_dim numbers, or an image: input",
            )
        if self.noise_maps is not None and not self.noise:
            raise SpecError("noise_maps are set, and noise is not", hint="noise: true, or leave noise_maps out")
        if len(self.class_names) not in (0, self.n_classes):
            raise SpecError(
                f"{len(self.class_names)} class names for {self.n_classes} classes",
                hint="class_names has one name a class, or none",
            )

    def _check_input(self, taken: ImageInput) -> None:
        if self.z_dim:
            raise SpecError(
                f"a generator takes a latent or an image, got z_dim {self.z_dim} and an input", hint="leave one out"
            )
        if self.n_classes:
            raise SpecError("a generator that takes an image has no classes here", hint="leave n_classes out")
        height, width = self.input_shape[1:]
        whole = self.height % taken.scale == self.width % taken.scale == 0
        if not whole or not (taken.fixed or taken.takes(height, width)):
            raise SpecError(
                f"image is {self.image}, which an input of {taken.scale} times smaller sides does not make: they are "
                f"multiples of {taken.multiple_of} from {taken.minimum} on",
                hint="correct image, or input's scale, multiple_of and minimum",
            )

    @property
    def input_name(self) -> str:
        """What the input is called, in a spec and in a file: "z", or "input" for an image."""
        return "z" if self.input is None else "input"

    @property
    def input_shape(self) -> Shape:
        """Of one sample as the layers see it: (z_dim,), or (C, H, W) of the image that makes one of `image`'s size."""
        if self.input is None:
            return (self.z_dim,)
        return (self.input.channels, self.height // self.input.scale, self.width // self.input.scale)

    def made_of(self, taken: Shape) -> tuple[int, int, int]:
        """(C, H, W) of the images made of a batch of inputs: latents (n, z_dim), or pixels (n, H, W, C)."""
        if self.input is None:
            return self.image
        return (self.channels, taken[1] * self.input.scale, taken[2] * self.input.scale)

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

        psi         how far w is from its mean: 1 as it is, 0 the mean image
        w           the styles of each layer, (num_ws, w_dim), taken as they are where from_w is true
        from_w      whether w is taken, and z is not
        noise       what the noise is multiplied by
        noise_maps  the noise of all layers
        """
        found: dict[str, Option] = {}
        if self.styles is not None:
            found["psi"] = Option((), np.float32(1))
            found["w"] = Option((self.styles.num_ws, self.styles.w_dim), np.float32(0))
            found["from_w"] = Option((), np.False_)
        if self.noise:
            found["noise"] = Option((), np.float32(1))
        if self.noise_maps is not None:
            found["noise_maps"] = Option((self.noise_maps.size,), np.float32(0), constant=True)
        return found

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of all inputs of a file, the optional ones last."""
        return (self.input_name, *(["label"] if self.conditional else []), *self.options)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of a file's outputs."""
        return ("image", "pixels", *(["styles"] if self.styles else []))

    @property
    def picture(self) -> str:
        """The image for people: "64x64 RGB", "RGB, 4 times the size of the input"."""
        colours = CHANNELS_IN_WORDS.get(self.channels, f"in {self.channels} channels")
        if self.input is None or self.input.fixed:
            return f"{self.width}x{self.height} {colours}"
        times = f"{self.input.scale} times " if self.input.scale > 1 else ""
        return f"{colours}, {times}the size of the input"

    @property
    def taken(self) -> str:
        """The input for people: "100 numbers", "RGB images of multiples of 4 pixels from 16"."""
        if self.input is None:
            return f"{self.z_dim} numbers"
        return self.input.words(*self.input_shape[1:])

    def latents(self, seeds: Iterable[int] | I64, truncation: float | None = None) -> F32:
        """The latents of `seeds`, float32 (len(seeds), z_dim). Takes `truncation` and raises as `latents.latents`.

        Raises `GanportError` for a generator that takes images.
        """
        if self.input is not None:
            raise GanportError(
                f"this generator takes {self.taken}, so seeds and latents have no meaning",
                hint="give it images: gan-gen FILE photo.jpg, or its method transform",
            )
        if truncation is not None and self.styles is not None:
            raise GanportError(
                "`truncation` bounds |z|, which a generator with styles normalises; its truncation is psi",
                hint="`psi=0.7`",
            )
        return latents(seeds, self.z_dim, self.latent, truncation)

    def to_json(self) -> Json:
        """The fields as JSON values, without those of inputs that it does not have."""
        left_out = set() if self.input is None else {"z_dim", "latent"}
        left_out |= {name for name in ("styles", "noise", "noise_maps", "input") if not getattr(self, name)}
        return {name: _json(value) for name, value in asdict(self).items() if name not in left_out}

    @classmethod
    def from_json(cls, values: Json) -> Interface:
        """Reads what `to_json` wrote. Raises `SpecError`."""
        z_dim = 0 if values.get("input") is not None else values.get("z_dim", 0)
        if values.get("input") is not None and "z_dim" in values:
            raise SpecError("z_dim and input exclude each other", hint="a generator takes a latent or an image")
        return from_json(cls, values | {"z_dim": z_dim})


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json(each) for name, each in value.items()}
    return list(value) if isinstance(value, tuple) else value


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
                    f"class {shorten(piece.strip(), 40)!r} does not exist", hint=_hint_of_class(piece, interface)
                )
            found.append(label)
    return tuple(found)


def _hint_of_class(text: str, interface: Interface) -> str:
    import difflib

    names = {name.casefold(): name for name in interface.class_names}
    near = difflib.get_close_matches(text.strip().casefold(), names, n=1, cutoff=0.7)
    return f"{f'did you mean {names[near[0]]}? ' if near else ''}classes are {describe_classes(interface)}"


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
