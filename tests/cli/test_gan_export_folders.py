"""What lies in a folder: every kind of file, in any state, in one table that nothing ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from cli.conftest import Run, nobody
from export.foreign_networks import sequential, settled
from export.reading_payloads import Calls
from export.tiny import save_checkpoint
from gan_export import survey
from gan_export.survey import files_in, look, paired
from serve.onnx_files import contract, save


def generator() -> dict[str, torch.Tensor]:
    return dict(settled(sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh())).state_dict())


def discriminator() -> dict[str, torch.Tensor]:
    return dict(nn.Sequential(nn.Linear(784, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)).state_dict())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pairs, a file of both, one of ours, a table's network, and what is none."""
    here = tmp_path / "downloads"
    (here / "run").mkdir(parents=True)
    for where, g, d in ((here, "netG.pth", "netD.pth"), (here / "run", "g_10.pt", "d_10.pt")):
        torch.save(generator(), where / g)
        torch.save(discriminator(), where / d)
    torch.save({"G": generator(), "D": discriminator()}, here / "both.ckpt")
    torch.save(nn.Sequential(nn.Linear(9, 16), nn.Linear(16, 5)).state_dict(), here / "rows.pth")
    save_checkpoint(here / "ours.pt")
    (here / "page.pth").write_bytes(b"<!DOCTYPE html><html>")
    (here / "code.ts").write_text("let x = 1\n")
    (here / "notes.txt").write_text("hello\n")
    return here


def test_a_folder_as_a_table(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run("inspect", folder)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert "z 6 → 1x28x28" in rows["netG.pth"]
    assert rows["netD.pth"].startswith("  netD.pth")
    assert rows["netD.pth"].endswith("of the generator above")
    assert lines.index(rows["netD.pth"]) == lines.index(rows["netG.pth"]) + 1
    assert "discriminator at D" in " ".join(out.split())
    assert "table" in rows["rows.pth"]
    assert "ganport's own" in out
    assert "an HTML page" in out
    assert "code.ts" not in out
    assert "notes.txt" not in out
    assert "\nrun/\n" in out
    assert lines[-1] == f"next: gan-export inspect {folder / 'both.ckpt'}"


def test_as_json(folder: Path, run: Run) -> None:
    code, out, _ = run("inspect", folder, "--json")
    said = json.loads(out)
    files = {Path(each["file"]).name: each for each in said["files"]}
    assert code == 0
    assert files["netG.pth"]["discriminator"] == str(folder / "netD.pth")
    assert (
        files["netG.pth"] | {"kind": "generator", "z_dim": 6, "classes": 0, "image": [1, 28, 28]} == files["netG.pth"]
    )
    assert files["both.ckpt"]["discriminator_key"] == "D"
    assert files["netD.pth"]["kind"] == "discriminator"
    assert files["page.pth"]["kind"] == "no checkpoint"
    assert said["next"].startswith("gan-export inspect ")


def test_named_files_are_looked_at_whatever_they_are_called(folder: Path, run: Run) -> None:
    code, out, _ = run("inspect", folder / "netG.pth", folder / "notes.txt", folder / "gone.pth", folder / "netG.pth")
    assert code == 0
    assert out.count("netG.pth ") == 1
    assert "no checkpoint of any known format" in " ".join(out.split())
    assert "there is no such file" in out


def test_a_single_file_is_inspected_as_by_its_option(folder: Path, run: Run) -> None:
    for name in ("ours.pt", "page.pth", "rows.pth"):
        assert run("inspect", folder / name) == run("inspect", "--ckpt", folder / name)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ((), "expected a checkpoint, got none", "FOLDER"),
        (("a.pth", "--ckpt", "b.pth"), "got FILE and --ckpt, which name two", "FILE"),
        ((".", "--key", "G"), "--key has no place with several files", "leave out --key"),
        ((".", "--classes", "3"), "--classes has no place with several files", "leave out --classes"),
        ((".", "--output-activation", "tanh"), "--output-activation has no place with", "leave out"),
        (("a.pth", "b.pth", "--out", "x.json"), "--out has no place with several files", "leave out --out"),
        (("gone.pth",), "no checkpoint at gone.pth", "check the path"),
        (("empty",), "empty holds no file that may be a checkpoint (.pt, ", "name the files themselves"),
    ],
)
def test_wrong_arguments(
    arguments: tuple[str, ...], message: str, hint: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    code, out, err = run("inspect", *arguments)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert message in first
    assert hint in second


def test_hostile_files_each_have_a_row(tmp_path: Path, run: Run) -> None:
    torch.save(generator(), tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pt").touch()
    torch.save({"x": Calls(os.system, "true")}, tmp_path / "attack.pth")
    (tmp_path / "na\x1b[31mme\n.pth").write_bytes(b"junk")
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "dangling.pth").symlink_to("nowhere.pth")
    (tmp_path / "loop.pth").symlink_to("loop.pth")
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x0a\x12\x07ganport" * 9)
    (tmp_path / "around").symlink_to(tmp_path)
    (tmp_path / "a folder.pth").mkdir()
    code, out, err = run("inspect", tmp_path)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "na\\x1b[31mme\\n.pth" in out
    assert "it may be an attack" in " ".join(out.split())
    assert "there is no such file" in out
    assert "1 link to folders not followed" in out
    assert out.count("no checkpoint ") >= 7


def test_models_that_are_exported_already(tmp_path: Path) -> None:
    ours = look(save(tmp_path / "ours.onnx"))
    assert (ours.kind, ours.said) == ("model", "exported")
    assert ours.interface == contract().interface
    stranger = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    (tmp_path / "theirs.onnx").write_bytes(stranger.SerializeToString())
    assert look(tmp_path / "theirs.onnx").said == "ONNX of another exporter"


def test_what_is_unexpected_ends_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(generator(), tmp_path / "g.pth")

    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(survey, "read_checkpoint", broken)
    assert look(tmp_path / "g.pth").said == "cannot be read: ZeroDivisionError: oh"


def test_folders_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "1/2/3/4/5"
    deep.mkdir(parents=True)
    (deep / "unseen.pth").touch()
    (deep.parent / "seen.pth").touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden/unseen.pth").touch()
    for n in range(12):
        (tmp_path / f"{n:02}.pth").touch()
    files, left_out = files_in(tmp_path)
    assert [file.name for file in files] == [*(f"{n:02}.pth" for n in range(12)), "seen.pth"]
    assert left_out == ["1 folder more than 4 levels down: name them for what they hold"]
    monkeypatch.setattr(survey, "MOST_FILES", 10)
    files, left_out = files_in(tmp_path)
    assert len(files) == 10
    assert left_out == ["only the first 10 files: name a folder further down for others"]


def test_a_folder_that_nobody_may_read(tmp_path: Path, run: Run) -> None:
    torch.save(generator(), tmp_path / "g.pth")
    (tmp_path / "closed").mkdir(mode=0o700)
    for here in (tmp_path, *tmp_path.parents):
        if here.stat().st_mode & 0o005 == 0o005:
            break
        here.chmod(0o755)
    run("inspect", tmp_path)  # nobody may not read the interpreter's modules either, which are loaded here
    with nobody():
        _, left_out = files_in(tmp_path)
        code, _, err = run("inspect", tmp_path / "closed")
    assert left_out == [f"not entered: {tmp_path / 'closed'}: Permission denied"]
    assert code == 2
    assert "closed cannot be read: Permission denied" in err


def test_a_file_name_says_discriminator_where_shapes_say_classifier(tmp_path: Path) -> None:
    judge = nn.Sequential(nn.Conv2d(3, 8, 4), nn.Conv2d(8, 16, 4), nn.Linear(64, 11)).state_dict()
    for name, kind in (("netD.pth", "discriminator"), ("c.pth", "classifier")):
        torch.save(judge, tmp_path / name)
        assert look(tmp_path / name).kind == kind
    torch.save(generator(), tmp_path / "netG.pth")
    pair = paired([look(tmp_path / name) for name in ("netD.pth", "c.pth", "netG.pth")])
    assert [entry.path.name for entry in pair] == ["c.pth", "netG.pth", "netD.pth"]


def test_sizes_that_shapes_leave_open_are_listed(tmp_path: Path, run: Run) -> None:
    parts = (nn.ConvTranspose2d(8, 16, 4), nn.BatchNorm2d(16), nn.ReLU(), nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ReLU(),
             nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())  # fmt: skip
    torch.save(settled(sequential(*parts)).state_dict(), tmp_path / "netG.pth")
    entry = look(tmp_path / "netG.pth")
    assert entry.interface is not None
    assert (3, 16, 16) in (entry.interface.image, *entry.others)
    assert entry.others
    assert entry.interface.image not in entry.others
    code, out, _ = run("inspect", tmp_path, "--json")
    (made,) = json.loads(out)["files"]
    assert (code, made["other_images"]) == (0, [list(image) for image in entry.others])
    assert " or " in run("inspect", tmp_path)[1]
