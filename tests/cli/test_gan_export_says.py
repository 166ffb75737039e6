"""What an export, `inspect` and `--info` say of what a file rests on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import gan_serve
from cli.conftest import Run
from export.foreign_networks import examples_dcgan, settled
from gan_serve.gen.about import info_json, info_text

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("drafted_once")]


def without_norms() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh())


def misfitting() -> dict[str, torch.Tensor]:
    """A DCGAN whose first BatchNorm remembers what no network of these weights makes."""
    weights = settled(examples_dcgan(32)).state_dict()
    name = next(name for name in weights if name.endswith("running_mean"))
    weights[name] = weights[name] + torch.linspace(-8, 8, len(weights[name]))
    return weights


@pytest.mark.long
def test_a_misfit_is_not_recommended_refused_and_told_where_it_is_exported(run: Run, tmp_path: Path) -> None:
    ckpt = tmp_path / "misfit.pth"
    torch.save({name.replace("main", "net"): value for name, value in misfitting().items()}, ckpt)
    code, out, _ = run("inspect", "--ckpt", ckpt)
    assert code == 0
    assert out.splitlines()[-1] == f"next: gan-export {ckpt} --module FILE.py:CLASS"
    assert "\nthe draft is likely wrong: nothing that was tried fits BatchNorm 1 by " in out
    about = json.loads(run("inspect", "--ckpt", ckpt, "--json")[1])
    assert about["advice"] == "do not export"
    assert about["doubts"]
    code, out, err = run("onnx", "--ckpt", ckpt)
    assert (code, out) == (2, "")
    assert "nothing that was tried fits BatchNorm 1 by " in err
    assert "hint: give the network's own code, --module FILE.py:CLASS, or edit " in err
    assert not ckpt.with_suffix(".onnx").exists()
    for command, suffix in (("onnx", ".onnx"), ("torchscript", ".ts")):
        code, out, err = run(command, "--ckpt", ckpt, "--accept")
        assert code == 0, err
        assert "LSB, but the images are likely wrong: nothing that was tried fits BatchNorm 1 by " in err
        assert out == f"{ckpt.with_suffix(suffix)}\n"
        assert "\nwarning: the images are likely wrong: nothing that was tried fits BatchNorm 1 by " in err
        code, out, _ = run("verify", "--model", ckpt.with_suffix(suffix))
        assert "but the images are likely wrong: nothing that was tried fits BatchNorm 1 by " in out
    model = ckpt.with_suffix(".onnx")
    assert "\ndoubted     nothing that was tried fits BatchNorm 1 by " in info_text(gan_serve.load(model), model)


def test_assumptions_and_answers_are_in_every_file_and_listed(run: Run, tmp_path: Path) -> None:
    ckpt = tmp_path / "g.pth"
    torch.save(without_norms().state_dict(), ckpt)
    options = ("--accept", "--latent", "uniform", "--image", "1x28x28")
    about = json.loads(run("inspect", "--ckpt", ckpt, *options[1:], "--json")[1])
    for command in ("torchscript", "onnx"):
        code, _, err = run(command, "--ckpt", ckpt, *options, "--report", tmp_path / "report.json")
        assert code == 0, err
        things = "2 things: layer 1 activation relu, layer 3 output tanh in [-1, 1]"
        assert err.splitlines()[-2].endswith(
            f" LSB; the reading assumes {things}; as you said: images of 1x28x28, latent distribution uniform"
        )
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["assumptions"] == about["assumptions"]
        assert report["answers"] == about["answers"] == ["images of 1x28x28", "latent distribution uniform"]
        assert [each.partition(" (")[0] for each in report["assumptions"]] == things.partition(": ")[2].split(", ", 1)
    model = ckpt.with_suffix(".onnx")
    generator = gan_serve.load(model)
    assert info_json(generator, model)["assumptions"] == report["assumptions"]
    lines = info_text(generator, model).splitlines()
    first = lines.index(f"assumed     {report['assumptions'][0]}")
    assert lines[first + 1 : first + 4] == [
        f"{' ' * 12}{report['assumptions'][1]}", "answered    images of 1x28x28",
        f"{' ' * 12}latent distribution uniform",
    ]  # fmt: skip
    spec = tmp_path / "g.spec.json"
    run("inspect", "--ckpt", ckpt, "--out", spec)
    code, _, err = run("onnx", "--ckpt", ckpt, "--spec", spec)
    assert code == 0, err
    assert err.splitlines()[-2].endswith(" LSB; as you said: the whole network, as a spec")


def test_our_own_checkpoint_rests_on_nothing(run: Run, tmp_path: Path) -> None:
    from export.tiny import save_checkpoint

    code, _, err = run("onnx", "--ckpt", save_checkpoint(tmp_path / "g.pt"))
    assert code == 0
    assert err.splitlines()[-2].endswith(" LSB")
