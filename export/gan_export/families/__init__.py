"""Families: generators of widely used code, each recognised by all of its keys and shapes.

A family reads the few free numbers of that code (z_dim, widths, channels …) out of a file's shapes, and writes down the
whole network that the code builds with them, each layer with the name that its module has there. A file is of the
family when that gives its keys and shapes exactly, nothing missing and nothing over. What the code does beyond its
tensors (eps, activations, how z and label are joined, the distribution of z) then has strong evidence; forensics may
still contradict it, since people edit code.

`Family` lists what a new one has to say, `registry` knows them all, `registry.check_family` tries one. Each was read
in its repository: the layouts are facts about that code.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from gan_core.errors import GanportError
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import Shape
from gan_export.draft import Evidence
from gan_export.reading.modules import ModuleInfo
from gan_export.understanding.units import COUNTER

Numbers = TypeVar("Numbers")
"""The free numbers of a family's code: a NamedTuple, or any value that compares."""


class RefusedError(GanportError):
    """A file is of a known family, and cannot be exported."""


@dataclass(frozen=True)
class Folded:
    """Where a layer's tensors come from, if the file has them under other names or in another form.

    takes  what the file has for it: key → shape
    make   the layer's own tensors, by their names there, of the file's tensors by key: a constant multiplied in, rows
           put together …
    """

    takes: Mapping[str, Shape]
    make: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


NamedLayers = list[tuple[str | Folded, L.Layer]]
"""The layers in the order they run, each with its module's dotted name in the code ("" if it owns no tensors), or with
what its tensors are made of."""

DEEPEST = 200
"""Blocks that are looked for in a file that takes images; more are no network that a spec has room for."""
RELU = L.Activation("relu")
LEAKY = L.Activation("leaky_relu", slope=0.2)
TANH = L.Activation("tanh")
IDENTITY = L.Activation("identity")
"""At the end of a network without an output activation, so that this is said."""
SIGMOID = L.Activation("sigmoid")


@dataclass(frozen=True)
class Network:
    """What a family's code builds with some numbers.

    evidence   how surely these keys and shapes are that code's: strong, or weak where other code has them too
    questions  the choices ("structure", "latent", "eps" …) that the code leaves open, which are asked about
    said       those that the file's settings or modules say, which are proved
    notes      sentences for people that are not about one choice
    beside     tensors that its file has and no layer takes, key → shape: heads that do not run, filters of fixed values
    refused    why this network cannot be exported; raised where a file has exactly its keys and shapes
    knows_classes  whether it says what the author's own classes in a pickle of modules compute
    norms      why its BatchNorms may have to be others, in words; then they are asked about, once for all
    """

    layers: Sequence[tuple[str | Folded, L.Layer]]
    interface: Interface
    evidence: Evidence = Evidence.STRONG
    questions: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    beside: Mapping[str, Shape] = field(default_factory=dict)
    refused: RefusedError | None = None
    knows_classes: bool = False
    norms: str = ""

    @property
    def shapes(self) -> dict[str, Shape]:
        """Key → shape of a state_dict of it, without the counters of training steps."""
        found = dict(self.beside)
        for where, layer in self.layers:
            own = layer.tensors() if isinstance(where, str) else where.takes
            prefix = f"{where}." if isinstance(where, str) and where else ""
            found |= {prefix + name: shape for name, shape in own.items()}
        return found

    def weights(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ...]:
        """The tensors of each layer, by its names for them, of a file with the keys and shapes of `shapes`."""
        return tuple(
            {own: tensors[f"{where}.{own}" if where else own] for own in layer.tensors()}
            if isinstance(where, str)
            else where.make(tensors)
            for where, layer in self.layers
        )


class Shapes(dict[str, Shape]):
    """Key → shape of a file, the counters of training steps left out; a key that is missing has shape ().

    settings  plain values that the file has beside the tensors, by dotted path: {"config.alpha": 0.5, "args.size": 256}
    modules   of a pickle of whole modules: dotted name → class and hyperparameters
    """

    settings: Mapping[str, Any] = {}
    modules: Mapping[str, ModuleInfo] = {}

    @classmethod
    def of(
        cls,
        tensors: Mapping[str, Tensor],
        settings: Mapping[str, Any] | None = None,
        modules: Mapping[str, ModuleInfo] | None = None,
    ) -> Shapes:
        found = cls({key: tuple(tensor.shape) for key, tensor in tensors.items() if not key.endswith(COUNTER)})
        found.settings, found.modules = settings or {}, modules or {}
        return found

    def __missing__(self, key: str) -> Shape:
        return ()

    def rank(self, key: str, ndim: int) -> bool:
        """Whether the file has `key` with that many dimensions."""
        return len(self[key]) == ndim

    def row(self, keys: Iterable[str], ndim: int) -> list[Shape]:
        """The shapes of `keys` up to the first that is missing or has other than `ndim` dimensions."""
        found = []
        for key in keys:
            if not self.rank(key, ndim):
                break
            found.append(self[key])
        return found


class Family(abc.ABC, Generic[Numbers]):
    """One code's generator.

    name    what `gan-export inspect` calls it; also what `before` names
    source  where the code is, for people: "pytorch/examples dcgan"
    before  the families that it goes before, where a file matches both
    """

    name: ClassVar[str]
    source: ClassVar[str]
    before: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def numbers(self, shapes: Shapes) -> Iterable[Numbers]:
        """The numbers that a file with `shapes` may be made with, likeliest first; none where its signs are not there.

        It need not check more than it reads: the keys and shapes of `network` are held against the file's.
        """

    @abc.abstractmethod
    def network(self, numbers: Numbers) -> Network:
        """What the code builds with `numbers`. Raises `SpecError` for numbers that make no network."""

    @abc.abstractmethod
    def sample(self, random: Random) -> Numbers:
        """Numbers of some small network that the code can build, to try the family with."""


def scaled(name: str, layer: L.Layer, weight: float, bias: float = 1.0) -> tuple[Folded, L.Layer]:
    """A layer whose code multiplies its weight and its bias by constants each time it runs (an equalised learning
    rate): they are multiplied once."""
    factors = {"weight": weight, "bias": bias}
    takes = {f"{name}.{own}": shape for own, shape in layer.tensors().items()}
    return Folded(takes, lambda held: {own: held[f"{name}.{own}"] * factors[own] for own in layer.tensors()}), layer


def called(layers: NamedLayers, name: str) -> NamedLayers:
    """The layers, and what the last of them makes called `name`."""
    *before, (where, last) = layers
    return [*before, (where, replace(last, as_=name))]


def of_images(layers: NamedLayers, interface: Interface, **about: Any) -> Network:
    """A network that takes images: its halo is as wide as its layers reach. `about` are further fields of it."""
    taken = interface.input
    assert taken is not None
    halo = GeneratorSpec(interface, tuple(layer for _, layer in layers)).halo
    return Network(layers, replace(interface, input=replace(taken, halo=halo)), **about)


def images_of(count: int) -> list[tuple[int, int, int]]:
    """The square images (C, H, W) of 1 or 3 channels that have `count` numbers."""
    found = []
    for channels in (1, 3):
        side = math.isqrt(count // channels)
        if side and channels * side**2 == count:
            found.append((channels, side, side))
    return found
