"""What a model file says about itself: the artefact's contract.

An ONNX file carries it in `metadata_props`, TorchScript in `_extra_files`; each field is one JSON value under
a key `gan.*`. The contract is all that is needed to draw: which latents, which classes, which values. docs/contract.md
describes every key.

    inputs   z       float32  (batch, z_dim)
             label   int64    (batch,)               only when there are classes
             psi, w, from_w, noise, noise_maps       optional, where `Interface.options` has them: a row an image or one
       or    input   uint8    (batch, H, W, C)       an image; H and W are symbolic where it takes more than one size
    outputs  image   float32  (batch, C, H, W)       in `value_range`
             pixels  uint8    (batch, H, W, C)       floor(255 v + 0.5), v = image scaled to [0, 1], clamped
             styles  float32  (batch, num_ws, w_dim) what made them, only of a network with styles

Version 2 is written. Version 1, whose interface stands in four keys, is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from gan_core.errors import ContractError
from gan_core.fields import Json, OneOf, Range, SpecError, check_fields, from_json, read_json, shown, types_of
from gan_core.image_input import CHANNELS_IN_WORDS
from gan_core.interface import Interface
from gan_core.latents import SEED_LIMIT
from gan_core.limits import LIMITS
from gan_core.printable import json_text

CONTRACT_VERSION = 2
PREFIX = "gan."
RNG = "philox4x32-10"

MAX_Z_DIM = 1 << 16
MAX_CLASSES = 1 << 16
MAX_IMAGE_VALUES = 1 << 27
"""Bounds of what is read from a file, far above what anybody trained, and low enough to be drawn."""

_REPAIR = "it was changed after its export, or is damaged; export it again"

Text = Annotated[str, Range(0, 1000)]
Sentences = Annotated[tuple[Annotated[str, Range(0, 4000)], ...], Range(0, 1 << 16)]


@dataclass(frozen=True)
class Golden:
    """One expected image: `png` is a base64 PNG of `pixels` for `seed` (and `label`), as PyTorch drew it.

    Images over 64 pixels a side are kept as their area mean at `scale` (2 means half the size).
    """

    seed: Annotated[int, Range(0, SEED_LIMIT - 1)]
    label: Annotated[int, Range(0, MAX_CLASSES)] | None
    scale: Annotated[int, Range(1, 1 << 14)]
    png: Annotated[str, Range(0, 1 << 20)]

    def __post_init__(self) -> None:
        check_fields(self, ContractError, _REPAIR)


@dataclass(frozen=True)
class Contract:
    """The contract of one generator. Frozen; `to_metadata` and `from_metadata` are inverses.

    interface    what goes in and what comes out; images have 1, 3 or 4 channels
    precision    where the graph computes
    store        "fp16" when weights that compute in float32 are saved rounded to float16
    kept_fp32    the layers that stay in float32 in a file of lower precision
    weights      "ema" or "raw": which of a checkpoint's generators this is ("unknown" for a file without metadata)
    spec         the GeneratorSpec as JSON, or None for a generator that is not a chain of layers
    source       the checkpoint: {"file": name, "sha256": hex, …}
    training     the trainer's provenance: data, recipe, steps, seed, …
    exporter     versions: {"ganport", "torch", "onnx", "opset", …}
    passes       names of the graph passes applied
    parity       summary of the proof: {"image_max_abs", "pixels_max_lsb", "psnr_db", …}
    golden       the golden set
    assumptions  what was not in the file and had to be assumed; empty for a file of ours
    answers      what the user said in the place of assumptions
    doubts       why the images are likely wrong, as its exporter was told; empty where nothing spoke against it
    graph_sha256 the hex SHA-256 of all that the file holds but its contract (`files.metadata.graph_sha256`), or empty
                 for a file that does not say

    Raises `ContractError` on construction for a field of another type or out of its range.
    """

    interface: Interface
    precision: Annotated[str, OneOf(tuple(LIMITS))] = "fp32"
    store: Annotated[str, OneOf(("fp32", "fp16"))] = "fp32"
    kept_fp32: Sentences = ()
    weights: Text = "raw"
    name: Text = "generator"
    spec: Json | None = None
    source: Json = field(default_factory=dict)
    training: Json = field(default_factory=dict)
    exporter: Json = field(default_factory=dict)
    passes: Sentences = ()
    parity: Json = field(default_factory=dict)
    golden: Annotated[tuple[Golden, ...], Range(0, 1000)] = ()
    assumptions: Sentences = ()
    answers: Sentences = ()
    doubts: Sentences = ()
    graph_sha256: Annotated[str, Range(0, 64)] = ""

    def __post_init__(self) -> None:
        check_fields(self, ContractError, _REPAIR)
        for key, kind in _SOURCE.items():
            if not isinstance(self.source.get(key), kind | None):
                expected = "an object" if kind is dict else "a text"
                raise ContractError(f"source's {key} must be {expected}, got {shown(self.source[key])}", hint=_REPAIR)
        if self.interface.channels not in CHANNELS_IN_WORDS:
            raise ContractError(
                f"images must have 1, 3 or 4 channels, got {self.interface.channels}", hint="see docs/contract.md"
            )

    @property
    def held_to(self) -> str:
        """The precision whose limits hold (`gan_core.limits`): that of the graph, or of weights rounded to less."""
        return self.store if self.precision == "fp32" else self.precision

    def to_metadata(self) -> dict[str, str]:
        """The contract as string pairs: every key starts with `gan.`, every value is JSON."""
        values: Json = {"contract": CONTRACT_VERSION} | {name: getattr(self, name) for name in _KEYS}
        values["interface"] = _interface_json(self.interface)
        values["golden"] = [vars(golden) for golden in self.golden]
        return {PREFIX + key: json_text(value, utf8=True) for key, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], *, where: str = "the model") -> Contract | None:
        """Reads the contract from a file's string pairs; None when the file has none.

        Keys that are missing have their defaults, but for the interface; keys that it does not know are left alone.
        Raises `ContractError` when it has one that this version cannot read, or that is damaged.
        """
        if PREFIX + "contract" not in metadata:
            return None
        version = _read(metadata, "contract", where)
        if type(version) is not int or version not in _INTERFACES:
            raise ContractError(
                f"{where} has contract version {shown(version)}, this ganport reads "
                f"{' and '.join(map(str, _INTERFACES))}",
                hint="install the ganport that wrote it, or export it again",
            )
        keys, interface = _INTERFACES[version]
        said = {key: _read(metadata, key, where) for key in keys}
        values = {key: _read(metadata, key, where) for key in _KEYS[1:] if PREFIX + key in metadata}
        try:
            return from_json(cls, {**values, "interface": _bounded(interface(said))})
        except (ContractError, SpecError) as error:
            raise ContractError(f"{where}: its gan.* metadata makes no sense: {error}", hint=_REPAIR) from None


_KEYS = tuple(types_of(Contract))
_SOURCE: dict[str, type] = {"file": str, "sha256": str, "key": str, "format": str, "live": dict, "adopted": dict}


def _interface_json(interface: Interface) -> Json:
    c, h, w = interface.image
    label = {"classes": interface.n_classes, "names": interface.class_names} if interface.conditional else None
    z = {"dim": interface.z_dim, "law": interface.latent, "rng": RNG} if interface.input is None else None
    return {
        "z": z,
        "label": label,
        "image": {"channels": c, "height": h, "width": w, "range": interface.value_range},
    } | {name: value for name, value in interface.to_json().items() if name in (*_PARTS, "noise")}


_PARTS: dict[str, tuple[str, ...]] = {"styles": ("w_dim", "num_ws"), "noise_maps": ("size",), "input": ()}
"""Objects that an interface may have, and what each needs."""


def _interface(said: Json) -> Interface:
    """Version 2's. Raises `ContractError` or `SpecError` for what is none."""
    whole = _object(said, "interface")
    of_images = whole.get("input") is not None
    if of_images and whole.get("z") is not None:
        raise ContractError("it takes a latent and an image, expected one of them", hint=_REPAIR)
    z: Json = {"dim": 0, "law": "normal"} if of_images else _object(whole, "z", "dim", "law")
    image = _object(whole, "image", "channels", "height", "width", "range")
    label = _object(whole, "label", "classes", "names") if whole.get("label") else {"classes": 0, "names": []}
    parts = {name: whole[name] for name in _PARTS if whole.get(name) is not None}
    for name in parts:
        _object(parts, name, *_PARTS[name])
    values = _values(z["dim"], z["law"], image, image["range"], label["classes"], label["names"])
    return from_json(Interface, {**values, **parts, "noise": whole.get("noise", False)})


def _interface_1(said: Json) -> Interface:
    """Version 1's, which stands in four keys."""
    z, image = _object(said, "latent", "law", "z_dim"), _object(said, "image", "channels", "height", "width")
    classes = _object(said, "classes", "n", "names")
    return from_json(
        Interface, _values(z["z_dim"], z["law"], image, said["value_range"], classes["n"], classes["names"])
    )


def _values(z_dim: Any, law: Any, image: Json, value_range: Any, n_classes: Any, names: Any) -> Json:
    return {
        "z_dim": z_dim, "latent": law, "image": [image["channels"], image["height"], image["width"]],
        "value_range": value_range, "n_classes": n_classes, "class_names": names,
    }  # fmt: skip


_INTERFACES = {1: (("latent", "image", "value_range", "classes"), _interface_1), 2: (("interface",), _interface)}
"""Of each version that is read: the keys that hold the interface, and what reads it."""


def _bounded(interface: Interface) -> Interface:
    """Raises `ContractError` for more than can be drawn."""
    bounds = {
        "z_dim": (interface.z_dim, MAX_Z_DIM),
        "n_classes": (interface.n_classes, MAX_CLASSES),
        "numbers of an image": (math.prod(interface.image), MAX_IMAGE_VALUES),
    }
    for what, (found, most) in bounds.items():
        if found > most:
            raise ContractError(f"{what}: {found:,}, at most {most:,} are allowed", hint=_REPAIR)
    return interface


def _object(said: Json, name: str, *needed: str) -> Json:
    """The object at `name` of `said`. Raises `ContractError` where there is none that has the `needed` names."""
    value = said.get(name)
    if not isinstance(value, dict) or not set(needed) <= set(value):
        expected = f"an object of {', '.join(needed)}" if needed else "an object"
        raise ContractError(f"{name} must be {expected}, got {shown(value)}", hint=_REPAIR)
    return value


def _read(metadata: Mapping[str, str], key: str, where: str) -> Any:
    """One value. Raises `ContractError` where it is missing or cannot be read."""
    if PREFIX + key not in metadata:
        raise ContractError(f"{where}: its gan.* metadata is incomplete, it has no {PREFIX}{key}", hint=_REPAIR)
    try:
        return read_json(metadata[PREFIX + key])
    except ValueError as error:
        raise ContractError(f"{where}: its metadata {PREFIX}{key} is {error}", hint=_REPAIR) from None
