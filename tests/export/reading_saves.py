"""The formats that training scripts leave, each written as its own writer wrote it."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def save_zip(state: Any, path: Path) -> None:
    torch.save(state, path)


def save_legacy(state: Any, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_safetensors(state: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(dict(state), path)


def save_pickle(protocol: int) -> Callable[[Any, Path], None]:
    def save(state: Any, path: Path) -> None:
        path.write_bytes(pickle.dumps(state, protocol=protocol))

    return save


def save_arrays(protocol: int) -> Callable[[Any, Path], None]:
    def save(state: dict[str, Tensor], path: Path) -> None:
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        path.write_bytes(pickle.dumps(arrays, protocol=protocol))

    return save


def save_tar(state: dict[str, Tensor], path: Path) -> None:
    """The format of torch before 0.1.10, as its `torch.save` wrote it."""
    parts = {"storages": io.BytesIO(), "tensors": io.BytesIO()}

    def dump(value: object, part: str) -> None:
        pickle.dump(value, parts[part], protocol=2)

    dump(len(state), "storages")
    dump(len(state), "tensors")
    for key, tensor in enumerate(state.values()):
        kind = torch.LongStorage if tensor.dtype == torch.int64 else torch.FloatStorage
        dump((key, "cuda:0", kind), "storages")
        flat = tensor.contiguous().flatten().numpy()
        parts["storages"].write(struct.pack("<q", flat.size) + flat.tobytes())
        dump((1000 + key, key, torch.FloatTensor), "tensors")
        shape, stride = tensor.shape, tensor.contiguous().stride()
        parts["tensors"].write(struct.pack("<ii", len(shape), 0) + struct.pack(f"<{2 * len(shape)}q", *shape, *stride))
        parts["tensors"].write(struct.pack("<q", 0))
    dump([], "storages")
    main = io.BytesIO()
    keys = {id(tensor): 1000 + key for key, tensor in enumerate(state.values())}

    class Pickler(pickle._Pickler):
        def persistent_id(self, value: Any) -> int | None:
            return keys.get(id(value))

    Pickler(main, protocol=2).dump(OrderedDict(state))
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, part in {**parts, "pickle": main}.items():
            member = tarfile.TarInfo(name)
            member.size = len(part.getvalue())
            archive.addfile(member, io.BytesIO(part.getvalue()))
