"""`trust_pickle`: the file is loaded for real, then looked at like any other.

Loading a pickle runs whatever code its author put in, as you, with all you may do. This is the only place in ganport
that does it. What comes out is turned into the same plain tree that the safe reader makes.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_core.errors import GanportError
from gan_export.reading.inert import GlobalName, Inert
from gan_export.reading.lazy import LazyTensor
from gan_export.reading.rebuild import safe_key

MEANING = "`trust_pickle`: loading the file runs the code in it with your rights; do this only with a file you trust"
MAX_DEPTH = 64


def load_trusted(path: Path) -> Any:
    """The tree of a file loaded with torch.load(weights_only=False), or pickle where torch cannot.

    Raises `GanportError` when it does not load, such as for want of the classes it names.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                content = torch.load(path, map_location="cpu", weights_only=False)
            except (RuntimeError, AssertionError, pickle.UnpicklingError, EOFError):
                with path.open("rb") as handle:
                    content = pickle.load(handle)
    except (ImportError, AttributeError) as error:
        raise GanportError(
            f"it needs the code that it was written with: {str(error)[:200]}",
            hint="put that code on PYTHONPATH, or leave out `trust_pickle`: the safe reader needs no classes",
        ) from error
    except Exception as error:
        raise GanportError(
            f"it does not load even when trusted: {type(error).__name__}: {str(error)[:200]}",
            hint="leave out `trust_pickle` to see what the safe reader makes of it",
        ) from error
    return to_tree(content)


def to_tree(value: Any, done: dict[int, Any] | None = None, depth: int = 0) -> Any:
    """Live objects as the safe reader would give them: modules and unknown objects inert, tensors lazy.

    `done` maps what was turned already (by identity) to its tree, so that shared and circular objects stay so.
    """
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)]
    made = _leaf(value) if depth < MAX_DEPTH else None
    if made is None and depth < MAX_DEPTH and not isinstance(value, (str, bytes, int, float, complex, type(None))):
        made = _container(value)
        done[id(value)] = made
        if isinstance(made, dict):
            made.update((safe_key(key), to_tree(child, done, depth + 1)) for key, child in value.items())
        elif isinstance(made, list):
            made.extend(to_tree(child, done, depth + 1) for child in value)
        else:
            attributes = getattr(value, "__dict__", {})
            made.state = {safe_key(key): to_tree(child, done, depth + 1) for key, child in attributes.items()}
        return made
    return value if made is None else made


def _leaf(value: Any) -> Any:
    """What holds nothing further; None for the rest."""
    if isinstance(value, Tensor):
        return lazy(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return lazy(torch.from_numpy(value.astype(value.dtype.newbyteorder("="))))
    if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return GlobalName(str(getattr(value, "__module__", None) or "torch"), value.__qualname__.rpartition(".")[2])
    return None


def _container(value: Any) -> dict[Any, Any] | list[Any] | Inert:
    if isinstance(value, dict):
        return {}
    if isinstance(value, (list, tuple, set, frozenset)):
        return []
    return Inert(GlobalName(type(value).__module__, type(value).__qualname__))


def lazy(tensor: Tensor) -> LazyTensor:
    """A loaded tensor in the reader's terms."""
    plain = tensor.detach()
    if plain.layout != torch.strided or plain.is_quantized or plain.is_meta:
        return LazyTensor(tuple(plain.shape), problem="its weights are quantised, sparse or without data")
    return LazyTensor(tuple(plain.shape), plain.dtype, lambda: plain.cpu().clone(memory_format=torch.contiguous_format))
