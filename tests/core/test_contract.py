"""The contract: what goes into a file's metadata comes out again, and docs/contract.md names all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gan_core.contract import PREFIX, Contract, Golden
from gan_core.errors import ContractError
from gan_core.limits import LIMITS
from serve import onnx_files

DOCUMENT = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")

FULL = Contract(
    z_dim=100,
    image=(1, 28, 32),
    latent="uniform",
    value_range=(0.0, 1.0),
    n_classes=2,
    class_names=("Katze", "犬"),
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
    answers=("latent law uniform",),
    doubts=("nothing fits",),
)
LATER = ("gan.graph_sha256", "gan.answers", "gan.doubts")


@pytest.mark.parametrize("contract", [FULL, Contract(z_dim=1, image=(3, 1, 1))])
def test_metadata_is_an_inverse(contract: Contract) -> None:
    metadata = contract.to_metadata()
    assert all(key.startswith(PREFIX) and isinstance(json.loads(value), object) for key, value in metadata.items())
    assert Contract.from_metadata(metadata) == contract
    assert Contract.from_metadata({**metadata, "other": "not json {", "gan.new": "1"}) == contract


@pytest.mark.parametrize("key", LATER)
def test_a_later_key_may_be_missing(key: str) -> None:
    metadata = FULL.to_metadata()
    del metadata[key]
    contract = Contract.from_metadata(metadata)
    assert contract is not None
    assert Contract.from_metadata(contract.to_metadata()) == contract


def test_files_without_metadata_have_none() -> None:
    assert Contract.from_metadata({"producer": "torch"}) is None


@pytest.mark.parametrize("key", [key for key in FULL.to_metadata() if key not in ("gan.contract", *LATER)])
def test_every_key_of_the_first_files_is_needed(key: str) -> None:
    metadata = FULL.to_metadata()
    del metadata[key]
    with pytest.raises(ContractError, match=r"g\.onnx: its gan"):
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
        ({"z_dim": 0}, "z_dim must be at least 1, got 0"),
        ({"latent": "cauchy"}, "latent must be one of normal, uniform, got 'cauchy'"),
        ({"image": (3, 0, 4)}, "image must be (C, H, W)"),
        ({"image": (4, 4)}, "image must be (C, H, W)"),
        ({"image": (4, 4, 4)}, "images must have 1 or 3 channels, got 4"),
        ({"value_range": (1.0, 1.0)}, "value_range must be (black, white)"),
        ({"n_classes": -1}, "n_classes must not be negative"),
        ({"class_names": ("a",)}, "1 class names for 0 classes"),
    ],
)
def test_contracts_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ContractError, match=re.escape(message)):
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
        ("latent", {"law": "normal", "z_dim": 10**9}, "z_dim is 1000000000, expected a whole number from 1 to 65536"),
        ("latent", {"law": "normal", "z_dim": 100.0}, "z_dim is 100.0, expected a whole number"),
        ("latent", {"law": ["normal"], "z_dim": 4}, "law is a list of 1 values, expected one of normal, uniform"),
        ("classes", {"n": 10**9, "names": []}, "n is 1000000000, expected a whole number from 0 to 65536"),
        ("classes", {"n": True, "names": ["a"]}, "n is true, expected a whole number"),
        ("classes", {"n": 2, "names": "ab"}, "names is 'ab', expected a list"),
        ("classes", {"n": 2, "names": ["a", 1]}, "names is 1, expected a text"),
        ("image", {"channels": 1, "height": 10**9, "width": 1}, "height is 1000000000, expected a whole number"),
        ("image", {"channels": 3, "height": 16384, "width": 16384}, "images of 16384x16384 are too large"),
        ("image", {"channels": "3", "height": 4, "width": 4}, "channels is '3', expected a whole number"),
        ("value_range", [0, 1, 2], "is a list of 3 values, expected a list of 2 values"),
        ("value_range", [0, 1e39], "is 1e+39, expected a number"),
        ("precision", "fp8", "is 'fp8', expected one of fp32, fp16, int8"),
        ("spec", 7, "is 7, expected a JSON object"),
        ("training", "x", "expected a JSON object"),
        ("source", {"key": 7}, "key is 7, expected a text"),
        ("source", {"live": []}, "live is a list of 0 values, expected a JSON object"),
        ("golden", [{"seed": 2**53, "label": None, "scale": 1, "png": ""}], "seed is 9007199254740992, expected"),
        ("golden", [{"seed": 0, "label": None, "scale": 0, "png": ""}], "scale is 0, expected"),
        ("golden", [{"seed": 0, "label": None, "scale": 1, "png": None}], "png is null, expected a text"),
        ("contract", 2, "has contract version 2, this ganport reads 1"),
        ("contract", "1", "gan.contract is '1'"),
    ],
)
def test_fields_are_typed_and_bounded(key: str, value: Any, message: str) -> None:
    with pytest.raises(ContractError, match=re.escape(message)) as caught:
        Contract.from_metadata({**FULL.to_metadata(), PREFIX + key: json.dumps(value)}, where="g.onnx")
    assert str(caught.value).startswith("g.onnx")
    assert "export it again" in caught.value.hint or "install" in caught.value.hint
