"""torch.jit in one place: it is deprecated (torch 2.9 warns at each use) and still what TorchScript files need.

Everything else imports these functions; what torch says of its own future is dropped here and nowhere else.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._fuser import optimized_execution

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
