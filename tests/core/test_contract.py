"""The contract: what goes into a file's metadata comes out again, and docs/contract.md names all of it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gan_core.contract import PREFIX, Contract, Golden
from gan_core.errors import ContractError
from gan_core.fields import SpecError
from gan_core.interface import Interface
from gan_core.limits import LIMITS
from serve import onnx_files

DOCUMENT = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")

FULL = Contract(
    Interface(100, (1, 28, 32), "uniform", (0.0, 1.0), 2, ("Katze", "犬")),
    precision="fp16",
    store="fp16",
    kept_fp32=("layers.13.weight",),
    weights="ema",
    name="dcgan-28",
    spec={"layers": [{"kind": "linear"}]},
    source={"file": "g.pt", "sha256": "00"},
    training={"steps": 7},
    exporter={"opset": 18},
    passes=("fold-norms",),
    parity={"image_max_abs": 1e-7},
    golden=(Golden(0, None, 1, "png"), Golden(1, 1, 2, "png")),
    assumptions=("tanh",),
    graph_sha256="0f",
    answers=("latent distribution uniform",),
    doubts=("nothing fits",),
)
NEEDED = ("gan.contract", "gan.interface")
VERSION_1 = {
    "gan.latent": {"law": "uniform", "z_dim": 100, "rng": "philox4x32-10"},
    "gan.image": {"channels": 1, "height": 28, "width": 32},
    "gan.value_range": [0.0, 1.0],
    "gan.classes": {"n": 2, "names": ["Katze", "犬"]},
}


def version_1(**changes: Any) -> dict[str, str]:
    """`FULL` as version 1 had it."""
    metadata = FULL.to_metadata()
    del metadata["gan.interface"]
    old = {key: json.dumps(value) for key, value in (VERSION_1 | {"gan.contract": 1}).items()}
    return metadata | old | {f"gan.{key}": json.dumps(value) for key, value in changes.items()}


@pytest.mark.parametrize("contract", [FULL, Contract(Interface(1, (3, 1, 1)))])
def test_metadata_is_an_inverse(contract: Contract) -> None:
    metadata = contract.to_metadata()
    assert all(key.startswith(PREFIX) and isinstance(json.loads(value), object) for key, value in metadata.items())
    assert Contract.from_metadata(metadata) == contract
    assert Contract.from_metadata({**metadata, "other": "not json {", "gan.new": "1"}) == contract


@pytest.mark.parametrize("key", [key for key in FULL.to_metadata() if key not in NEEDED])
def test_a_key_that_is_missing_has_its_default(key: str) -> None:
    metadata = FULL.to_metadata()
    del metadata[key]
    contract = Contract.from_metadata(metadata)
    assert contract is not None
    name = key.removeprefix(PREFIX)
    assert contract == dataclasses.replace(FULL, **{name: getattr(Contract(FULL.interface), name)})


def test_the_defaults_are_what_old_files_mean() -> None:
    read = Contract.from_metadata({key: FULL.to_metadata()[key] for key in NEEDED})
    assert read is not None
    said = {name: value for name, value in vars(read).items() if value}
    assert said.pop("interface") == FULL.interface
    assert said == {"precision": "fp32", "store": "fp32", "weights": "raw", "name": "generator"}


@pytest.mark.parametrize(
    ("precision", "store", "expected"),
    [("fp32", "fp32", "fp32"), ("fp32", "fp16", "fp16"), ("fp16", "fp32", "fp16"), ("int8", "fp16", "int8")],
)
def test_a_file_is_held_to_what_it_computes_in_or_is_rounded_to(precision: str, store: str, expected: str) -> None:
    assert dataclasses.replace(FULL, precision=precision, store=store).held_to == expected


def test_version_1_is_read() -> None:
    assert Contract.from_metadata(version_1()) == FULL


def test_what_a_later_version_adds_inside_a_value_is_left_alone() -> None:
    metadata = FULL.to_metadata()
    interface = json.loads(metadata["gan.interface"])
    interface["z"]["more"] = interface["psi"] = 1
    golden = [entry | {"more": 1} for entry in json.loads(metadata["gan.golden"])]
    changed = {"gan.interface": json.dumps(interface), "gan.golden": json.dumps(golden)}
    assert Contract.from_metadata(metadata | changed) == FULL


def test_files_without_metadata_have_none() -> None:
    assert Contract.from_metadata({"producer": "torch"}) is None


@pytest.mark.parametrize("key", ["gan.interface", *VERSION_1])
def test_the_interface_is_needed(key: str) -> None:
    metadata = FULL.to_metadata() if key == "gan.interface" else version_1()
    del metadata[key]
    with pytest.raises(ContractError, match=rf"g\.onnx: its gan\.\* metadata is incomplete, it has no {key}"):
        Contract.from_metadata(metadata, where="g.onnx")


@pytest.mark.parametrize("key", FULL.to_metadata())
def test_every_key_is_documented(key: str) -> None:
    rows = re.findall(rf"^\| `{re.escape(key)}` \| `([^|]*)` \|", DOCUMENT, re.MULTILINE)
    assert len(rows) == 1, f"docs/contract.md has {len(rows)} rows for {key}"
    if "…" not in rows[0]:
        json.loads(rows[0])


def test_the_document_names_no_other_key() -> None:
    named = set(re.findall(r"^\| `(gan\.\w+)` \| `[\[{\"\d]", DOCUMENT.split("## The golden set")[0], re.MULTILINE))
    assert named == set(FULL.to_metadata())
    for precision in LIMITS:
        assert f"| `{precision}` |" in DOCUMENT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_dim": 0}, "z_dim must be a whole number from 1 to 16,777,216, got 0"),
        ({"latent": "cauchy"}, "latent must be one of normal, uniform, uniform01, got 'cauchy'"),
        ({"image": (3, 0, 4)}, "image must be a list of 3, each a whole number from 1 to 16,384, got [3, 0, 4]"),
        ({"image": (4, 4)}, "image must be a list of 3"),
        ({"image": (2, 4, 4)}, "images must have 1, 3 or 4 channels, got 2"),
        ({"value_range": (1.0, 1.0)}, "value_range must be (black, white)"),
        ({"n_classes": -1}, "n_classes must be a whole number from 0"),
        ({"class_names": ("a",)}, "1 class names for 0 classes"),
        ({"precision": "fp8"}, "precision must be one of fp32, fp16, int8, got 'fp8'"),
        ({"store": "int8"}, "store must be one of fp32, fp16, got 'int8'"),
        ({"passes": ["a"]}, "passes must be 0 to 65,536 of: a text of at most 4,000 characters"),
    ],
)
def test_contracts_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises((ContractError, SpecError), match=re.escape(message)):
        onnx_files.contract(**changes)


WRONG: tuple[str, ...] = (
    "", "{", "null", "true", "-1", "1.5", "1e400", "NaN", "-Infinity", '"x"', '"\\ud800"', "[]", "[[]]", "[null]", "{}",
    '{"a": {}}', "9" * 5000, "[" * 100_000, "[" * 500 + "]" * 500, '{"a":' * 500 + "1" + "}" * 500, "1" + "0" * 400,
)  # fmt: skip


@pytest.mark.parametrize("key", FULL.to_metadata())
def test_a_value_of_another_type_is_one_line(key: str) -> None:
    """What goes through is a whole contract, and can be written again."""
    for text in WRONG:
        error = None
        try:
            contract = Contract.from_metadata({**FULL.to_metadata(), key: text}, where="g.onnx")
        except ContractError as refused:
            error = refused
        if error is None:
            assert contract is not None
            assert Contract.from_metadata(contract.to_metadata()) == contract
        else:
            assert str(error).startswith("g.onnx")
            assert len(str(error)) < 300
            assert error.hint


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "latent",
            {"law": "normal", "z_dim": 10**9},
            "z_dim must be a whole number from 0 to 16,777,216, got 1000000000",
        ),
        ("latent", {"law": "normal", "z_dim": 65537}, "z_dim: 65,537, at most 65,536 are allowed"),
        ("latent", {"law": "normal", "z_dim": 100.0}, "z_dim must be a whole number from 0 to 16,777,216, got 100.0"),
        ("latent", {"law": ["normal"], "z_dim": 4}, "latent must be one of normal, uniform, uniform01, got ['normal']"),
        ("latent", [100, "normal"], "latent must be an object of law, z_dim, got [100, 'normal']"),
        ("classes", {"n": 10**9, "names": []}, "n_classes must be a whole number from 0 to 1,048,576, got 1000000000"),
        ("classes", {"n": 65537, "names": []}, "n_classes: 65,537, at most 65,536 are allowed"),
        ("classes", {"n": True, "names": ["a"]}, "n_classes must be a whole number from 0 to 1,048,576, got True"),
        ("classes", {"n": 2, "names": "ab"}, "class_names must be a list of any number"),
        ("classes", {"n": 2, "names": ["a", 1]}, "class_names must be a list of any number, each a text"),
        ("classes", {"n": 2}, "classes must be an object of n, names, got an object of 1"),
        (
            "image",
            {"channels": 1, "height": 10**9, "width": 1},
            "each a whole number from 1 to 16,384, got [1, 1000000000",
        ),
        ("image", {"channels": 3, "height": 16384, "width": 16384}, "numbers of an image: 805,306,368, at most"),
        ("image", {"channels": "3", "height": 4, "width": 4}, "each a whole number from 1 to 16,384, got ['3', 4, 4]"),
        ("value_range", [0, 1, 2], "value_range must be a list of 2, each a number"),
        ("value_range", [0, 1e39], "value_range must be a list of 2, each a number from -1,000,000 to 1,000,000"),
        ("interface", {"z": {"dim": 4}, "image": {}}, "z must be an object of dim, law, got an object of 1"),
        ("interface", {"z": 4}, "z must be an object of dim, law, got 4"),
        ("interface", [], "must be an object"),
        ("precision", "fp8", "precision must be one of fp32, fp16, int8, got 'fp8'"),
        ("spec", 7, "spec must be a JSON object or null, got 7"),
        ("training", "x", "training must be a JSON object, got 'x'"),
        ("source", {"key": 7}, "source's key must be a text, got 7"),
        ("source", {"live": []}, "source's live must be an object, got a list of 0"),
        ("golden", [{"seed": 2**53, "label": None, "scale": 1, "png": ""}], "seed must be a whole number from 0"),
        ("golden", [{"seed": 0, "label": None, "scale": 0, "png": ""}], "scale must be a whole number from 1"),
        ("golden", [{"seed": 0, "label": None, "scale": 1, "png": None}], "png must be a text"),
        (
            "golden",
            [{"seed": 0, "label": None, "scale": 1}],
            "golden must be 0 to 1,000 of: an object of seed, label, scale, png, got a list of 1",
        ),
        ("contract", 3, "has contract version 3, this ganport reads 1 and 2"),
        ("contract", "1", "has contract version '1', this ganport reads 1 and 2"),
        ("contract", True, "has contract version True"),
    ],
)
def test_fields_are_typed_and_bounded(key: str, value: Any, message: str) -> None:
    whole = version_1() if PREFIX + key in VERSION_1 else FULL.to_metadata()
    with pytest.raises(ContractError, match=re.escape(message)) as caught:
        Contract.from_metadata({**whole, PREFIX + key: json.dumps(value)}, where="g.onnx")
    assert str(caught.value).startswith("g.onnx")
    assert "export it again" in caught.value.hint or "install" in caught.value.hint
