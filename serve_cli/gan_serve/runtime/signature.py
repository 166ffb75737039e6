"""A model's inputs and outputs, as the session shows them, and arrays as the graph takes and gives them.

A file of ours is held against its contract here; what the ports of a stranger's file mean, `foreign` finds out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.errors import ContractError
from gan_core.files.metadata import Dims, Port


@dataclass(frozen=True)
class Constant:
    """An input that is the same number for every image. `shape`: None for the batch."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    value: float


@dataclass(frozen=True)
class Signature:
    """How to feed a graph and what to read from it. Only a stranger's graph needs more than the names.

    z             name of the latent's input, or the image's
    z_shape       per-sample shape the graph wants of it: (D,), (D, 1, 1) …
    image         name of the image output
    label         name of the class input, or None
    pixels        name of the uint8 output (batch, H, W, C), or None: made from `image`
    fixed_batch   the one batch size that the graph takes, or None: any
    z_dtype       element type the graph wants of the latent
    label_dtype   and of the class; a float type wants the classes one-hot
    label_shape   per-sample shape of an integer class
    constants     what else is fed
    layout        "NCHW", "NHWC", or "flat": numbers in the order of CHW, in any shape
    single        whether the output is one image, without a first axis for the batch
    """

    z: str
    z_shape: tuple[int, ...]
    image: str
    label: str | None = None
    pixels: str | None = None
    fixed_batch: int | None = None
    z_dtype: str = "float32"
    label_dtype: str = "int64"
    label_shape: tuple[int, ...] = ()
    constants: tuple[Constant, ...] = ()
    layout: str = "NCHW"
    single: bool = False

    @property
    def mixes(self) -> bool:
        """Whether the class is a float vector, so that it can be shares of several."""
        return self.label is not None and np.dtype(self.label_dtype).kind == "f"

    def feeds(self, z: F32 | U8, label: I64 | F32 | None, n_classes: int) -> dict[str, npt.NDArray[Any]]:
        """The inputs that have a row an image, as the graph takes them.

        z      (n, z_dim), or pixels (n, H, W, C) where the graph takes them
        label  (n,); shares (n, n_classes) where the graph `mixes`
        """
        given: npt.NDArray[Any] = np.ascontiguousarray(z, self.z_dtype)
        found = {self.z: given if given.ndim == 4 else given.reshape(-1, *self.z_shape)}
        if self.label is not None:
            labels = np.asarray(label)
            if self.mixes:
                shares = labels if labels.ndim == 2 else np.equal.outer(labels, np.arange(n_classes))
                found[self.label] = shares.astype(self.label_dtype)
            else:
                found[self.label] = labels.astype(self.label_dtype).reshape(-1, *self.label_shape)
        for constant in self.constants:
            if None in constant.shape:
                shape = [len(z) if side is None else side for side in constant.shape]
                found[constant.name] = np.full(shape, constant.value, constant.dtype)
        return found

    def fixed(self) -> dict[str, npt.NDArray[Any]]:
        """The other inputs."""
        return {
            constant.name: np.full([side or 0 for side in constant.shape], constant.value, constant.dtype)
            for constant in self.constants
            if None not in constant.shape
        }

    def images(self, given: npt.NDArray[Any], image: tuple[int, int, int]) -> F32:
        """What the output `image` holds, as float32 (n, C, H, W)."""
        given = given[None] if self.single else given
        if self.layout == "NHWC":
            given = given.transpose(0, 3, 1, 2)
        elif self.layout == "flat":
            given = given.reshape(-1, *image)
        return np.ascontiguousarray(given, np.float32)


def check_ours(contract: Contract, inputs: Sequence[Port], outputs: Sequence[Port], where: str) -> Signature:
    """The signature of a file with a contract. Raises `ContractError` where its graph is not what the contract says."""
    interface = contract.interface
    sides: Dims = interface.image[1:]
    wanted_inputs: dict[str, tuple[str, Dims]] = {"z": ("tensor(float)", (None, interface.z_dim))}
    if interface.input is not None:
        given: Dims = interface.input_shape[1:]
        if not interface.input.fixed:
            sides = given = (None, None)
        wanted_inputs = {"input": ("tensor(uint8)", (None, *given, interface.input.channels))}
    if interface.conditional:
        wanted_inputs["label"] = ("tensor(int64)", (None,))
    _check_ports(wanted_inputs, inputs, where, "takes")
    _check_ports(
        {
            "image": ("tensor(float)", (None, interface.channels, *sides)),
            "pixels": ("tensor(uint8)", (None, *sides, interface.channels)),
        },
        [port for port in outputs if port.name in ("image", "pixels")],
        where,
        "gives",
    )
    image_input = interface.input is not None
    return Signature(
        interface.input_name,
        (interface.z_dim,),
        "image",
        label="label" if interface.conditional else None,
        pixels="pixels",
        z_dtype="uint8" if image_input else "float32",
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
