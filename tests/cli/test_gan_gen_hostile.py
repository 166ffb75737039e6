"""gan-gen on files that lie: fewer images than asked, another graph than was exported. Nothing claims success."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from cli.conftest import Gen
from cli.drawing import names
from gan_core.contract import Contract
from gan_core.files.metadata import graph_sha256
from gan_export.artefact import stamp, to_bytes
from gan_serve.runtime.runtimes import DEFAULT_MODEL
from serve import onnx_files
from serve.test_drawn import cut


@pytest.mark.parametrize("out", ["o.png", "o.jpg", "o.npy", "o.npz", "o/", "-", "walk"])
def test_fewer_images_than_asked(gen: Gen, tmp_path: Path, out: str) -> None:
    (tmp_path / "m.onnx").write_bytes(cut(onnx_files.ours(), 0, 0))
    where = ("--walk", "2", "--frames", "5", "--out", "o.webp") if out == "walk" else ("--n", "5", "--out", out)
    code, printed, err = gen("--model", "m.onnx", *where)
    assert (code, printed) == (2, "")
    assert "the model gave pixels uint8 (0, 6, 5, 3)" in err
    assert "hint: the file is damaged or was changed after its export" in err
    assert names(tmp_path) == ["m.onnx"]


def changed(precision: str, how: str) -> bytes:
    """A file whose weights were replaced by zeros after its export, under metadata that says `precision`."""
    about = onnx_files.with_golden(onnx_files.contract())
    proto = stamp(onnx_files.model(about, onnx_files.weights(about)), about)
    for tensor in proto.graph.initializer:
        if tensor.name == "W" and how == "weights":
            tensor.raw_data = (onnx.numpy_helper.to_array(tensor) * np.float32(1.0001)).tobytes()
    for pair in proto.metadata_props:
        if pair.key == "gan.precision":
            pair.value = json.dumps(precision)
    return to_bytes(proto)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_selftest_of_a_changed_graph(gen: Gen, tmp_path: Path, precision: str) -> None:
    """A change too small for the golden set shows by its digest."""
    (tmp_path / "g.onnx").write_bytes(changed(precision, "not at all"))
    assert gen("--model", "g.onnx", "--selftest")[0] == 0
    assert json.loads(gen("--model", "g.onnx", "--selftest", "--json")[1])["graph"] == "as exported"
    (tmp_path / "g.onnx").write_bytes(changed(precision, "weights"))
    code, printed, err = gen("--model", "g.onnx", "--selftest", "--json")
    assert code == 1
    assert "the graph is not the one that was exported: its sha256 is" in err
    record = json.loads(printed)
    assert (record["graph"], record["ok"]) == ("changed", False)
    assert all(image["ok"] for image in record["images"])


def test_an_older_file_has_no_digest(gen: Gen, tmp_path: Path) -> None:
    """The model that comes with ganport is one, but its own digest is known."""
    shutil.copy(DEFAULT_MODEL, tmp_path / "old.onnx")
    for model, digest in ((["--model", "old.onnx"], "no digest"), ([], "as exported")):
        code, printed, _ = gen(*model, "--selftest", "--json")
        assert (code, json.loads(printed)["graph"]) == (0, digest)


def test_the_digest_is_what_the_contract_names() -> None:
    data = changed("fp32", "not at all")
    contract = Contract.from_metadata({pair.key: pair.value for pair in onnx.load_from_string(data).metadata_props})
    assert contract is not None
    assert contract.graph_sha256 == graph_sha256(data)
