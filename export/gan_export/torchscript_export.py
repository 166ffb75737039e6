"""A `Source` as a TorchScript file: its norms folded, traced, frozen, its contract in the archive.

The archive is rewritten after torch has made it: its debug records name files of this machine, and its class names
count the exports of this process. What is left depends on the checkpoint alone. torch.jit is deprecated (torch 2.9
warns at each use) and still what TorchScript files need: all else calls it through here,
where the warnings are dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._fuser import optimized_execution
from torch.nn.utils import fusion

from gan_core.contract import Contract
from gan_core.errors import JobError
from gan_core.files.archive import EXTRA, entries_sha256
from gan_export.source import Source, example_inputs, export_module
from gan_trainer.networks.generator import SpecGenerator

_RANDOM = ("aten::rand", "aten::normal", "aten::bernoulli", "aten::multinomial", "aten::uniform", "aten::poisson")


@contextlib.contextmanager
def _accepted() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..* is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..* is deprecated", category=DeprecationWarning)
        yield


def trace_frozen(module: nn.Module, example: tuple[Tensor, ...]) -> Any:
    """`module`, which must be in eval mode, traced on `example` and frozen: its weights become constants."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns of every Python number; the proof shows what was baked in
        traced = torch.jit.trace(module, example, check_trace=False)
        return torch.jit.freeze(traced.eval(), optimize_numerics=False)


def save_bytes(module: Any) -> bytes:
    """The archive of a scripted module, as torch writes it."""
    buffer = io.BytesIO()
    with _accepted():
        torch.jit.save(module, buffer)
    return buffer.getvalue()


def load_bytes(data: bytes, device: str = "cpu") -> Any:
    """The scripted module in a file's bytes, on `device`. Raises what torch raises (RuntimeError, ValueError).

    Loading runs what the file says: `gan_export.script_check` looks at it before.
    """
    with _accepted():
        return torch.jit.load(io.BytesIO(data), map_location=device)


@contextlib.contextmanager
def plain_execution() -> Iterator[None]:
    """Runs graphs as they are written: without it the second and third run are recompiled and may round otherwise."""
    with _accepted(), optimized_execution(False), torch.no_grad():
        yield


def constants(module: Any) -> list[Tensor]:
    """Every tensor the module holds: parameters, buffers, and the constants in its graph."""
    found = [*module.parameters(), *module.buffers()]
    for node in all_nodes(module):
        if node.kind() == "prim::Constant" and node.output().type().kind() == "TensorType":
            found.append(node.t("value"))
    return found


def all_nodes(module: Any) -> list[Any]:
    """Every node of the inlined graph, blocks of branches and loops included."""
    found: list[Any] = []
    pending = [module.inlined_graph]
    while pending:
        block = pending.pop()
        for node in block.nodes():
            found.append(node)
            pending.extend(node.blocks())
    return found


def draws_numbers(kind: str) -> bool:
    """Whether an operator of this kind draws random numbers (aten::dropout is judged by its argument)."""
    return kind.startswith(_RANDOM)


def fold_modules(generator: nn.Module) -> int:
    """Folds each BatchNorm of a `SpecGenerator` in eval mode into the linear or (transposed) convolution before it.

    Changes the module in place and returns how many were folded. Other modules are left alone: only a spec says
    which layer follows which. So are grouped transposed convolutions, whose channels lie otherwise.
    """
    if not isinstance(generator, SpecGenerator):
        return 0
    folded = 0
    layers = generator.layers
    with torch.no_grad():
        for index in range(1, len(layers)):
            if generator.spec.layers[index - 1].as_:
                continue  # what the norm gets is used elsewhere, too
            fused = _fused(layers[index - 1], layers[index])
            if fused is not None:
                layers[index - 1], layers[index] = fused, nn.Identity()
                folded += 1
    return folded


def _fused(before: nn.Module, norm: nn.Module) -> nn.Module | None:
    if not isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)) or norm.training or norm.running_mean is None:
        return None
    if isinstance(before, nn.Linear):
        return fusion.fuse_linear_bn_eval(before, norm)
    if isinstance(before, nn.ConvTranspose2d) and before.groups == 1:
        return fusion.fuse_conv_bn_eval(before, norm, transpose=True)
    if isinstance(before, nn.Conv2d):
        return fusion.fuse_conv_bn_eval(before, norm)
    return None


_MANGLED = re.compile(rb"___torch_mangle_\d+")
_PLAIN = b"generator"
_ALIGNMENT = 64
"""torch aligns tensors to 64 bytes in the archive, so that they can be mapped."""
_LOCAL_HEADER_BYTES = 30
"""A zip entry's local header, before its name. (APPNOTE.TXT 4.3.7)"""


def to_torchscript(source: Source) -> tuple[Any, tuple[str, ...]]:
    """The scripted module of `source`, and the names of the passes applied.

    forward(z) or forward(z, label) → (image, pixels), as in ONNX. Raises `JobError` when torch cannot trace it.
    """
    module = export_module(source)
    passes: tuple[str, ...] = ("freeze",)
    if source.spec is not None and fold_modules(module.generator):
        passes = ("fold_norms", "freeze")
    try:
        traced = trace_frozen(module, example_inputs(source))
        if hasattr(module.generator, "symbolic") and not _draws(traced, example_inputs(source, 2)):
            setattr(module.generator, "symbolic", True)  # noqa: B010 (a plain attribute, which mypy takes for a part)
            traced = trace_frozen(module, example_inputs(source))
        return traced, passes
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        raise JobError(
            f"torch.jit cannot trace this generator: {type(error).__name__}: {lines[0][:200]}",
            hint="run again with `debug` for torch's own report",
        ) from error


def _draws(traced: Any, inputs: tuple[Tensor, ...]) -> bool:
    """Whether a traced module draws as many images as it is given latents, whatever it was traced with."""
    try:
        with plain_execution(), torch.no_grad():
            return len(traced(*inputs)[0]) == len(inputs[0])
    except Exception:  # a shape that does not fit
        return False


def to_archive(module: Any, contract: Contract) -> bytes:
    """The bytes of a TorchScript file that carries `contract`: one extra file for each of its keys."""
    parts: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(save_bytes(module))) as archive:
        for name in archive.namelist():
            if name.endswith(".debug_pkl") or name.endswith("/.data/serialization_id"):
                continue
            data = archive.read(name)
            if name.endswith((".py", "/data.pkl")):
                data = _MANGLED.sub(_PLAIN, data)
            parts[_MANGLED.sub(_PLAIN, name.encode()).decode()] = data
    root = next(iter(parts)).split("/")[0]
    contract = dataclasses.replace(contract, graph_sha256=entries_sha256(parts))
    for key, text in contract.to_metadata().items():
        parts[f"{root}/{EXTRA}/{key}"] = text.encode("utf-8")
    return stored_zip(parts)


def stored_zip(parts: dict[str, bytes]) -> bytes:
    """An uncompressed zip with fixed dates, each entry's data aligned as torch does it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            info = zipfile.ZipInfo(name)  # dated 1980, whatever the clock says
            offset = buffer.tell() + _LOCAL_HEADER_BYTES + len(name.encode())
            padding = -(offset + 4) % _ALIGNMENT
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"\0" * padding
            archive.writestr(info, data)
    return buffer.getvalue()
