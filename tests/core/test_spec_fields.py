"""Every field of a spec and of its layers is typed where it is read, and what one image may cost is bounded."""

from __future__ import annotations

import dataclasses
import json
import time
from itertools import pairwise
from typing import Any

import pytest

from gan_core.interface import Interface
from gan_core.spec import json_name
from gan_core.spec.generator_spec import BUDGET, GeneratorSpec, SpecError
from gan_core.spec.layers import (
    LAYER_KINDS,
    Activation,
    Conv,
    LabelEmbedding,
    Linear,
    Reshape,
    Upsample,
    layer_from_json,
)
from gan_trainer.networks.architectures import network_spec

LAYERS: list[dict[str, Any]] = [
    {"kind": "linear", "in_features": 4, "out_features": 8, "bias": True},
    {"kind": "conv", "in_channels": 8, "out_channels": 8, "kernel": 3, "stride": 2, "padding": 1},
    {"kind": "conv_transpose", "in_channels": 8, "out_channels": 4, "kernel": 4, "stride": 2, "padding": 1},
    {"kind": "upsample", "factor": 2, "mode": "bilinear", "size": [4, 4]},
    {"kind": "pixel_shuffle", "factor": 2},
    {"kind": "pixel_unshuffle", "factor": 2},
    {"kind": "channel_shuffle", "groups": 2},
    {"kind": "glu"},
    {"kind": "pool", "mode": "avg", "kernel": [2, 2], "stride": [2, 2]},
    {"kind": "adaptive_pool", "mode": "max", "size": [2, 2]},
    {"kind": "pad", "borders": [1, 1, 1, 1], "mode": "reflect"},
    {"kind": "batch_norm", "features": 4, "eps": 1e-5, "affine": True},
    {"kind": "instance_norm", "features": 4},
    {"kind": "group_norm", "groups": 2, "features": 4},
    {"kind": "layer_norm", "shape": [4]},
    {"kind": "rms_norm", "shape": [4]},
    {"kind": "local_response_norm", "size": 3},
    {"kind": "pixel_norm"},
    {"kind": "activation", "name": "leaky_relu", "slope": 0.2},
    {"kind": "reshape", "shape": [1, 2, 2]},
    {"kind": "label_embedding", "n_classes": 3, "dim": 2},
    {"kind": "label_one_hot", "n_classes": 3},
    {"kind": "load", "of": "z"},
    {"kind": "add", "with": "z", "scale": 0.5},
    {"kind": "multiply", "with": "z"},
    {"kind": "modulate", "with": "z"},
    {"kind": "attention", "channels": 8, "keys": 1, "values": 4},
    {"kind": "linear_attention", "heads": 2, "key": "z", "value": "z"},
    {"kind": "local_attention", "heads": 2, "key": "z", "value": "z", "kernel": 3},
    {"kind": "channel_norm", "features": 4},
    {"kind": "concat", "of": ["z", "x"]},
    {"kind": "constant", "shape": [4, 2, 2]},
    {"kind": "noise", "height": 4, "width": 4, "at": 0},
    {"kind": "bias", "features": 4},
    {"kind": "styles", "w_dim": 4, "num_ws": 3},
    {"kind": "modulated_conv", "in_channels": 4, "out_channels": 4, "kernel": 3, "style": "z", "row": 0, "w_dim": 4},
    {"kind": "fir", "taps": 4, "up": 2, "borders": [2, 1, 2, 1], "separable": True},
    {
        "kind": "fourier_input",
        "channels": 4,
        "size": 8,
        "sampling_rate": 6.0,
        "bandwidth": 2.0,
        "style": "z",
        "row": 0,
        "w_dim": 4,
    },
    {"kind": "slice", "of": "z", "from": 0, "to": 2},
]
WRONG: list[Any] = [
    "x", "", -1, 1.5, float("nan"), float("inf"), 10**9, 10**400, -(10**5000), True, {}, {"a": 1}, [], [1], ["x", 2],
    [[1]], [True, True], [1] * 10_000, [float("nan"), 1.0], "relu", "normal", 1e308, "a" * 10_000,
]  # fmt: skip


def good_for(field: dataclasses.Field[Any], value: Any) -> bool:
    """The few of `WRONG` that are right after all."""
    kind = str(field.type)
    number = type(value) in (int, float) and abs(value) <= 1e6
    return (
        (kind == "bool" and value is True)
        or ("Number" in kind and "tuple" not in kind and number)
        or (kind == "Positive" and number and value > 0)
        or ("Bound" in kind and number and value > 0)
        or (kind == "Eps" and number and value >= 0)
        or (kind == "ActivationName" and value == "relu")
        or (kind == "Sides" and value == [1])
        or (kind == "ValueName" and isinstance(value, str) and len(value) <= 40)
    )


@pytest.mark.parametrize("good", LAYERS, ids=lambda layer: layer["kind"])
def test_every_field_of_every_layer_refuses_what_it_is_not(good: dict[str, Any]) -> None:
    layer_from_json(good)
    tried = 0
    for field in dataclasses.fields(LAYER_KINDS[good["kind"]]):
        for value in (*WRONG, None):
            if good_for(field, value) or (value is None and "None" in str(field.type)):
                continue
            with pytest.raises(SpecError) as caught:
                layer_from_json(good | {json_name(field.name): value})
            assert field.name in str(caught.value)
            assert len(str(caught.value)) < 1200
            assert caught.value.hint
            tried += 1
    assert tried


def test_the_table_has_every_layer() -> None:
    assert [layer["kind"] for layer in LAYERS] != []
    assert {layer["kind"] for layer in LAYERS} == set(LAYER_KINDS)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"kind": "conv", "stride": 0}, r"layer 1 \(conv\) stride must be a whole number from 1 to 16,384, got 0"),
        ({"kind": "conv", "kernel": 10**9}, r"layer 1 \(conv\) kernel must be .*, got 1000000000"),
        ({"kind": "conv", "padding": -1}, r"layer 1 \(conv\) padding must be .*, got -1"),
        ({"kind": "conv", "groups": 3}, r"layer 1 \(conv\) 3 groups do not divide 8 in_channels"),
        ({"kind": "conv", "bias": 1}, r"layer 1 \(conv\) bias must be true or false, got 1"),
        ({"kind": "conv", "padding_mode": "reflect", "padding": 9}, r"padding 9 is wider than 1x1 with reflect"),
        ({"kind": "conv_transpose", "output_padding": 2}, r"output_padding 2 must be below 2"),
        ({"kind": "conv", "stride": [2, 2]}, r"stride must be a whole number .*, got \[2, 2\]"),
        ({"kind": "batch_norm", "eps": "x"}, r"layer 1 \(batch_norm\) eps must be a number from 0 to 1,000, got 'x'"),
        ({"kind": "batch_norm", "eps": float("nan")}, r"layer 1 \(batch_norm\) eps must be .* got nan"),
        ({"kind": "reshape", "shape": [1, "2", 2]}, r"layer 1 \(reshape\) shape must be 1 to 4 of: a whole number"),
        ({"kind": "upsample", "factor": 20_000}, r"layer 1 \(upsample\) factor must be .* from 1 to 1,024, got 20000"),
        ({"kind": "label_one_hot", "n_classes": 10**9}, r"n_classes must be .* from 1 to 1,048,576, got 1000000000"),
        ({"kind": "activation", "name": "relu", "slope": 0.2}, r"slope has no meaning for relu, got 0.2"),
        (
            {"kind": "activation", "name": "hardtanh", "slope": None, "limits": [1, 0]},
            r"limits must be \(least, greatest\)",
        ),
        ({"kind": "pad", "mode": "reflect", "borders": [-1, 0, 0, 0]}, r"borders must be 0 or more with reflect"),
        ({"kind": "pool", "padding": [2, 0]}, r"padding \(2, 0\) is over half of kernel \(2, 2\)"),
        ({"kind": ["conv"]}, r"layer 1: unknown layer kind \['conv'\]"),
        ("conv", r"layer 1: a layer must be an object with a 'kind'"),
    ],
)
def test_a_wrong_layer_is_named_with_its_field(layer: Any, message: str) -> None:
    good = {entry["kind"]: entry for entry in LAYERS}
    kind = layer["kind"] if isinstance(layer, dict) and isinstance(layer["kind"], str) else ""
    wrong = good.get(kind, {}) | layer if isinstance(layer, dict) else layer
    values = {"z_dim": 8, "image": [1, 2, 2], "layers": [{"kind": "reshape", "shape": [8, 1, 1]}, wrong]}
    if isinstance(wrong, dict) and wrong.get("n_classes"):
        values["n_classes"] = 3
    with pytest.raises(SpecError, match=message) as caught:
        GeneratorSpec.from_json(values)
    assert caught.value.hint


@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
@pytest.mark.parametrize("field", ["z_dim", "image", "layers", "n_classes", "value_range", "class_names", "latent"])
def test_every_field_of_a_spec_refuses_what_it_is_not(field: str, value: Any) -> None:
    good = network_spec("dcgan", 28, 1, width=2, z_dim=3).to_json()
    if (field, value) in (("latent", "normal"), ("class_names", [])):
        return
    with pytest.raises(SpecError) as caught:
        GeneratorSpec.from_json(good | {field: value})
    assert len(str(caught.value)) < 1200
    assert caught.value.hint


@pytest.mark.parametrize("field", ["latent", "name"])
@pytest.mark.parametrize("value", [None, 3, ["normal"], {}, True])
def test_texts_are_texts(field: str, value: Any) -> None:
    good = network_spec("dcgan", 28, 1, width=2, z_dim=3).to_json()
    with pytest.raises(SpecError, match=f"{field} must be"):
        GeneratorSpec.from_json(good | {field: value})


def test_class_names_are_texts() -> None:
    good = network_spec("mlp", 28, 1, width=2, z_dim=3, n_classes=2).to_json()
    assert GeneratorSpec.from_json(good | {"class_names": ["a", "b"]}).interface.class_names == ("a", "b")
    for names in ([1, 2], ["a", None], [["a"], ["b"]], ["a", "b" * 1000], "ab"):
        with pytest.raises(SpecError, match="class_names must be"):
            GeneratorSpec.from_json(good | {"class_names": names})


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"layers":' * 100_000, "{", "", "1" * 10_000, '"x"', "null", b"\xff\xfe", "NaN"]
)
def test_texts_that_are_no_spec(text: str | bytes) -> None:
    with pytest.raises(SpecError) as caught:
        GeneratorSpec.loads(text)
    assert caught.value.hint


DOUBLING = {"kind": "upsample"}
BOMBS: list[tuple[dict[str, Any], str]] = [
    (
        {"layers": [{"kind": "reshape", "shape": [4, 1, 1]}] + [DOUBLING] * 40},
        r"layer 13 \(upsample\) makes .* numbers",
    ),
    (
        {"layers": [{"kind": "reshape", "shape": [1, 2, 2]}] + [DOUBLING] * 12, "image": [1, 8192, 8192]},
        "the image has 67,108,864 pixels, at most 4,194,304",
    ),
    ({"layers": [{"kind": "reshape", "shape": [4, 1, 1]}, {"kind": "upsample", "size": [16384, 16384]}]}, "makes"),
    ({"z_dim": 10**10, "layers": []}, "z_dim must be"),
    ({"layers": [{"kind": "label_embedding", "n_classes": 1 << 20, "dim": 1 << 14}]}, "the layers own"),
    ({"layers": [{"kind": "reshape", "shape": [4]}] * 2001}, "the spec has 2,001 layers"),
    (
        {
            "z_dim": 1 << 18,
            "layers": [{"kind": "reshape", "shape": [1, 512, 512]}]
            + [{"kind": "conv", "in_channels": 1, "out_channels": 256, "kernel": 1}]
            + [{"kind": "conv", "in_channels": 256, "out_channels": 256, "kernel": 9, "padding": 4}] * 8,
        },
        r"products for one image|numbers of one image",
    ),
    (
        {
            "z_dim": 1 << 20,
            "layers": [{"kind": "reshape", "shape": [1, 1024, 1024]}]
            + [{"kind": "conv", "in_channels": 1, "out_channels": 64, "kernel": 1}]
            + [{"kind": "activation", "name": "relu"}] * 30,
        },
        "the layers make .* numbers of one image, at most",
    ),
]


@pytest.mark.parametrize(("change", "message"), BOMBS)
def test_networks_that_no_machine_runs(change: dict[str, Any], message: str) -> None:
    begun = time.process_time()
    with pytest.raises(SpecError, match=message) as caught:
        GeneratorSpec.from_json({"z_dim": 4, "image": [1, 4, 4]} | change)
    assert caught.value.hint
    assert time.process_time() - begun < 5.0


def test_large_generators_that_exist_pass() -> None:
    def up(takes: int, makes: int) -> list[Any]:
        conv = Conv(takes, makes, 3, padding=1)
        return [Upsample(2), conv, Activation("leaky_relu", slope=0.2)]

    widths = [512, 512, 512, 512, 512, 256, 128, 64, 32]
    blocks = [layer for pair in pairwise(widths) for layer in up(*pair)]
    head = [LabelEmbedding(1000, 128), Linear(256, 512 * 16), Reshape((512, 4, 4))]
    layers = (*head, *blocks, Conv(32, 3, 1), Activation("tanh"))
    spec = GeneratorSpec(Interface(128, (3, 1024, 1024), n_classes=1000), layers)
    assert spec.products < BUDGET.products
    wide = [Reshape((512, 1, 1)), *[layer for _ in range(9) for layer in up(512, 512)], Conv(512, 3, 3, padding=1)]
    assert GeneratorSpec(Interface(512, (3, 512, 512)), tuple(wide)).parameters > 1e7
    mlp = (Linear(100, 512), Linear(512, 3 * 1024 * 1024), Reshape((3, 1024, 1024)))
    assert GeneratorSpec(Interface(100, (3, 1024, 1024)), mlp).interface.image == (3, 1024, 1024)


def test_products_are_counted() -> None:
    spec = network_spec("dcgan", 28, 1, width=2, z_dim=3)
    assert spec.products == 1 * 3 * 8 * 49 + 49 * 8 * 4 * 16 + 196 * 4 * 1 * 16
    assert json.loads(spec.dumps()) == spec.to_json()
