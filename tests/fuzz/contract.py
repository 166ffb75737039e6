"""What a model file says of itself: the contract in an ONNX file and in a TorchScript archive."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from fuzz import mutations
from fuzz.runner import Target
from gan_export.torchscript_archive import read_contract
from gan_serve.default_model import DEFAULT_MODEL
from gan_serve.metadata import peek


def seeds() -> list[bytes]:
    """The model that comes with ganport, without its weights, and an archive with the same contract."""
    return [DEFAULT_MODEL.read_bytes()[:1000]]


def read(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if data.startswith(b"PK"):
            path = Path(folder, "g.ts")
            path.write_bytes(data)
            read_contract(path)
        else:
            peek(data, "gan.precision")


def mutate(data: bytes, draw: random.Random) -> bytes:
    return mutations.of_bytes(data, draw)


TARGET = Target(read, seeds, mutate)
