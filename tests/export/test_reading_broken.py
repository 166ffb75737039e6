"""Files that are merely broken: a field of another type, a module within itself, a file that moves: one line each."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from export.bomb_parts import TENSOR, archive, module, tensor, text
from export.reading_nets import generator, same
from gan_core.errors import GanportError
from gan_export import reading
from gan_export.reading import container, read_checkpoint

NET = generator()
VALUES: tuple[Any, ...] = (
    None, True, 7, -1, 2**63, 1.5, float("nan"), "x", "", b"x", (), (1, "a"), [], [None], {}, {"a": 1}, {1, 2},
    frozenset(), 1j, range(3), slice(1), np.float32(1), np.array(["a"]), np.zeros((0, 3)), torch.float16,
    torch.Size([2]), torch.device("cpu"), nn.ReLU(), torch.Generator, print, torch.tensor(2.0), torch.zeros(0),
    torch.ones(1) * 1j,
)  # fmt: skip


def outcome(path: Path, **options: Any) -> str:
    """Nothing for a file that is read; the line for one that is refused. Whatever else is raised fails the test."""
    refusal = None
    try:
        read_checkpoint(path, **options)
    except GanportError as error:
        refusal = error
    if refusal is None:
        return ""
    assert refusal.hint
    assert refusal.exit_code == 2
    assert "\n" not in str(refusal)
    assert "unexpected" not in str(refusal)
    return str(refusal)


@pytest.mark.slow
@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{str(value)[:12]}")
def test_a_value_of_another_type_anywhere(tmp_path: Path, value: Any) -> None:
    """In a state_dict, as a key, in and around a module: the generator is read, or the file refused."""
    network = nn.Sequential(nn.ConvTranspose2d(6, 3, 4), nn.Tanh())
    broken = {}
    for attribute in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "_forward_pre_hooks"):
        broken[attribute] = nn.Sequential(nn.ConvTranspose2d(6, 3, 4), nn.Tanh())
        broken[attribute][0].__dict__[attribute] = value
    strange = nn.ConvTranspose2d(6, 3, 4)
    strange.__dict__.update(stride=value, eps=value, kernel_size=value, training=value, in_channels=value)
    files = {
        "a value": NET | {"main.0.weight": value},
        "one more": NET | {"extra": value},
        "for the network": {"netG": value},
        "beside it": {"netG": NET, "netD": value, "args": value},
        "an attribute": nn.Sequential(strange, nn.Tanh()),
        "a buffer": network,
        **broken,
    }
    network.register_buffer("x", None)
    network._buffers["x"] = value
    with contextlib.suppress(TypeError):  # not every value can be a key
        files["a key"] = NET | {value: torch.ones(2, 2)}
    for what, content in files.items():
        for name, save in (("g.pt", torch.save), ("g.pkl", lambda c, p: p.write_bytes(pickle.dumps(c)))):
            path = tmp_path / name
            save(content, path)
            told = outcome(path)
            if what == "beside it":
                assert told == "" or "may be the generator" in told
            outcome(path, key="netG")


def test_buffers_that_are_a_number(tmp_path: Path) -> None:
    layer = nn.ConvTranspose2d(6, 3, 4)
    layer.__dict__["_buffers"] = 3
    torch.save(nn.Sequential(layer, nn.Tanh()), tmp_path / "g.pt")
    assert list(read_checkpoint(tmp_path / "g.pt").tensors) == ["0.weight", "0.bias"]


def test_modules_that_hold_themselves(tmp_path: Path) -> None:
    held = b"}(" + text("self") + b"h\x01" + text("again") + b"h\x01u"
    weights = {"_parameters": b"}" + text("weight") + TENSOR + b"s", "_modules": b"}"}
    itself = (
        module(weights)
        .replace(b")\x81}(", b")\x81q\x01}(", 1)
        .replace(text("_modules") + b"}", text("_modules") + held)
    )
    (tmp_path / "g.pt").write_bytes(archive(b"\x80\x02" + itself + b"."))
    assert list(read_checkpoint(tmp_path / "g.pt").tensors) == ["weight"]


@pytest.mark.parametrize("shape", [(16, 17), (257,), (2, 2, 65), (1,) * 17, (1 << 40,), (1 << 62, 4)])
def test_tensors_beyond_their_storage(tmp_path: Path, shape: tuple[int, ...]) -> None:
    strides = tuple(torch.Size(shape[at + 1 :]).numel() % (1 << 60) for at in range(len(shape)))
    (tmp_path / "g.pt").write_bytes(archive(tensor(256, shape, strides)))
    assert "a tensor" in outcome(tmp_path / "g.pt")


@pytest.mark.parametrize("shape", [(16, 16), (256,), (4, 64), (2, 2, 64)])
def test_tensors_that_fill_their_storage(tmp_path: Path, shape: tuple[int, ...]) -> None:
    strides = tuple(torch.Size(shape[at + 1 :]).numel() for at in range(len(shape)))
    (tmp_path / "g.pt").write_bytes(archive(tensor(256, shape, strides)))
    assert tuple(read_checkpoint(tmp_path / "g.pt").tensors["a.weight"].shape) == shape


def _loop(folder: Path) -> Path:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return folder / "a"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def _dangling(folder: Path) -> Path:
    (folder / "a").symlink_to(folder / "gone")
    return folder / "a"


@pytest.mark.parametrize("make", [_loop, _pipe, _dangling, Path])
def test_paths_that_are_no_files(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    assert outcome(make(tmp_path))


@pytest.mark.parametrize("path", ["a\0b", "/dev/null", "/dev/zero", "none/g.pt", "x" * 300, "g.pt/g.pt"])
def test_paths_that_lead_nowhere(tmp_path: Path, path: str) -> None:
    torch.save(NET, tmp_path / "g.pt")
    assert outcome(tmp_path / path)


@pytest.mark.parametrize("when", ["before it is opened", "while it is read"])
def test_a_file_that_is_moved_away(tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "g.pt"
    torch.save(NET, path)
    moment = "sniff" if when == "while it is read" else "open_container"
    module_ = container if when == "while it is read" else reading
    original = getattr(module_, moment)

    def gone(*args: Any) -> Any:
        path.unlink(missing_ok=True)
        return original(*args)

    monkeypatch.setattr(module_, moment, gone)
    assert "cannot be read" in outcome(path) or "no checkpoint" in outcome(path)


def test_good_files_are_still_read(tmp_path: Path) -> None:
    torch.save(NET, tmp_path / "g.pt")
    (tmp_path / "link.pt").symlink_to(tmp_path / "g.pt")
    assert same(read_checkpoint(tmp_path / "link.pt").tensors, NET)
