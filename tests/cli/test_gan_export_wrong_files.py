"""Files that are no generator, named to every command: one line, a hint, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from cli.conftest import Run
from export.tiny import save_checkpoint, spec_of
from gan_trainer.networks.generator import GeneratorCheckpoint, save_generator

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a214614ab2935" * 4 + b"\nsize 12345\n"


def device(path: Path) -> None:
    path.symlink_to("/dev/null")


def folder(path: Path) -> None:
    path.mkdir()
    (path / "netG.pth").write_bytes(b"x")


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere.pth"))


def residual(path: Path) -> None:
    weights = {"fc.weight": torch.ones(64, 8), "block.c_sc.weight": torch.ones(9, 5, 1, 1)}
    torch.save({"netG": weights | {"out.weight": torch.ones(3, 4, 3, 3)}}, path)


def classifier(path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Flatten(), nn.Linear(16, 10))
    torch.save(net.state_dict(), path)


def contents(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def truncated(path: Path) -> None:
    path.write_bytes(save_checkpoint(path).read_bytes()[:3000])


def training_state(path: Path) -> None:
    torch.save({"ganport_run": 1, "generator": {}}, path)


def other_version(path: Path) -> None:
    torch.save({"ganport": 99, "spec": "{}", "weights": {}, "which": "raw", "training": "{}"}, path)


def torchscript_model(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
        archive.writestr("archive/code/__torch__/generator.py", b"")
        archive.writestr("archive/extra/gan.contract", b"1")


WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "nothing": (lambda _: None, "no checkpoint at", "check the path"),
    "pipe": (os.mkfifo, "is not a regular file, expected a checkpoint file", "save the file to a disk"),
    "device": (device, "is not a regular file, expected a checkpoint file", "save the file to a disk"),
    "folder": (folder, "is a folder, expected a checkpoint file", "netG.pth"),
    "empty folder": (Path.mkdir, "is a folder, expected a checkpoint file", "name the file itself"),
    "dangling link": (dangling, "no checkpoint at", "check the path"),
    "empty": (contents(b""), "is empty", "again"),
    "Git LFS pointer": (contents(POINTER), "is a Git LFS pointer", "git lfs pull"),
    "web page": (contents(b"<!DOCTYPE html><html>"), "is an HTML page", "download it again"),
    "JSON": (contents(b'{"z_dim": 8}'), "is JSON, expected a checkpoint", "g.pt"),
    "a list in JSON": (contents(b"[1, 2]"), "is JSON, expected a checkpoint", "g.pt"),
    "log": (contents(b"epoch 1 loss 3.2\n" * 9), "it begins with 'epoch 1 loss 3.2'", "torch.save"),
    "text": (contents(b"hello\n" * 40), "no checkpoint of any known format", ""),
    "noise": (contents(b"\x93" + os.urandom(900)), "no checkpoint of any known format", ""),
    "truncated": (truncated, "cut short or damaged", ""),
    "training state": (training_state, "is a training state, made to resume from", "--ckpt {folder}/g.pt"),
    "a tensor": (lambda path: torch.save(torch.zeros(3), path), "holds one tensor of shape", ""),
    "another version": (other_version, "format 99, this ganport reads 1", ""),
    "ONNX": (contents(b"\x08\x0a\x12\x07ganport"), "is an ONNX model already", "gan-export verify "),
    "TorchScript": (torchscript_model, "is an exported TorchScript model already", "gan-export verify "),
    "classifier": (classifier, "looks like a classifier", "generates no images"),
    "residual network": (residual, "but a residual network: it has block.c_sc.weight", "--module"),
}


@pytest.mark.parametrize("command", ["inspect", "onnx", "torchscript"])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_files(name: str, command: str, tmp_path: Path, run: Run) -> None:
    make, message, hint = WRONG[name]
    path = tmp_path / "G.pth"
    make(path)
    before = sorted(tmp_path.iterdir())
    code, out, err = run(command, "--ckpt", path)
    assert code == 2
    first, second = err.splitlines()
    assert first.startswith("error: ")
    assert str(path) in first
    assert message in first
    assert second.startswith("hint: ")
    assert hint.format(folder=tmp_path) in second
    assert bool(out) == (command == "inspect" and name == "residual network")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", ["onnx", "torchscript"])
def test_weights_of_another_spec(command: str, tmp_path: Path, run: Run) -> None:
    weights = {"layers.1.weight": torch.zeros(2, 2)}
    save_generator(GeneratorCheckpoint(spec_of(), weights), tmp_path / "g.pt")
    code, out, err = run(command, "--ckpt", tmp_path / "g.pt")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / 'g.pt'}: layers.1.weight has shape (2, 2), its spec says ")
    assert [path.name for path in tmp_path.iterdir()] == ["g.pt"]


def test_inspect_lists_the_tensors_of_what_it_does_not_understand(tmp_path: Path, run: Run) -> None:
    residual(tmp_path / "G.pth")
    _, page, _ = run("inspect", "--ckpt", tmp_path / "G.pth")
    assert "weights     raw, 3 tensors, from netG" in page
    assert ["out.weight", "3x4x3x3"] in [line.split() for line in page.splitlines()]
    said = json.loads(run("inspect", "--ckpt", tmp_path / "G.pth", "--json")[1])
    assert said["tensors"]["out.weight"] == [3, 4, 3, 3]
    assert said["key"] == "netG"
