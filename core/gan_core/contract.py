"""What a model file says about itself: the artefact's contract.

An ONNX file carries it in `metadata_props`, TorchScript in `_extra_files`; each field is one JSON value under
a key `gan.*`. The contract is all that is needed to draw: which latents, which classes, which values. docs/contract.md
describes every key.

    inputs   z       float32  (batch, z_dim)
             label   int64    (batch,)               only when there are classes
    outputs  image   float32  (batch, C, H, W)       in `value_range`
             pixels  uint8    (batch, H, W, C)       floor(255 v + 0.5), v = image scaled to [0, 1], clamped
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gan_core import schema
from gan_core.errors import ContractError
from gan_core.latents import LATENT_LAWS, SEED_LIMIT, LatentLaw
from gan_core.limits import LIMITS
from gan_core.printable import json_text

CONTRACT_VERSION = 1
PREFIX = "gan."
RNG = "philox4x32-10"
STORES = ("fp32", "fp16")

Json = dict[str, Any]


@dataclass(frozen=True)
class Golden:
    """One expected image: `png` is a base64 PNG of `pixels` for `seed` (and `label`), as PyTorch drew it.

    Images over 64 pixels a side are kept as their area mean at `scale` (2 means half the size).
    """

    seed: int
    label: int | None
    scale: int
    png: str


@dataclass(frozen=True)
class Contract:
    """The contract of one generator. Frozen; `to_metadata` and `from_metadata` are inverses.

    z_dim        components of a latent
    latent       the law of a latent's components: "normal" N(0, 1) or "uniform" U(-1, 1)
    image        (C, H, W); C is 1 (grey) or 3 (RGB)
    value_range  what (black, white) are in the output `image`
    n_classes    0 for an unconditional generator; labels are 0 … n_classes - 1
    class_names  one name per class, or empty
    precision    "fp32", "fp16", "int8": where the graph computes
    store        "fp32", or "fp16" when weights that compute in float32 are saved rounded to float16
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
    """

    z_dim: int
    image: tuple[int, int, int]
    latent: LatentLaw = "normal"
    value_range: tuple[float, float] = (-1.0, 1.0)
    n_classes: int = 0
    class_names: tuple[str, ...] = ()
    precision: str = "fp32"
    store: str = "fp32"
    kept_fp32: tuple[str, ...] = ()
    weights: str = "raw"
    name: str = "generator"
    spec: Json | None = None
    source: Json = field(default_factory=dict)
    training: Json = field(default_factory=dict)
    exporter: Json = field(default_factory=dict)
    passes: tuple[str, ...] = ()
    parity: Json = field(default_factory=dict)
    golden: tuple[Golden, ...] = ()
    assumptions: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    graph_sha256: str = ""

    def __post_init__(self) -> None:
        _require(self.z_dim >= 1, f"z_dim must be at least 1, got {self.z_dim}")
        _require(self.latent in LATENT_LAWS, f"latent must be one of {', '.join(LATENT_LAWS)}, got {self.latent!r}")
        _require(len(self.image) == 3 and min(self.image) >= 1, f"image must be (C, H, W), got {self.image}")
        _require(self.image[0] in (1, 3), f"images must have 1 or 3 channels, got {self.image[0]}")
        _require(
            len(self.value_range) == 2 and self.value_range[0] < self.value_range[1],
            f"value_range must be (black, white) with black < white, got {self.value_range}",
        )
        _require(self.store in STORES, f"store must be one of {', '.join(STORES)}, got {self.store!r}")
        _require(self.n_classes >= 0, f"n_classes must not be negative, got {self.n_classes}")
        _require(
            len(self.class_names) in (0, self.n_classes),
            f"{len(self.class_names)} class names for {self.n_classes} classes",
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
    def held_to(self) -> str:
        """The precision whose limits hold (`gan_core.limits`): that of the graph, or of weights rounded to less."""
        return self.store if self.precision == "fp32" else self.precision

    def to_metadata(self) -> dict[str, str]:
        """The contract as string pairs: every key starts with `gan.`, every value is JSON."""
        values: Json = {
            "contract": CONTRACT_VERSION,
            "name": self.name,
            "latent": {"law": self.latent, "z_dim": self.z_dim, "rng": RNG},
            "image": {"channels": self.channels, "height": self.height, "width": self.width},
            "value_range": list(self.value_range),
            "classes": {"n": self.n_classes, "names": list(self.class_names)},
            "precision": self.precision,
            "store": self.store,
            "kept_fp32": list(self.kept_fp32),
            "weights": self.weights,
            "spec": self.spec,
            "source": self.source,
            "training": self.training,
            "exporter": self.exporter,
            "passes": list(self.passes),
            "parity": self.parity,
            "golden": [vars(golden) for golden in self.golden],
            "assumptions": list(self.assumptions),
            "answers": list(self.answers),
            "doubts": list(self.doubts),
            "graph_sha256": self.graph_sha256,
        }
        return {PREFIX + key: json_text(value, utf8=True) for key, value in values.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], *, where: str = "the model") -> Contract | None:
        """Reads the contract from a file's string pairs; None when the file has none.

        Raises `ContractError` when it has one that this version cannot read, or that is damaged.
        """
        if PREFIX + "contract" not in metadata:
            return None
        version = _read(metadata, "contract", schema.whole(0, 1 << 31), where)
        if version != CONTRACT_VERSION:
            raise ContractError(
                f"{where} has contract version {version}, this ganport reads {CONTRACT_VERSION}",
                hint="install the ganport that wrote it, or export it again",
            )
        values = {key: _read(metadata, key, read, where) for key, read in _FIELDS.items()}
        values |= {
            key: _read(metadata, key, read, where) for key, read in _LATER_FIELDS.items() if PREFIX + key in metadata
        }
        latent, image, classes = values.pop("latent"), values.pop("image"), values.pop("classes")
        try:
            made = cls(
                z_dim=latent["z_dim"],
                latent=latent["law"],
                image=(image["channels"], image["height"], image["width"]),
                n_classes=classes["n"],
                class_names=classes["names"],
                golden=tuple(Golden(**golden) for golden in values.pop("golden")),
                **values,
            )
            _require(math.prod(made.image) <= MAX_IMAGE_VALUES, f"images of {made.width}x{made.height} are too large")
        except ContractError as error:
            raise ContractError(f"{where}: its gan.* metadata makes no sense: {error}", hint=_REPAIR) from None
        return made


MAX_Z_DIM = 1 << 16
MAX_CLASSES = 1 << 16
MAX_SIDE = 1 << 14
MAX_IMAGE_VALUES = 1 << 27
"""Bounds of what is read from a file, far above what anybody trained, and low enough to be drawn."""

_REPAIR = "it was changed after its export, or is damaged; export it again"
_NAMES = schema.list_of(schema.text(4000), 1 << 16)

_FIELDS: dict[str, schema.Read] = {
    "name": schema.text(1000),
    "latent": schema.record({"law": schema.one_of(LATENT_LAWS), "z_dim": schema.whole(1, MAX_Z_DIM)}),
    "image": schema.record(
        {
            "channels": schema.whole(1, 3),
            "height": schema.whole(1, MAX_SIDE),
            "width": schema.whole(1, MAX_SIDE),
        }
    ),
    "value_range": schema.list_of(schema.number, 2, 2),
    "classes": schema.record(
        {"n": schema.whole(0, MAX_CLASSES), "names": schema.list_of(schema.text(1000), MAX_CLASSES)}
    ),
    "precision": schema.one_of(tuple(LIMITS)),
    "store": schema.one_of(STORES),
    "kept_fp32": _NAMES,
    "weights": schema.text(100),
    "spec": schema.maybe(schema.json_object),
    "source": schema.known(
        {
            "file": schema.maybe(schema.text(4000)),
            "sha256": schema.maybe(schema.text(64)),
            "key": schema.maybe(schema.text(4000)),
            "format": schema.maybe(schema.text(100)),
            "live": schema.json_object,
        }
    ),
    "training": schema.json_object,
    "exporter": schema.json_object,
    "passes": _NAMES,
    "parity": schema.json_object,
    "golden": schema.list_of(
        schema.record(
            {
                "seed": schema.whole(0, SEED_LIMIT - 1),
                "label": schema.maybe(schema.whole(0, MAX_CLASSES)),
                "scale": schema.whole(1, MAX_SIDE),
                "png": schema.text(1 << 20),
            }
        ),
        1000,
    ),
    "assumptions": _NAMES,
}
"""How each key is read, without its prefix."""

_LATER_FIELDS: dict[str, schema.Read] = {"graph_sha256": schema.text(64), "answers": _NAMES, "doubts": _NAMES}
"""Keys that files of this version came to have later: they may be missing."""


def _read(metadata: Mapping[str, str], key: str, read: schema.Read, where: str) -> Any:
    """One field. Raises `ContractError` where it is missing or not what it should be."""
    if PREFIX + key not in metadata:
        raise ContractError(f"{where}: its gan.* metadata is incomplete, it has no {PREFIX}{key}", hint=_REPAIR)
    try:
        return read(schema.read_json(metadata[PREFIX + key]))
    except ValueError as error:
        raise ContractError(f"{where}: its metadata {PREFIX}{key} is {error}", hint=_REPAIR) from None


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ContractError(
            message, hint="a generator draws images of 1 or 3 channels from latents; see docs/contract.md"
        )
