"""TorchScript files: small ones, and ones that somebody changed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gan_core.contract import Contract
from gan_core.errors import ContractError
from gan_core.interface import Interface
from gan_export.torchscript_export import to_archive
from gan_export.torchscript_runtime import load

CONTRACT = Contract(Interface(8, (1, 4, 4)))
WRITTEN = "canary.bin"


class Plain(nn.Module):
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        image = torch.tanh(z @ torch.ones(8, 16)).view(-1, 1, 4, 4)
        return image, (image * 127.5 + 128).floor().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


class Last(nn.Module):
    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        image = torch.tanh(y).view(-1, 1, 4, 4)
        return image, (image * 127.5 + 128).floor().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def scripted(module: nn.Module) -> bytes:
    return to_archive(torch.jit.script(module.eval()), CONTRACT)


def save(data: bytes, name: str = "m.ts") -> Path:
    Path(name).write_bytes(data)
    return Path(name)


def with_entry(data: bytes, ends: str, change: Callable[[bytes], bytes], compress: int = zipfile.ZIP_STORED) -> bytes:
    """The archive with the entries whose names end so changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            info = zipfile.ZipInfo(name)
            info.compress_type = compress if name.endswith(ends) else zipfile.ZIP_STORED
            new.writestr(info, change(old.read(name)) if name.endswith(ends) else old.read(name))
    return buffer.getvalue()


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """For `with_entry`: the first `old` becomes `new`."""
    return lambda entry: entry.replace(old, new, 1)


def refused(data: bytes) -> ContractError:
    path = save(data)
    with pytest.raises(ContractError) as caught:
        load(path, "cpu")
    error = caught.value
    assert error.exit_code == 2
    assert error.hint
    assert len(str(error)) < 500
    assert not Path(WRITTEN).exists()
    return error


def entries_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
