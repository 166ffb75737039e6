"""The arguments of a network's class, found from a checkpoint's names and shapes; and the class itself."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.errors import GanportError
from gan_export.answers import Answers, LiveAnswers
from gan_export.assumptions import code_of
from gan_export.live import building
from gan_export.live.building import arguments_of, build
from gan_export.live.loading import load_code
from gan_export.live.source import live_source
from gan_export.reading import Reading, read_checkpoint

BLOCK = """
import argparse
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.a, self.b = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x + self.b(torch.relu(self.a(x)))
"""
SIZES = f"""{BLOCK}
class Net(nn.Module):
    def __init__(self, z_dim, width, n_blocks, img_size, note, end=torch.tanh):
        super().__init__()
        self.out = end
        self.side, self.note, self.width = img_size // 4, note, width
        self.start = nn.Linear(z_dim, width * 4 * self.side ** 2)
        self.blocks = nn.Sequential(*(Block(width * 4) for _ in range(n_blocks)))
        self.end = nn.ConvTranspose2d(width * 4, 3, 4, 4)

    def forward(self, z):
        h = self.start(z).view(len(z), self.width * 4, self.side, self.side)
        return self.out(self.end(self.blocks(h)))
"""
OPTIONS = f"""{BLOCK}
class Net(nn.Module):
    def __init__(self, opt):
        super().__init__()
        self.start = nn.ConvTranspose2d(opt.nz, opt.ngf, 8)
        self.block, self.end = Block(opt.ngf), nn.Conv2d(opt.ngf, opt["nc"], opt.kernel, padding=opt.kernel // 2)
        self.slope = opt.slope

    def forward(self, z):
        return torch.tanh(self.end(nn.functional.leaky_relu(self.block(self.start(z)), self.slope)))

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--slope", type=float, default=0.3)
    net = Net(parser.parse_args())
"""
TUTORIAL = f"""{BLOCK}
class Net(nn.Module):
    def __init__(self, shape, ngpu, norm="batch", slope=0.1):
        super().__init__()
        self.shape, self.ngpu, self.slope = shape, ngpu, slope
        self.start = nn.Linear(6, shape[0] * shape[1] * shape[2])
        norms = {{"batch": nn.BatchNorm2d, "group": lambda channels: nn.GroupNorm(1, channels)}}
        self.norm = norms[norm](shape[0]) if norm in norms else None
        self.block = Block(shape[0])

    def forward(self, z):
        h = self.start(z).view(-1, *self.shape)
        h = h if self.norm is None else self.norm(h)
        return torch.tanh(nn.functional.leaky_relu(self.block(h), self.slope * self.ngpu))
"""


def saved(folder: Path, text: str, args: Any) -> tuple[str, Reading]:
    """("net.py:Net", the checkpoint of one that is built with `args`)."""
    (folder / "net.py").write_text(text)
    name = f"{folder / 'net.py'}:Net"
    torch.manual_seed(0)
    torch.save(build(load_code(name), args).state_dict(), folder / "g.pth")
    return name, read_checkpoint(folder / "g.pth", said_by="code")


@pytest.mark.slow
def test_sizes_and_counts_are_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    args = {"z_dim": 10, "width": 3, "n_blocks": 2, "img_size": 28, "note": 5}
    name, reading = saved(tmp_path, SIZES, args)
    with caplog.at_level(logging.INFO):
        found = arguments_of(load_code(name), None, reading)
    assert isinstance(found, dict)
    assert {**found, "note": 5} == args  # nothing reads the note
    assert f"net.py:Net has this checkpoint's tensors with `args` {json.dumps(found)}" in caplog.text
    build(load_code(name), found).load_state_dict(reading.saved)
    assert arguments_of(load_code(name), args, reading) == args
    assert arguments_of(load_code(name), {"note": 1, "width": 3}, reading) == {**args, "note": 1}
    assert arguments_of(load_code(name), list(args.values()), reading) == list(args.values())


@pytest.mark.slow
def test_what_is_said_wrongly_is_told_by_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "SECONDS", 1.5)
    saved(tmp_path, SIZES, {"z_dim": 10, "width": 3, "n_blocks": 2, "img_size": 28, "note": 5})
    said = Answers(live=LiveAnswers(f"{tmp_path / 'net.py'}:Net", {"z_dim": 11}))
    with pytest.raises(
        GanportError, match=r"do not fit net\.py:Net: 1 of another shape \(start\.weight 588x10 for 588x11\)"
    ):
        live_source(tmp_path / "g.pth", said)


def test_no_values_are_tried_of_a_network_with_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, reading = saved(tmp_path, SIZES, {"z_dim": 10, "width": 3, "n_blocks": 2, "img_size": 28, "note": 5})
    renamed = SIZES.replace("self.start", "self.first").replace("self.end", "self.last")
    (tmp_path / "net.py").write_text(renamed.replace("self.blocks", "self.body"))
    built = []

    def counted(*given: Any) -> Any:
        built.append(given)
        return build(*given)

    monkeypatch.setattr(building, "build", counted)
    assert arguments_of(load_code(f"{tmp_path / 'net.py'}:Net"), None, reading) is None
    assert len(built) == 2


def test_an_object_of_options_is_filled(tmp_path: Path) -> None:
    args = {"opt": {"nz": 7, "ngf": 6, "nc": 3, "kernel": 5, "slope": 0.3}}
    name, reading = saved(tmp_path, OPTIONS, args)
    assert arguments_of(load_code(name), {"opt": {"nc": 3}}, reading) == {"opt": {"nc": 3}}  # an object is said whole
    (tmp_path / "net.py").write_text(OPTIONS.replace('opt["nc"]', "opt.nc"))
    assert arguments_of(load_code(name), None, reading) == {"opt": {**args["opt"]}}


JOINED = f"""{BLOCK}
class Net(nn.Module):
    def __init__(self, z_dim, n_classes, size):
        super().__init__()
        self.size, self.label = size, nn.Embedding(n_classes, n_classes)
        self.start = nn.Linear(z_dim + n_classes, 12)

    def forward(self, z, y):
        return torch.tanh(self.start(torch.cat([z, self.label(y)], 1))).view(-1, 3, 2, 2)

def other(net):
    return net.size
"""


def test_what_two_arguments_make_together(tmp_path: Path) -> None:
    name, reading = saved(tmp_path, JOINED, {"z_dim": 100, "n_classes": 10, "size": 64})
    assert arguments_of(load_code(name), None, reading) == {"z_dim": 100, "n_classes": 10, "size": 28}


def test_settings_beside_the_tensors_come_first(tmp_path: Path) -> None:
    name, reading = saved(tmp_path, TUTORIAL, {"shape": [3, 28, 28], "ngpu": 2, "norm": "group", "slope": 0.25})
    torch.save({"g": reading.saved, "config": {"ngpu": 2, "slope": 0.25}}, tmp_path / "all.pth")
    found = arguments_of(load_code(name), {}, read_checkpoint(tmp_path / "all.pth", said_by="code"))
    assert isinstance(found, dict)
    assert {key: found[key] for key in ("shape", "ngpu", "slope")} == {"shape": [3, 28, 28], "ngpu": 2, "slope": 0.25}
    assert found["norm"] in ("batch", "group")


def test_what_no_weight_shows_is_asked_for(tmp_path: Path) -> None:
    name, reading = saved(tmp_path, TUTORIAL, {"shape": [3, 28, 28], "ngpu": 1, "norm": "group"})
    with pytest.raises(GanportError, match=r"net\.py:Net takes ngpu, which the weights do not show") as refused:
        arguments_of(load_code(name), None, reading)
    assert '"shape": [3, 28, 28]' in refused.value.hint
    called = TUTORIAL + "\n\ndef make():\n    return Net((3, 28, 28), 1, norm='group')\n"
    (tmp_path / "net.py").write_text(called)
    assert arguments_of(load_code(name), None, reading) == {
        "shape": [3, 28, 28], "ngpu": 1, "norm": "group", "slope": 0.1,
    }  # fmt: skip
    (tmp_path / "net.py").write_text(called + "\n\ndef other():\n    return Net((3, 28, 28), ngpu=2)\n")
    with pytest.raises(GanportError, match="takes ngpu"):
        arguments_of(load_code(name), None, reading)


@pytest.mark.slow
def test_the_class_of_a_file_is_found_and_named(tmp_path: Path) -> None:
    saved(tmp_path, SIZES, {"z_dim": 10, "width": 3, "n_blocks": 2, "img_size": 28, "note": 5})
    source = live_source(tmp_path / "g.pth", Answers(live=LiveAnswers(str(tmp_path / "net.py"))))
    assert (source.name, source.interface.z_dim, source.interface.image) == ("Net", 10, (3, 28, 28))
    assert source.provenance["live"]["args"]["img_size"] == 28
    assert code_of(read_checkpoint(tmp_path / "g.pth")) == f"{tmp_path / 'net.py'}:Net"
    twin = SIZES[SIZES.index("class Net") :].replace("Net", "Twin")
    for text, message in ((f"{SIZES}\n{twin}", "the classes Net, Twin have"), (BLOCK, "no class has")):
        (tmp_path / "net.py").write_text(text)
        with pytest.raises(GanportError, match=f"{message} the names of this checkpoint"):
            live_source(tmp_path / "g.pth", Answers(live=LiveAnswers(str(tmp_path / "net.py"))))
