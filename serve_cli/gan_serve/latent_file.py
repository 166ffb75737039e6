"""Latents from a file: `--latents z.npy`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gan_serve.errors import GanportError


def read_latents(path: str | os.PathLike[str], z_dim: int) -> npt.NDArray[Any]:
    """The latents of a .npy file: floats (n, z_dim), mapped and not read, so that n may be large.

    (n, z_dim, 1, 1), as the DCGAN tutorial has them, and (z_dim,) for one are taken too. Raises `GanportError` for a
    file that is missing, no .npy of numbers, or of another shape.
    """
    path = Path(path)
    expected = f"expected numbers of shape (n, {z_dim})"
    try:
        z = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise GanportError(f"no latents at {path}", hint="check the path; numpy.save writes such a file") from error
    except IsADirectoryError as error:
        raise GanportError(
            f"{path} is a folder, expected a .npy file", hint="name the file in it that numpy.save wrote"
        ) from error
    except PermissionError as error:
        raise GanportError(f"{path} cannot be read", hint="check its permissions") from error
    except Exception as error:  # NumPy reads the header as Python's literals, and raises whatever that does
        raise GanportError(f"{path} is not a .npy file of numbers", hint="numpy.save writes one") from error
    if not isinstance(z, np.ndarray):
        raise GanportError(f"{path} is an archive of arrays, expected one array (.npy)", hint="numpy.save writes one")
    if z.dtype.kind not in "fiu":
        raise GanportError(
            f"{path} holds {z.dtype}, {expected}", hint="save it as floats: numpy.save(file, z.astype('float32'))"
        )
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
    latents: npt.NDArray[Any] = z
    return latents
