"""The contract: what goes into a file's metadata comes out again, and docs/contract.md names all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gan_serve.contract import PREFIX, Contract, Golden
from gan_serve.errors import ContractError
from gan_serve.limits import LIMITS
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
)


@pytest.mark.parametrize("contract", [FULL, Contract(z_dim=1, image=(3, 1, 1))])
def test_metadata_is_an_inverse(contract: Contract) -> None:
    metadata = contract.to_metadata()
    assert all(key.startswith(PREFIX) and isinstance(json.loads(value), object) for key, value in metadata.items())
    assert Contract.from_metadata(metadata) == contract
    assert Contract.from_metadata({**metadata, "other": "not json {", "gan.new": "1"}) == contract


def test_files_without_metadata_have_none() -> None:
    assert Contract.from_metadata({"producer": "torch"}) is None


@pytest.mark.parametrize("key", [key for key in FULL.to_metadata() if key != "gan.contract"])
def test_every_key_is_needed(key: str) -> None:
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
