"""Latents from a file: `--latents z.npy`, or from a pipe: `… | gan-gen --latents /dev/stdin`."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gan_core.errors import GanportError
from gan_core.files.model_file import check_file, read_pipe


def open_latents(path: Path) -> npt.NDArray[Any]:
    """The numbers of a .npy file, of any shape; mapped and not read, so that there may be many, but for a pipe's.

    Raises `GanportError` for a file that is missing, or no .npy of numbers.
    """
    piped = read_pipe(path)
    if piped is None:
        check_file(
            path,
            "latents",
            lambda folder: f"name the file in it: {folder}/z.npy",
            missing="check the path; numpy.save writes such a file",
        )
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # NumPy's, of a shape beyond what a number holds
            z = np.load(path, mmap_mode="r", allow_pickle=False) if piped is None else np.load(io.BytesIO(piped))
    except Exception as error:  # NumPy reads the header as Python's literals, and raises whatever that does
        raise GanportError(f"{path} is not a .npy file of numbers", hint="numpy.save writes one") from error
    if not isinstance(z, np.ndarray):
        raise GanportError(f"{path} is an archive of arrays, expected one array (.npy)", hint="numpy.save writes one")
    if z.dtype.kind not in "fiu":
        raise GanportError(
            f"{path} holds {z.dtype}, expected numbers", hint="save it as floats: numpy.save(file, z.astype('float32'))"
        )
    if z.ndim == 0:
        raise GanportError(
            f"{path} holds latents of shape (), expected numbers of shape (n, z_dim)", hint="save one row a latent"
        )
    latents: npt.NDArray[Any] = z
    return latents


def fit_latents(z: npt.NDArray[Any], path: Path, z_dim: int) -> npt.NDArray[Any]:
    """The latents of `path` as (n, z_dim).

    (n, z_dim, 1, 1), as the DCGAN tutorial has them, and (z_dim,) for one are taken too. Raises `GanportError` for
    another shape.
    """
    expected = f"expected numbers of shape (n, {z_dim})"
    shape = z.shape
    if z.ndim == 1 and len(z) == z_dim:
        z = z[None]
    if z.ndim == 4 and z.shape[2:] == (1, 1):
        z = z[:, :, 0, 0]
    if z.ndim != 2 or z.shape[1] != z_dim:
        raise GanportError(
            f"{path} holds latents of shape {shape}, {expected}",
            hint="gan-gen --model FILE --info says how many components a latent of this generator has",
        )
    if not len(z):
        raise GanportError(f"{path} holds no latents, {expected} with n at least 1", hint="save one row a latent")
    return z
