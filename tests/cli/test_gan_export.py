"""The command gan-export, as a person meets it: what it prints, where, and how it refuses."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cli.conftest import Run, nobody
from cli.drawing import names
from export.tiny import save_checkpoint, spec_of
from gan_core.files.model_file import sha256_of
from gan_core.installation import install
from gan_export import front

pytestmark = pytest.mark.slow


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "g.pt")


@pytest.mark.parametrize(("command", "suffix"), [("onnx", ".onnx"), ("torchscript", ".ts")])
def test_export_prints_the_proof_and_the_path(command: str, suffix: str, run: Run, ckpt: Path) -> None:
    target = ckpt.with_suffix(suffix)
    code, out, err = run(command, ckpt)
    assert (code, out) == (0, f"{target}\n"), err
    understood, proved, following = err.splitlines()
    assert understood == f"{ckpt}: dcgan-28, ema weights, z 8 → 28x28x3"
    assert re.fullmatch(r"proved against PyTorch: (\d+) of \1 checks hold, pixels within [01] LSB", proved)
    assert following == f"next: gan-gen {target}"
    assert names(ckpt.parent) == sorted(["g.pt", target.name])
    code, out, err = run(command, "--ckpt", ckpt, "--verbose")
    *table, verdict, path = out.splitlines()
    assert (code, path, verdict) == (0, str(target), proved)
    assert len([line for line in table if " ok " in line]) == int(proved.split()[3])
    assert "FAIL" not in out
    assert run(command, ckpt, "--ckpt", ckpt, "-q") == (0, f"{target}\n", "")


def test_a_checkpoint_alone_is_exported_to_onnx(run: Run, ckpt: Path, tmp_path: Path) -> None:
    for words in ((ckpt,), ("--ckpt", ckpt), ("--out", tmp_path / "g.onnx", ckpt)):
        assert run(*words)[:2] == (0, f"{tmp_path / 'g.onnx'}\n")
        (tmp_path / "g.onnx").unlink()


def test_export_as_json_and_to_a_report(run: Run, ckpt: Path, tmp_path: Path) -> None:
    out_path, report_path = tmp_path / "new" / "faces.onnx", tmp_path / "faces.json"
    code, out, _ = run("onnx", "--ckpt", ckpt, "--out", out_path, "--report", report_path, "--json", "--opset", 20)
    assert code == 0
    values = json.loads(out)
    assert values["path"] == str(out_path)
    assert values["ok"] is True
    assert values["facts"]["parity"]["image_max_abs"] <= 1e-4
    assert values["files"] == [str(out_path), str(report_path)]
    assert json.loads(report_path.read_text()) == {k: values[k] for k in values if k not in ("path", "files")}


@pytest.mark.parametrize("command", ["onnx", "torchscript"])
def test_verify_with_and_without_the_checkpoint(command: str, run: Run, ckpt: Path, tmp_path: Path) -> None:
    suffix = {"onnx": ".onnx", "torchscript": ".ts"}[command]
    run(command, "--ckpt", ckpt)
    model = ckpt.with_suffix(suffix)
    code, alone, _ = run("verify", model, "--verbose")
    assert code == 0
    assert "parity" not in alone
    assert run("verify", model)[1] == f"{alone.splitlines()[-1]}\n"
    code, compared, _ = run("verify", model, ckpt, "--report", tmp_path / "r.json")
    assert code == 0
    assert "proved against PyTorch" in compared
    assert str(model) not in compared.splitlines()
    assert json.loads((tmp_path / "r.json").read_text())["file"] == model.name


def test_verify_against_another_checkpoint_fails(run: Run, ckpt: Path, tmp_path: Path) -> None:
    run("onnx", "--ckpt", ckpt)
    other = save_checkpoint(tmp_path / "other.pt", seed=1)
    code, out, err = run("verify", "--model", tmp_path / "g.onnx", "--ckpt", other, "--json")
    assert code == 1
    said = json.loads(out)
    assert (said["ok"], said["path"], said["files"], said["code"]) == (False, None, [], "proof")
    assert said["error"].startswith("g.onnx is not proved: structure: contract: differs")
    assert "error: g.onnx is not proved: structure: contract: differs" in err
    assert (tmp_path / "g.onnx").exists()


def test_verify_against_a_file_that_cannot_be_read_so_names_the_right_one(run: Run, ckpt: Path, tmp_path: Path) -> None:
    run("onnx", "--ckpt", ckpt)
    torch.save({"d": torch.ones(3)}, tmp_path / "other.pt")
    code, _, err = run("verify", tmp_path / "g.onnx", tmp_path / "other.pt")
    assert code == 2
    assert "other.pt is another file than g.pt, which " in err
    assert f"hint: name the checkpoint with the sha256 {sha256_of(ckpt)}" in err


def test_verify_of_a_changed_file_fails(run: Run, ckpt: Path, tmp_path: Path) -> None:
    import onnx

    from export.surgery import change_weight, weights

    run("onnx", "--ckpt", ckpt)
    model = onnx.load(tmp_path / "g.onnx")
    onnx.save(change_weight(model, weights(model)[1], lambda weight: weight.astype("f4") * 1.1), tmp_path / "g.onnx")
    code, out, err = run("verify", "--model", tmp_path / "g.onnx")
    assert code == 1
    assert "its graph was changed after the export" in err
    assert re.search(r"golden images +FAIL", out)
    assert " ok " not in out, "of many checks only those that fail"
    assert " ok " in run("verify", tmp_path / "g.onnx", "--verbose")[1]


def test_failed_export_leaves_nothing_but_the_report(
    run: Run, ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gan_export import onnx_export
    from gan_export import source as exported

    def faulty(source: object) -> exported.PixelModule:
        module = exported.export_module(source)  # type: ignore[arg-type]
        with torch.no_grad():
            module.generator.layers[4].weight[:, 0] *= 1.01  # type: ignore[index,union-attr]
        return module

    monkeypatch.setattr(onnx_export, "export_module", faulty)
    code, out, err = run("onnx", "--ckpt", ckpt, "--report", tmp_path / "report.json")
    assert code == 1
    assert "error: g.onnx is not proved: parity: image values:" in err
    assert "hint: --report has every check; nothing was written" in err
    assert "not proved" in out.splitlines()[-1]
    assert names(tmp_path) == ["g.pt", "report.json"]
    assert json.loads((tmp_path / "report.json").read_text())["ok"] is False


def test_flat_images_are_said_aloud(run: Run, tmp_path: Path) -> None:
    from gan_trainer.networks.generator import GeneratorCheckpoint, build, save_generator

    spec = spec_of(size=64)
    save_generator(GeneratorCheckpoint(spec, dict(build(spec).state_dict())), tmp_path / "g.pt")
    code, _, err = run("onnx", "--ckpt", tmp_path / "g.pt")
    assert code == 0
    assert "warning: every image is nearly one colour" in err
    assert "look at: flat images" in err


@pytest.mark.parametrize(("command", "name"), [("onnx", "g.onnx"), ("torchscript", "g.ts")])
def test_files_without_permission(command: str, name: str, run: Run) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ckpt = save_checkpoint(folder / "g.pt")
        assert run(command, "--ckpt", ckpt)[0] == 0  # imports everything while files can be read
        (folder / name).unlink()
        folder.chmod(0o555)
        with nobody():
            code, out, err = run(command, "--ckpt", ckpt)
        assert (code, out) == (2, ""), err
        assert err.startswith(f"error: cannot write {folder / name}: Permission denied\n")
        assert names(folder) == ["g.pt"]
        ckpt.chmod(0)
        folder.chmod(0o777)
        with nobody():
            code, out, err = run(command, "--ckpt", ckpt)
        assert (code, out) == (2, ""), err
        assert err.startswith(f"error: {ckpt} cannot be read")
        assert names(folder) == ["g.pt"]


WRONG_ARGUMENTS: list[tuple[list[str], str]] = [
    (["onnx"], "expected a checkpoint, got none\nhint: gan-export FILE"),
    (["onnx", "--ckpt"], "requires an argument"),
    (["onnx", "--ckpt", "{ckpt}", "--opset", "17"], "opset must be 18 to 23, got 17"),
    (["onnx", "--ckpt", "{ckpt}", "--opset", "24"], "opset must be 18 to 23, got 24"),
    (["onnx", "--ckpt", "{ckpt}", "--opset", "many"], "--opset': expected a whole number"),
    (["onnx", "--ckpt", "{ckpt}", "--out", "g.ts"], "--out must end in .onnx, got g.ts"),
    (["onnx", "--ckpt", "{ckpt}", "--out", "g"], "--out must end in .onnx, got g"),
    (["onnx", "--ckpt", "{ckpt}", "--out", "{folder}"], "is a folder, expected a file name"),
    (["onnx", "--ckpt", "{ckpt}", "--out", "{ckpt}"], "--out must end in .onnx, got g.pt"),
    (["onnx", "--ckpt", "{ckpt}", "--out", "{ckpt}/x.onnx"], "cannot write"),
    (["onnx", "--ckpt", "{ckpt}", "--out", "/proc/nowhere/x.onnx"], "no file can be made in /proc"),
    (["onnx", "--ckpt", "{ckpt}", "--report", "{folder}"], "is a folder, expected a file name"),
    (["onnx", "--ckpt", "{ckpt}", "--report", "{ckpt}"], "--report and --ckpt name the same file"),
    (["onnx", "--ckpt", "{ckpt}", "--out", "a.onnx", "--report", "a.onnx"], "--report and --out name the same file"),
    (["onnx", "--ckpt", "{ckpt}", "--precision", "fp8"], "--precision must be one of fp32, fp16, int8, got 'fp8'"),
    (["onnx", "--ckpt", "{ckpt}", "--precision", "float16"], "hint: --precision fp16"),
    (["onnx", "--ckpt", "{ckpt}", "--precision", ""], "--precision is empty, expected a value"),
    (["onnx", "--ckpt", "."], ". is a folder, expected a checkpoint file"),
    (["torchscript", "--ckpt", "/"], "/ is a folder, expected a checkpoint file"),
    (["onnx", "--ckpt", ""], "--ckpt is empty, expected a value"),
    (["onnx", "--ckpt", "{ckpt}", "--precision"], "requires an argument"),
    (["onnx", "--ckpt", "{ckpt}", "--store", "int8"], "--store must be one of fp32, fp16, got 'int8'"),
    (["onnx", "--ckpt", "{ckpt}", "--optimize", "fast"], "--optimize must be one of auto, tune, none, got 'fast'"),
    (["onnx", "--ckpt", "{ckpt}", "--precision", "int8", "--optimize", "none"], "no place beside --precision int8"),
    (["onnx", "--ckpt", "{ckpt}", "--precision", "int8", "--optimize", "tune"], "hint: leave out --optimize"),
    (["onnx", "--ckpt", "{ckpt}", "--precision", "int8", "--opset", "12"], "opset must be 18 to 23, got 12"),
    (["torchscript", "--ckpt", "{ckpt}", "--precision", "fp16"], "No such option"),
    (["torchscript", "--ckpt", "{ckpt}", "--store", "fp16"], "No such option"),
    (["onnx", "--ckpt", "{ckpt}", "extra"], "extra and --ckpt .*g.pt contradict each other"),
    (["onnx", "{ckpt}", "extra"], "unexpected extra argument"),
    (["{ckpt}", "--quiet", "--verbose"], "--verbose and --quiet contradict each other"),
    (["{folder}"], "is a folder, expected a checkpoint file"),
    (["none.pth"], "no checkpoint at none.pth"),
    (["{ckpt}", "--output", "x.onnx"], "No such option: --output"),
    (["onxx", "{ckpt}"], "No such command 'onxx'. Did you mean 'onnx'?"),
    (["verify", "a.onnx", "--model", "b.onnx"], "a.onnx and --model b.onnx contradict each other"),
    (["verify", "{text}", "a.pt", "--ckpt", "b.pt"], "a.pt and --ckpt b.pt contradict each other"),
    (["torchscript", "--ckpt", "{ckpt}", "--out", "g.pt"], "--out must end in .ts, got g.pt"),
    (["torchscript", "--ckpt", "{ckpt}", "--out", "g.onnx"], "--out must end in .ts, got g.onnx"),
    (["torchscript", "--ckpt", "{ckpt}", "--opset", "18"], "No such option"),
    (["verify"], "expected an exported file, got none"),
    (["verify", "--model", "none.onnx"], "no model at none.onnx"),
    (["verify", "--model", "{folder}"], "is a folder, expected a model file"),
    (["verify", "--model", "{ckpt}"], "is a PyTorch checkpoint, expected TorchScript"),
    (["verify", "--model", "{text}"], "not an ONNX model"),
    (["verify", "--model", "{text}", "--report", "{text}"], "--report and --model name the same file"),
    (["export", "--ckpt", "{ckpt}"], "No such command"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_ARGUMENTS, ids=[" ".join(a) for a, _ in WRONG_ARGUMENTS])
def test_wrong_arguments(
    arguments: list[str], message: str, run: Run, ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("not a model")
    places = {"ckpt": ckpt, "folder": tmp_path / "folder", "text": tmp_path / "notes.txt"}
    before = names(tmp_path)
    code, out, err = run(*(argument.format(**places) for argument in arguments))
    assert code == 2, err
    assert out == ""
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 3
    assert names(tmp_path) == before
    assert ckpt.stat().st_size > 0


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """The size limit of this process stands in for the disk's: writing past it fails in the same way."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(("command", "name"), [("onnx", "g.onnx"), ("torchscript", "g.ts")])
def test_full_disk_leaves_nothing(command: str, name: str, ckpt: Path, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "out" / name
    with full_disk(20000):
        code, out, err = run(command, "--ckpt", ckpt, "--out", target)
    assert (code, out) == (2, ""), err
    assert f"error: no room to write {target}: File too large" in err
    assert "hint: free some disk space" in err
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("package", front.PACKAGES)
@pytest.mark.parametrize("command", ["onnx", "torchscript", "verify"])
def test_missing_packages(command: str, package: str, run: Run, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    code, _, err = run(command, "--model" if command == "verify" else "--ckpt", ckpt)
    assert code == 2
    assert f"needs {package}, which is not installed" in err
    assert f"hint: {install('export')}\n" in err


@pytest.mark.parametrize("arguments", [["--help"], ["onnx", "--help"], ["torchscript", "--help"], ["verify", "-h"]])
def test_help_needs_neither_torch_nor_onnx(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxscript', 'onnxruntime'): sys.modules[name] = None\n"
        "from gan_export.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Examples:\n" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 100
    assert done.stdout.count("  gan-export ") >= 3
