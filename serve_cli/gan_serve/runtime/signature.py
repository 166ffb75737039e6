"""A model's inputs and outputs, as the session shows them: ours are checked, a stranger's are understood.

A file without `gan.*` metadata says little: names, types and shapes of what goes in and comes out. That is enough for a
generator of one latent; what it does not say (the latent's law, the value range) is assumed, and each assumption
is one sentence in `contract.assumptions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gan_core.contract import Contract
from gan_core.errors import ContractError
from gan_core.files.metadata import Dims, Port

_FLOATS: dict[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
_HINT = "gan-export onnx makes a file that says what it is"


@dataclass(frozen=True)
class Signature:
    """How to feed a graph and what to read from it.

    z             name of the latent's input
    z_shape       per-sample shape the graph wants of it: (D,) or (D, 1, 1)
    z_dtype       element type the graph wants of it
    image         name of the float output (batch, C, H, W)
    label         name of the class input, or None
    pixels        name of the uint8 output (batch, H, W, C), or None: made from `image`
    fixed_batch   the one batch size that the graph takes, or None: any
    """

    z: str
    z_shape: tuple[int, ...]
    image: str
    z_dtype: type[np.floating[Any]] = np.float32
    label: str | None = None
    pixels: str | None = None
    fixed_batch: int | None = None


def check_ours(contract: Contract, inputs: Sequence[Port], outputs: Sequence[Port], where: str) -> Signature:
    """The signature of a file with a contract. Raises `ContractError` where its graph is not what the contract says."""
    c, h, w = contract.interface.image
    wanted_inputs: dict[str, tuple[str, Dims]] = {"z": ("tensor(float)", (None, contract.interface.z_dim))}
    if contract.interface.conditional:
        wanted_inputs["label"] = ("tensor(int64)", (None,))
    _check_ports(wanted_inputs, inputs, where, "takes")
    _check_ports(
        {"image": ("tensor(float)", (None, c, h, w)), "pixels": ("tensor(uint8)", (None, h, w, c))},
        [port for port in outputs if port.name in ("image", "pixels")],
        where,
        "gives",
    )
    return Signature(
        "z",
        (contract.interface.z_dim,),
        "image",
        label="label" if contract.interface.conditional else None,
        pixels="pixels",
    )


def _check_ports(wanted: dict[str, tuple[str, Dims]], found: Sequence[Port], where: str, verb: str) -> None:
    ports = {port.name: port for port in found}
    for name, (kind, dims) in wanted.items():
        port = ports.pop(name, None)
        want = Port(name, kind, dims)
        if port is None:
            raise ContractError(f"{where}: its metadata says that it {verb} {want}, its graph does not", hint=_REPAIR)
        fits = len(port.dims) == len(dims) and all(
            asked is None or side == asked for side, asked in zip(port.dims, dims, strict=True)
        )
        if port.type != kind or not fits:
            raise ContractError(
                f"{where}: its metadata says that it {verb} {kind} {want}, its graph {port.type} {port}", hint=_REPAIR
            )
        if port.dims[0] is not None:
            raise ContractError(f"{where}: the batch of {name} is fixed at {port.dims[0]}", hint=_REPAIR)
    if ports:
        raise ContractError(f"{where}: its graph {verb} {next(iter(ports))}, its metadata does not", hint=_REPAIR)


_REPAIR = "the file was changed after its export; export it again"


def understand(inputs: Sequence[Port], outputs: Sequence[Port], where: str) -> tuple[Signature, list[str]]:
    """The signature of a generator without metadata, and what was assumed of it.

    Raises `ContractError`, with what the file seems to be, when it is no generator of one latent.
    """
    latent = _latent_input(inputs, outputs, where)
    image = _image_output(outputs, where)
    batch = latent.dims[0]
    assumptions = [f"{latent.name} is a latent whose components are N(0, 1)"]
    if batch is not None:
        assumptions.append(f"the batch is fixed at {batch}: images are drawn {batch} at a time")
    depth = latent.dims[1]
    assert depth is not None
    shape = (depth,) if len(latent.dims) == 2 else (depth, 1, 1)
    return Signature(latent.name, shape, image.name, _FLOATS[latent.type], fixed_batch=batch), assumptions


def _latent_input(inputs: Sequence[Port], outputs: Sequence[Port], where: str) -> Port:
    takes, gives = " and ".join(map(str, inputs)) or "nothing", " and ".join(map(str, outputs))
    if len(inputs) != 1:
        raise ContractError(
            f"{where} takes {takes}; without gan.* metadata, only one latent can be fed",
            hint="feed it with code of your own, or make a file that says all of this: gan-export onnx --ckpt FILE",
        )
    (port,) = inputs
    images_out = any(len(output.dims) == 4 for output in outputs)
    if port.type not in _FLOATS:
        raise ContractError(f"{where} is not a generator: it takes {port.type} {takes}", hint=_HINT)
    if len(port.dims) == 4 and port.dims[2:] != (1, 1):
        what = "an image-to-image network" if images_out else "a classifier or discriminator"
        raise ContractError(f"{where} looks like {what}, not a generator: {takes} to {gives}", hint=_HINT)
    if len(port.dims) not in (2, 4):
        raise ContractError(f"{where} takes {takes}, expected a latent (batch, D) or (batch, D, 1, 1)", hint=_HINT)
    if port.dims[1] is None:
        raise ContractError(f"{where} does not say how long its latent is: {takes}", hint=_HINT)
    return port


def _image_output(outputs: Sequence[Port], where: str) -> Port:
    gives = " and ".join(map(str, outputs)) or "nothing"
    floats = [port for port in outputs if port.type in _FLOATS and len(port.dims) == 4]
    for port in floats:
        if port.dims[1] in (1, 3):
            return port
    for port in floats:
        if port.dims[1] is None and port.dims[3] not in (1, 3):
            return port  # its channels will show in the first image
    if any(port.dims[3] in (1, 3) for port in floats):
        raise ContractError(f"{where} gives {gives}: channels last; expected (batch, channels, H, W)", hint=_HINT)
    if floats:
        raise ContractError(f"{where} gives {gives}; expected images of 1 or 3 channels (batch, C, H, W)", hint=_HINT)
    raise ContractError(f"{where} gives no images (batch, C, H, W): {gives}", hint=_HINT)
