"""gan-export --module, as a person meets it: somebody's code and weights, to a proved file in both formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import gan_serve
from cli.conftest import Run
from export import live_networks as networks
from gan_core.files.archive import read_contract

pytestmark = pytest.mark.slow

NETWORKS = Path(networks.__file__)


def saved(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    torch.save({"netG": networks.lively(getattr(networks, name)()).state_dict(), "epoch": 3}, folder / "g.pth")
    return folder / "g.pth"


EXPORTED: dict[str, tuple[str, list[str]]] = {
    "StyleGAN2, noise fixed": ("StyleGAN2", ["--noise", "fixed", "--constant", "truncation=0.7"]),
    "residual, spectral norm": ("ResNet", []),
    "skip excitation": ("SkipExcitation", ["--output-index", "0"]),
    "one-hot classes": ("OneHot", ["--latent", "uniform"]),
}
LONG = (".onnx", "StyleGAN2, noise fixed")
"""Takes five times as long as any other."""


@pytest.mark.parametrize(
    ("suffix", "case"),
    [
        pytest.param(suffix, case, marks=pytest.mark.long if (suffix, case) == LONG else ())
        for suffix in (".onnx", ".ts")
        for case in EXPORTED
    ],
)
def test_exported_and_proved(case: str, suffix: str, run: Run, tmp_path: Path) -> None:
    name, options = EXPORTED[case]
    ckpt = saved(name, tmp_path)
    command = {".onnx": "onnx", ".ts": "torchscript"}[suffix]
    code, out, err = run(command, "--ckpt", ckpt, "--module", f"{NETWORKS}:{name}", *options)
    assert code == 0, err
    assert out.splitlines()[-1] == str(ckpt.with_suffix(suffix))
    assert "proved against PyTorch" in err
    assert f"--module: running the code in {NETWORKS}" in err
    images = gan_serve.load(ckpt.with_suffix(suffix)).generate(seeds=range(4))
    assert len({image.tobytes() for image in images}) == 4


def test_verify_needs_only_the_code_again(run: Run, tmp_path: Path) -> None:
    """How the module was called is in the file, and no folder of this machine."""
    ckpt, module = saved("StyleGAN2", tmp_path), f"{NETWORKS}:StyleGAN2"
    code, _, err = run("torchscript", "--ckpt", ckpt, "--module", module, "--noise", "zero", "--args", '{"ch": 4}')
    assert code == 0, err
    model = tmp_path / "g.ts"
    contract = read_contract(model)
    assert contract.spec is None
    assert contract.source["live"]["module"] == "live_networks.py:StyleGAN2"
    assert contract.source["live"]["args"] == {"ch": 4}
    assert str(tmp_path) not in json.dumps(contract.source)
    assert any("noise zero" in assumption for assumption in contract.assumptions)
    code, out, err = run("verify", "--model", model, "--ckpt", ckpt, "--module", module)
    assert code == 0, err
    assert "proved against PyTorch" in out
    assert run("verify", "--model", model)[0] == 0

    torch.save({"netG": networks.lively(networks.StyleGAN2(), seed=1).state_dict()}, tmp_path / "other.pth")
    code, out, err = run("verify", "--model", model, "--ckpt", tmp_path / "other.pth", "--module", module)
    assert code == 1
    assert "contract: differs" in err
    changed = tmp_path / "changed.py"
    changed.write_text(NETWORKS.read_text().replace("return F.leaky_relu(x, 0.2)", "return F.relu(x)"))
    code, out, err = run("verify", "--model", model, "--ckpt", ckpt, "--module", f"{changed}:StyleGAN2")
    assert code == 1
    assert "its sha256 differs" in err
    assert "parity" in err
    for options, message in (
        (["--ckpt", ckpt], "was exported from code, live_networks.py:StyleGAN2, expected --module"),
        (["--module", module], "was exported with the weights in g.pth, expected --ckpt"),
    ):
        code, _, err = run("verify", "--model", model, *options)
        assert code == 2
        assert message in err


def test_code_that_brings_its_weights(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code_file = tmp_path / "nets.py"
    code_file.write_text(NETWORKS.read_text() + "\nprint('imported')\n")
    monkeypatch.chdir(tmp_path)
    code, out, err = run("torchscript", "--module", "nets.py:make", "--json")
    assert code == 0, err
    values = json.loads(out)  # what the code prints is not in it
    assert values["path"] == "nets.ts"
    assert "imported" in err
    assert "no --ckpt: the weights are those that nets.py:make comes with" in err
    assert run("verify", "--model", "nets.ts", "--module", "nets.py:make")[0] == 0
    code, _, err = run("verify", "--model", "nets.ts", "--module", "nets.py:make", "--ckpt", saved("Plain", tmp_path))
    assert code == 2
    assert "--ckpt has no place" in err


@pytest.mark.parametrize("command", ["onnx", "torchscript"])
def test_a_forward_that_no_graph_holds(command: str, run: Run, tmp_path: Path) -> None:
    """Either the tracer refuses a branch on values, or the proof finds the branch that was taken for good."""
    code, _, err = run(command, "--ckpt", saved("Branching", tmp_path), "--module", f"{NETWORKS}:Branching")
    assert code == 1
    assert err.count("error: ") == 1
    assert err.count("hint: ") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["g.pth"]


def test_a_check_on_values_is_no_graph(run: Run, tmp_path: Path) -> None:
    code, _, err = run("onnx", "--ckpt", saved("Guarded", tmp_path), "--module", f"{NETWORKS}:Guarded")
    assert code == 1
    assert "branches on values" in err
    assert [path.name for path in tmp_path.iterdir()] == ["g.pth"]


def networks_of(name: str) -> str:
    return f"{NETWORKS}:{name}"


WRONG: dict[str, tuple[list[str], str]] = {
    "nothing": (["onnx"], "expected a checkpoint, got none"),
    "only options of a checkpoint": (["onnx", "--module", networks_of("make"), "--raw"], "--raw has no place without"),
    "a key of nothing": (["onnx", "--module", networks_of("make"), "--key", "g"], "--key has no place without --ckpt"),
    "trust in nothing": (["onnx", "--module", networks_of("make"), "--trust-pickle"], "--trust-pickle has no place"),
    "args without code": (["onnx", "--ckpt", "g.pth", "--args", "{}"], "--args has no place without --module"),
    "a spec beside code": (
        ["onnx", "--ckpt", "g.pth", "--module", networks_of("Plain"), "--spec", "s"],
        "--spec has no",
    ),
    "accept beside code": (
        ["onnx", "--ckpt", "g.pth", "--module", networks_of("Plain"), "--accept"],
        "--accept has no",
    ),
    "no checkpoint there": (["onnx", "--ckpt", "no.pth", "--module", networks_of("Plain")], "no checkpoint at no.pth"),
    "no code there": (["onnx", "--ckpt", "g.pth", "--module", "no.py:G"], "no Python at no.py"),
    "not a network": (["onnx", "--ckpt", "g.pth", "--module", networks_of("NUMBER")], "is an int, expected a class"),
    "another network": (
        ["onnx", "--ckpt", "g.pth", "--module", networks_of("ResNet")],
        "do not fit live_networks.py:ResNet",
    ),
    "a typo": (["onnx", "--ckpt", "g.pth", "--module", networks_of("Plian")], "has no 'Plian'"),
    "other sizes": (
        ["onnx", "--ckpt", "g.pth", "--module", networks_of("Plain"), "--args", '{"ngf": 8}'],
        "of another shape (main.0.weight 6x8x4x4 for 6x16x4x4",
    ),
    "a missing key": (["onnx", "--ckpt", "g.pth", "--module", networks_of("Plain"), "--key", "ema"], "ema"),
    "code over the output": (
        ["onnx", "--ckpt", "g.pth", "--module", "g.py:G", "--report", "g.py"],
        "--report and --module name the same file",
    ),
    "a classes that is no number": (["onnx", "--ckpt", "g.pth", "--module", "g.py:G", "--classes", "ten"], "--classes"),
    "code for a chain": (
        ["verify", "--model", "chain.onnx", "--module", networks_of("Plain")],
        "was not exported from code",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(case: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, message = WRONG[case]
    monkeypatch.chdir(tmp_path)
    saved("Plain", tmp_path)
    if "chain.onnx" in arguments:
        from export.tiny import save_checkpoint

        assert run("onnx", "--ckpt", save_checkpoint(tmp_path / "chain.pt"))[0] == 0
    before = sorted(tmp_path.iterdir())
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before
