"""gan-gen --info, --selftest, --json, --version, --help: what it says of a file and of itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import gan_serve
from cli.conftest import Gen
from cli.drawing import names
from gan_serve.runtime import providers, runtimes
from gan_serve.runtime.onnx_generator import OnnxGenerator
from serve import onnx_files, strangers

OPTIONS = (
    "--model", "--n", "--seed", "--seeds", "--latents", "--class", "--by-class", "--truncation", "--out", "--cols",
    "--walk", "--frames", "--batch-size", "--threads", "--provider", "--selftest", "--info", "--json", "--version",
    "--trust-script", "--debug", "--value-range", "--image", "--latent", "--z-dim", "--classes", "--inputs",
    "--constant", "--output-key", "--tile", "--halo", "--resize", "--truncation-psi", "--noise", "--mix",
)  # fmt: skip


def test_json(gen: Gen, classes: Path) -> None:
    code, out, _ = gen("--model", classes, "--seeds", "1-3", "--class", "0,2", "--out", "o.png", "--json")
    assert code == 0
    assert json.loads(out) == {
        "out": "o.png",
        "files": ["o.png"],
        "kind": "picture",
        "n": 3,
        "image": {"channels": 1, "height": 8, "width": 8},
        "scale": 32,
        "model": str(classes),
        "sha256": OnnxGenerator(classes, "cpu").sha256,
        "provider": "cpu",
        "seeds": [1, 2, 3],
        "labels": [0, 2, 0],
        "classes": [{"index": 0, "name": "cat"}, {"index": 2, "name": "7"}],
    }


def test_json_lists_every_file_and_number(gen: Gen, model: Path, classes: Path, tmp_path: Path) -> None:
    def record(*arguments: object) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(gen(*arguments, "--json", "-q")[1])
        assert all((tmp_path / file).is_file() for file in said["files"])
        return said

    many = record(model, 3, "--out", "many/", "--truncation", 0.5)
    assert many["files"] == [f"many/seed00000{seed}.png" for seed in range(3)]
    assert (many["seeds"], many["truncation"], many["classes"]) == ([0, 1, 2], 0.5, [])
    assert "labels" not in many
    walk = record(classes, "--walk", 2, "--class", "2", "--frames", 4, "--out", "w.webp")
    assert (walk["seeds"], walk["frames"], walk["classes"]) == ([0, 1], 4, [{"index": 2, "name": "7"}])
    z_dim = OnnxGenerator(classes, "cpu").contract.interface.z_dim
    np.save(tmp_path / "z.npy", np.zeros((2, z_dim), np.float32))
    given = record(classes, "--latents", "z.npy", "--out", "l.npz")
    assert (given["latents"], given["labels"]) == ("z.npy", [0, 1])
    assert "seeds" not in given


def test_info(gen: Gen, classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = gen("--model", classes, "--info")
    assert (code, err) == (0, "")
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines())
    assert lines["image"] == "8x8 grey"
    assert lines["latent"] == "4 components, normal N(0, 1)"
    assert lines["classes"] == "0 cat, 1 T-shirt, red, 2 7"
    assert lines["golden set"].startswith("3 images")
    assert "runs on" not in lines
    assert names(tmp_path) == []
    monkeypatch.setenv("COLUMNS", "50")
    narrow = gen("--model", classes, "--info")[1]
    assert [line for line in narrow.splitlines() if len(line) > 50 and len(line.split()[-1]) < 38] == []
    assert narrow.split() == out.split()


def test_info_as_json_is_the_whole_contract(gen: Gen, model: Path) -> None:
    record = json.loads(gen("--model", model, "--info", "--json")[1])
    contract = OnnxGenerator(model, "cpu").contract
    for key, value in contract.to_metadata().items():
        assert record[key.removeprefix("gan.")] == json.loads(value)
    assert record["size_bytes"] == model.stat().st_size
    assert (record["provider"], record["cpu_nodes"]) == (None, None)
    record = json.loads(gen("--model", model, "--info", "--json", "--provider", "cpu")[1])
    assert (record["provider"], record["cpu_nodes"]) == ("cpu", [])


def test_info_opens_nothing(gen: Gen, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it need what opening would: neither onnxruntime nor torch. A graph that cannot run is read as well."""
    monkeypatch.setattr(providers, "import_onnxruntime", lambda: pytest.fail("onnxruntime"))
    assert gen("--model", model, "--info")[0] == 0
    proto = onnx_files.ours()
    proto.graph.node.append(onnx.helper.make_node("Nonsense", ["z"], ["nothing"]))
    (tmp_path / "n.onnx").write_bytes(proto.SerializeToString())
    assert gen("--model", "n.onnx", "--info")[0] == 0


def test_info_names_the_nodes_that_fell_to_the_cpu(gen: Gen, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = OnnxGenerator.__init__

    def on_cuda(self: OnnxGenerator, *arguments: object, **options: object) -> None:
        load(self, *arguments, **options)  # type: ignore[arg-type]
        self.provider = "cuda"

    monkeypatch.setattr(OnnxGenerator, "__init__", on_cuda)
    monkeypatch.setattr(OnnxGenerator, "cpu_nodes", lambda _: ("shape", "gather"))
    info = ("--model", model, "--info", "--provider", "cpu")
    assert "runs on     cuda, and on the CPU 2 nodes: shape, gather\n" in gen(*info)[1]
    assert json.loads(gen(*info, "--json")[1])["cpu_nodes"] == ["shape", "gather"]
    monkeypatch.setattr(OnnxGenerator, "cpu_nodes", lambda _: None)
    assert "runs on     cuda\n" in gen(*info)[1]


@pytest.mark.slow
def test_info_of_a_file_without_metadata(gen: Gen, tmp_path: Path) -> None:
    proto = onnx_files.foreign(["batch", 7], ["batch", 3, "h", "w"])
    (tmp_path / "f.onnx").write_bytes(proto.SerializeToString())
    code, out, err = gen("--model", "f.onnx", "--info")
    assert code == 0
    assumed = "assumed     noise is a latent whose components are N(0, 1)\n            black is -1 and white is 1: the"
    assert assumed in out
    assert "image       6x6 RGB\n" in out
    assert err == ""
    code, out, err = gen("f.onnx", "--latent", "uniform")
    assert (code, out) == (0, "f.png\n")
    assert err.startswith("warning: f.onnx has no gan.* metadata; assumed: black is -1 and white is 1: the values of")
    assert err.count("assumed") == 1
    code, out, err = gen("f.onnx", "--value-range", "0,1", "--latent", "normal", "--info", "--json")
    assert json.loads(out)["answers"] == ["values in [0, 1]", "latent distribution normal"]
    assert json.loads(out)["interface"]["image"]["range"] == [0, 1]


@pytest.mark.slow
def test_the_hint_of_a_file_without_a_value_range_leads_to_images(gen: Gen, tmp_path: Path) -> None:
    proto = strangers.stranger(activation="Identity", label="int64", one_hot_by="Compare")
    (tmp_path / "s.onnx").write_bytes(proto.SerializeToString())
    options: list[str] = []
    for asked in ("--classes", "--value-range"):
        code, _, err = gen("s.onnx", *options)
        assert code == 2
        assert err.splitlines()[1].startswith(f"hint: {asked} ")
        options += ["--classes", "3"] if asked == "--classes" else err.splitlines()[1].split()[1:3]
    assert gen("s.onnx", *options, "--class", "0,2")[:2] == (0, "s.png\n")


def test_answers_have_no_place_where_the_file_says_it(gen: Gen, model: Path) -> None:
    assert gen(model, "--value-range", "0,1")[::2] == (
        2,
        f"error: {model} says what it is, so --value-range has no place\nhint: leave it out\n",
    )


def test_selftest(gen: Gen, classes: Path, tmp_path: Path) -> None:
    code, out, err = gen("--model", classes, "--selftest")
    assert code == 0
    assert [line.split() for line in out.splitlines()[2:]] == [
        ["0", "0", "0", "∞", "ok"],
        ["1", "1", "0", "∞", "ok"],
        ["7", "1", "0", "∞", "ok"],
    ]
    assert err == "all 3 golden images as expected (at most 1 LSB) on cpu\n"
    record = json.loads(gen("--model", classes, "--selftest", "--json")[1])
    assert record["ok"] is True
    assert record["images"][2] == {"seed": 7, "label": 1, "max_lsb": 0, "psnr_db": None, "ok": True}
    assert names(tmp_path) == []


def test_selftest_of_a_tampered_file(gen: Gen, tmp_path: Path) -> None:
    about = onnx_files.with_golden(onnx_files.contract())
    weights = onnx_files.weights(about)
    weights["W"][:, 3] *= 1.2  # one pixel's weights
    (tmp_path / "t.onnx").write_bytes(onnx_files.model(about, weights).SerializeToString())
    code, out, err = gen("--model", "t.onnx", "--selftest")
    assert code == 1
    assert "FAILED" in out
    assert re.match(
        r"error: \d of 3 golden images differ: seed \d by \d+ LSB, [\d.]+ dB, allowed is at most 1 LSB\n", err
    )
    code, out, _ = gen("--model", "t.onnx", "--selftest", "--json")
    assert code == 1
    said = json.loads(out)
    assert (said["ok"], said["code"]) == (False, "proof")
    assert "golden images differ" in said["error"]


def test_selftest_of_the_model_that_comes_with_ganport(
    gen: Gen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gen("--selftest", "--json")[1].count('"graph": "as exported"') == 1
    damaged = bytearray(runtimes.DEFAULT_MODEL.read_bytes())
    damaged[len(damaged) // 2] ^= 1  # in the weights: too little for the golden images
    (tmp_path / "m.onnx").write_bytes(damaged)
    monkeypatch.setattr(runtimes, "DEFAULT_MODEL", tmp_path / "m.onnx")
    code, _, err = gen("--selftest")
    assert code == 1
    assert "the graph is not the one that was exported" in err


def test_version(gen: Gen) -> None:
    assert gen("--version") == (0, f"ganport {gan_serve.__version__}\n", "")


@pytest.mark.slow
def test_help_names_every_option_and_runs_its_examples(gen: Gen, model: Path, classes: Path, tmp_path: Path) -> None:
    code, out, _ = gen("--help")
    assert code == 0
    for option in OPTIONS:
        assert option in out
    (tmp_path / "g.onnx").write_bytes(model.read_bytes())
    (tmp_path / "digits.onnx").write_bytes(classes.read_bytes())
    (tmp_path / "theirs.onnx").write_bytes(strangers.stranger().SerializeToString())
    examples = re.findall(r"^    gan-gen (.*?)(?:  .*)?$", out, re.MULTILINE)
    assert len(examples) == 17
    for example in examples:
        if example.startswith(("x4", "stylegan")):
            continue  # test_gan_gen_images.py, test_style_exports.py
        arguments = example.replace("10000", "30").replace("3,7", "0,2").split()
        assert gen(*arguments)[0] == 0, example
