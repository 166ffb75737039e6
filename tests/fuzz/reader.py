"""Checkpoints of every format and structure that the reader knows: zip, legacy, tar, safetensors, pickles, modules."""

from __future__ import annotations

import io
import pickle
import pickletools
import random
import struct
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from export.reading_nets import discriminator, generator, optimizer_state, parameters
from export.reading_saves import save_arrays, save_legacy, save_pickle, save_safetensors, save_tar, save_zip
from fuzz import mutations
from fuzz.runner import Target
from gan_export.reading import read_checkpoint
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import GeneratorCheckpoint, build, save_generator


def number(value: int) -> bytes:
    return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


NAMES = (
    "ctorch._utils\n_rebuild_tensor_v2\n", "ctorch._utils\n_rebuild_parameter\n", "ccollections\nOrderedDict\n",
    "cbuiltins\nlist\n", "cbuiltins\ndict\n", "cbuiltins\nset\n", "cbuiltins\nbytearray\n", "cbuiltins\ngetattr\n",
    "cmine\nBox\n", "ctorch\nfloat32\n", "ctorch\nFloatStorage\n", "ctorch\nSize\n", "ctorch\ndevice\n",
    "cnumpy\ndtype\n", "cnumpy.core.multiarray\n_reconstruct\n", "cnumpy.core.multiarray\nscalar\n",
    "c_codecs\nencode\n",    "ctorch.nn.modules.container\nSequential\n", "ctorch.storage\n_load_from_bytes\n",
    "ctorch._utils\n_rebuild_sparse_tensor\n", "ctorch._utils\n_rebuild_device_tensor_from_numpy\n",
    "ctorch._tensor\n_rebuild_from_type_v2\n", "ctorch_utils.persistence\n_reconstruct_persistent_obj\n",
)  # fmt: skip
TEXTS = (
    "storage", "0", "cpu", "_modules", "_parameters", "_buffers", "_non_persistent_buffers_set", "_forward_pre_hooks",
    "training", "eps", "state", "param_groups", "weight", "weight_g", "weight_v", "weight_orig", "weight_u", "ganport",
    "spec", "weights", "which", "netG", "netD", "g_ema", "f4", "O8", "\x1b[2J", "a.b.c", "n" * 3000, "",
)  # fmt: skip
NUMBERS = (0, 1, -1, 7, 255, 2**31, 2**62, 2**63, -(2**63), 2**70)
PIECES = (
    *(b"N", b"]", b"}", b")", b"(", b"0", b"2", b"\x88", b"\x89", b"\x8f", b"J\xff\xff\xff\xff", b"\x94", b"1"),
    *(b"R", b"b", b"s", b"u", b"a", b"e", b"t", b"d", b"l", b"Q", b"o", b"\x81", b"\x92", b"\x93", b"\x85", b"\x86"),
    *(b"\x87", b"\x90", b"\x91", b"G\x7f\xf8" + bytes(6), b"G\x7f\xef" + b"\xff" * 6, b"B\x04\x00\x00\x00abcd"),
    *(b"\x96\x04" + bytes(7) + b"abcd", b"\x95\xff" + bytes(7), b"\x8b\xff\xff\xff\x7f", b"."),
    *map(number, NUMBERS),
    *map(text, TEXTS),
    *(name.encode() for name in NAMES),
    *(b"h" + bytes([index]) for index in range(24)),
    *(b"q" + bytes([index]) for index in range(8)),
)
"""What a pickle is made of, to be put anywhere: values, names, containers, calls, what was remembered."""


def seeds() -> list[bytes]:
    """Small files: every format, and everything that a generator may lie in."""
    net = generator()
    module = nn.Sequential(
        nn.Linear(3, 4), nn.LeakyReLU(0.2), nn.BatchNorm1d(4), nn.utils.spectral_norm(nn.Linear(4, 784)), nn.Tanh()
    )
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 784))
    whole = {"netG": net, "netD": discriminator(), "optimizer": optimizer_state(), "args": {"lr": 0.1, "z": [1, "a"]}}
    odd = {"x": torch.ones(2, 3).to_sparse(), "y": torch.ones(2, device="meta"), "z": torch.ones(2).half()}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        path = Path(folder, "g")

        def written(save: Any, content: Any) -> bytes:
            save(content, path)
            return path.read_bytes()

        spec = network_spec("mlp", 28, 1, width=4, z_dim=8)
        ours = GeneratorCheckpoint(spec, build(spec).state_dict(), "ema", {"steps": 3})
        return [
            *(written(save, net) for save in (save_zip, save_legacy, save_tar, save_safetensors, save_arrays(2))),
            *(written(save, whole) for save in (save_zip, save_legacy, save_pickle(4))),
            *(written(save, module) for save in (save_zip, save_pickle(2))),
            written(save_generator, ours),
            written(save_zip, {"shadow": parameters(net), "model": net}),
            written(save_zip, {"ema": {"module": normed.state_dict()}}),
            written(save_legacy, {"netG": net, "buffers": odd}),
            written(torch.jit.save, torch.jit.trace(module.eval(), torch.ones(1, 3))),
            pickle.dumps(module, 0),
        ]


def read(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "g.pt")
        path.write_bytes(data)
        read_checkpoint(path)


def mutate(data: bytes, draw: random.Random) -> bytes:
    if data.startswith(b"PK"):
        return mutations.of_zip(data, draw, _entry)
    if data[8:9] == b"{":
        length = int.from_bytes(data[:8], "little")
        header = mutations.of_json(data[8 : 8 + length].decode("utf-8", "ignore"), draw).encode("utf-8", "ignore")
        return len(header).to_bytes(8, "little") + header + data[8 + length :]
    if data[257:262] == b"ustar":
        return mutations.of_bytes(data, draw) if draw.random() < 0.5 else _tar(data, draw)
    return of_pickle(data, draw)


def of_pickle(data: bytes, draw: random.Random) -> bytes:
    """A few opcodes left out, doubled, moved, replaced or put in; what follows the pickles stays."""
    if draw.random() < 0.1:
        return mutations.of_bytes(data, draw)
    parts, rest = _opcodes(data)
    if not parts:
        return mutations.of_bytes(data, draw)
    for _ in range(draw.choice((1, 1, 2, 4))):
        start = draw.randrange(len(parts))
        end = start + draw.choice((1, 1, 2, 5, 20))
        there = draw.randrange(len(parts))
        strange = [draw.choice(PIECES) for _ in range(draw.choice((1, 1, 2, 4)))]
        parts = draw.choice((
            lambda: parts[:start] + parts[end:],  # noqa: B023
            lambda: parts[:end] + parts[start:],  # noqa: B023
            lambda: parts[:start] + strange + parts[start:],  # noqa: B023
            lambda: parts[:start] + strange + parts[start + 1 :],  # noqa: B023
            lambda: parts[:there] + parts[start:end] + parts[there:],  # noqa: B023
            lambda: [*parts[:start], mutations.of_bytes(parts[start], draw), *parts[start + 1 :]],  # noqa: B023
        ))()  # fmt: skip
        if not parts:
            break
    return b"".join(parts) + rest


def _opcodes(data: bytes) -> tuple[list[bytes], bytes]:
    """The opcodes of the pickles that `data` begins with, and what comes after them."""
    stream = io.BytesIO(data)
    cuts: list[int] = []
    end = 0
    try:
        while True:
            found = [position for _, _, position in pickletools.genops(stream)]
            cuts += [position for position in found if position is not None]
            end = stream.tell()
    except Exception:
        cuts = [cut for cut in cuts if cut < end]
    return [data[a:b] for a, b in zip(cuts, [*cuts, end][1:], strict=True)], data[end:]


def _entry(name: str, content: bytes, draw: random.Random) -> bytes:
    if name.endswith(".pkl"):
        return of_pickle(content, draw)
    return (
        mutations.of_json(content.decode(), draw).encode()
        if name.endswith(".json")
        else mutations.of_bytes(content, draw)
    )


def _tar(data: bytes, draw: random.Random) -> bytes:
    """One member's pickles changed, its length kept."""
    at, spans = 0, []
    while (size := data[at + 124 : at + 135]).strip(b"01234567") == b"" and size:
        spans.append((at + 512, at + 512 + int(size, 8)))
        at += 512 + -(-int(size, 8) // 512) * 512
    start, end = draw.choice(spans or [(0, len(data))])
    return data[:start] + of_pickle(data[start:end], draw)[: end - start].ljust(end - start, b"\0") + data[end:]


TARGET = Target(read, seeds, mutate)
