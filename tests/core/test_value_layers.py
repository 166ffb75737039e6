"""Networks that are no plain chain, said with named values; and a kind of layer from another package."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from gan_core.interface import Interface
from gan_core.spec import LAYER_KINDS, Layer
from gan_core.spec.generator_spec import GeneratorSpec, SpecError
from gan_core.spec.layers import (
    Activation,
    Add,
    Attention,
    BatchNorm,
    ChannelNorm,
    Concat,
    Conv,
    ConvTranspose,
    Fir,
    FourierInput,
    LabelEmbedding,
    Linear,
    LinearAttention,
    Load,
    LocalAttention,
    Modulate,
    ModulatedConv,
    Multiply,
    Pool,
    Reshape,
    Slice,
    Upsample,
)
from gan_trainer.networks.generator import build, build_layer


def chain(*layers: Layer, z_dim: int = 4, image: tuple[int, int, int] = (1, 2, 2)) -> GeneratorSpec:
    return GeneratorSpec(Interface(z_dim, image), layers)


def test_values_are_what_they_were_called() -> None:
    spec = chain(
        Linear(4, 8, as_="h"),
        Activation("relu"),
        Add("h", scale=0.5),
        Slice(2, 6, as_="part"),
        Multiply("z"),
        Concat(("part", "x", "h")),
        Slice(0, 4, of="x"),
        Add("z"),
        Reshape((1, 2, 2)),
    )
    module, z = build(spec), torch.randn(5, 4)
    h = module.layers[0](z)
    part = (h.relu() + 0.5 * h)[:, 2:6]
    joined = torch.cat((part, part * z, h), dim=1)
    torch.testing.assert_close(module(z), (joined[:, :4] + z).reshape(5, 1, 2, 2))
    assert [spec.shapes[i] for i in (3, 5, 6)] == [(8,), (4,), (16,)]


def test_a_conditional_norm_is_a_table_and_a_modulation() -> None:
    layers = (
        LabelEmbedding(3, 4, merge="label", as_="style"),
        Load("z"),
        Reshape((2, 2, 2)),
        BatchNorm(2, affine=False),
        Modulate("style"),
        LabelEmbedding(3, 2, merge="label", as_="other"),
        Load("z"),
        Linear(8, 4),
        Reshape((1, 2, 2)),
    )
    spec = GeneratorSpec(Interface(8, (1, 2, 2), n_classes=3), (*layers[:5], Reshape((8,)), *layers[7:]))
    module, z, label = build(spec).eval(), torch.randn(5, 8), torch.tensor([0, 2, 1, 1, 0])
    table = module.layers[0].weight
    assert isinstance(table, Tensor)
    style = table[label]
    image = z.reshape(5, 2, 2, 2) / (1 + 1e-5) ** 0.5
    modulated = image * style[:, :2, None, None] + style[:, 2:, None, None]
    torch.testing.assert_close(module(z, label), module.layers[6](modulated.reshape(5, 8)).reshape(5, 1, 2, 2))
    GeneratorSpec(Interface(8, (1, 2, 2), n_classes=3), layers)
    with pytest.raises(SpecError, match="2 and 3 classes"):
        GeneratorSpec(spec.interface, (*spec.layers[:5], LabelEmbedding(2, 4, merge="label"), *layers[8:]))
    with pytest.raises(SpecError, match=r"takes z of \(4,\), gets \(8,\)"):
        chain(Reshape((2, 2, 2)), Modulate("z"), z_dim=8)


def test_attention_is_what_its_matrices_say() -> None:
    layer, x = Attention(4, keys=2, values=3), torch.randn(2, 4, 4, 6)
    module = build_layer(layer, (4, 4, 6))
    query, key, value, out = (weight[:, :, 0, 0] for weight in module.parameters())
    flat = x.flatten(2)

    def pooled(weight: Tensor) -> Tensor:
        return torch.nn.functional.max_pool2d((weight @ flat).reshape(2, -1, 4, 6), 2).flatten(2)

    weights = torch.softmax(torch.einsum("nkq,nkp->nqp", query @ flat, pooled(key)), dim=-1)
    attended = torch.einsum("nqp,nvp->nvq", weights, pooled(value))
    torch.testing.assert_close(layer.apply(torch, module, x), x + (out @ attended).reshape(x.shape))
    with pytest.raises(SpecError, match="does not divide 5x4"):
        layer.out_shape((4, 5, 4))
    with pytest.raises(SpecError, match="too much memory"):
        layer.out_shape((4, 1024, 1024))


def test_attention_by_heads_is_what_its_matrices_say() -> None:
    q, k, v = torch.randn(2, 6, 4, 5), torch.randn(2, 6, 4, 5), torch.randn(2, 9, 4, 5)
    heads = [each.reshape(2, 3, -1, 20) for each in (q, k, v)]
    context = torch.einsum("nhdp,nhep->nhde", heads[1].softmax(3), heads[2])
    linear = torch.einsum("nhdp,nhde->nhep", heads[0].softmax(2), context).reshape(2, 9, 4, 5)
    torch.testing.assert_close(LinearAttention(3, "k", "v").apply(torch, None, q, k, v), linear)
    near = [torch.nn.functional.unfold(each, 3, padding=1).reshape(2, 3, -1, 9, 20) for each in (k, v)]
    shares = torch.einsum("nhdp,nhdjp->nhjp", heads[0], near[0]).softmax(2)
    local = torch.einsum("nhjp,nhejp->nhep", shares, near[1]).reshape(2, 9, 4, 5)
    torch.testing.assert_close(LocalAttention(3, "k", "v").apply(torch, None, q, k, v), local)
    for layer in (LinearAttention(4, "k", "v"), LocalAttention(4, "k", "v")):
        with pytest.raises(SpecError, match="4 heads do not divide 6 and 9"):
            layer.out_shape((6, 4, 5), (6, 4, 5), (9, 4, 5))
        with pytest.raises(SpecError, match=r"takes k of \(6, 4, 5\), gets \(5, 4, 5\)"):
            layer.out_shape((6, 4, 5), (5, 4, 5), (9, 4, 5))
    with pytest.raises(SpecError, match="kernel must be odd, got 2"):
        LocalAttention(3, "k", "v", 2)


def test_channel_norm_is_a_layer_norm_over_channels() -> None:
    layer, x = ChannelNorm(6), torch.randn(2, 6, 3, 4)
    module = build_layer(layer, (6, 3, 4))
    weight, bias = module["weight"], module["bias"]  # type: ignore[index]
    expected = torch.nn.functional.layer_norm(x.movedim(1, 3), (6,), weight, bias).movedim(3, 1)
    torch.testing.assert_close(layer.apply(torch, module, x), expected)


def test_a_side_of_one_is_repeated() -> None:
    spec = chain(
        Reshape((1, 2, 2), as_="image"), Pool("avg", (2, 2), (2, 2), as_="mean"), Load("image"), Multiply("mean")
    )
    z = torch.randn(3, 4)
    image: Tensor = z.reshape(3, 1, 2, 2)
    torch.testing.assert_close(build(spec)(z), image * image.mean(dim=(2, 3), keepdim=True))


def test_names_survive_json_and_old_specs_have_none() -> None:
    spec = chain(Linear(4, 4, as_="a"), Add("a", scale=2.0), Reshape((1, 2, 2)))
    again = GeneratorSpec.loads(spec.dumps())
    assert again == spec
    written = json.loads(spec.dumps())["layers"]
    assert written[0]["as"] == "a"
    assert written[1] == {"kind": "add", "with": "a", "scale": 2.0}
    assert "as" not in written[2]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Load("later"), Reshape((1, 2, 2))], r"layer 0 \(load\) uses 'later', which no layer before it is called"),
        ([Reshape((1, 2, 2), as_="z")], r"layer 0 \(reshape\) cannot be called 'z'"),
        ([Reshape((1, 2, 2), as_="x")], "cannot be called 'x'"),
        ([Reshape((1, 2, 2), as_="Skip 1")], "cannot be called 'Skip 1'"),
        ([Activation("relu", as_="a"), Activation("relu", as_="a"), Reshape((1, 2, 2))], r"layer 1 .* called 'a'"),
        ([Linear(4, 8), Add("z"), Reshape((1, 2, 2))], r"layer 1 \(add\) takes z of \(8,\), gets \(4,\)"),
        ([Reshape((1, 2, 2)), Concat(("x", "z"))], r"joins \(1, 2, 2\) and \(4,\), which differ in more than"),
        ([Slice(2, 5), Reshape((1, 2, 2))], r"takes 2 to 5 of 4 channels"),
        ([Slice(2, 2), Reshape((1, 2, 2))], r"takes 2 to 2 of 4 channels"),
    ],
)
def test_wrong_names_and_shapes_are_told(layers: list[Layer], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        chain(*layers)
    assert caught.value.hint


def test_layers_with_matrices_count_their_work() -> None:
    """A kind that forgets to would look free: to the budget, to the roofline and to the choice of sessions."""
    made = {
        "linear": Linear(4, 8),
        "conv": Conv(2, 3, 3),
        "conv_transpose": ConvTranspose(2, 3, 3),
        "attention": Attention(2, keys=1, values=1, pool=1),
        "modulated_conv": ModulatedConv(2, 3, 3, "z", 0, 4),
        "linear_attention": LinearAttention(1, "z", "z"),
        "local_attention": LocalAttention(1, "z", "z"),
        "fir": Fir(3),
        "fourier_input": FourierInput(2, 5, 4.0, 1.0, "z", 0, 4),
    }
    owners = {kind for kind, cls in LAYER_KINDS.items() if "tensors" in cls.__dict__}
    counted = {kind for kind, cls in LAYER_KINDS.items() if "products" in cls.__dict__}
    assert counted == set(made)
    # Vectors and a lookup take no products.
    vectors = {
        "constant",
        "noise",
        "bias",
        "styles",
        "batch_norm",
        "channel_norm",
        "instance_norm",
        "group_norm",
        "layer_norm",
        "rms_norm",
        "activation",
    }
    assert owners - counted == vectors | {"label_embedding"}
    for layer in made.values():
        assert layer.products((4,) if isinstance(layer, Linear) else (2, 5, 5)) > 0


class CubeEntryPoint:
    """x³, a kind of layer of a package of somebody else's: its module defines the class, no more."""

    def load(self) -> object:
        @dataclass(frozen=True)
        class Cube(Layer):
            kind: ClassVar[str] = "tests_cube"
            gain: float = 1.0

            def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:  # noqa: ARG002
                return self.gain * x**3

        return Cube


@pytest.fixture
def no_cube() -> Iterator[None]:
    yield
    LAYER_KINDS.pop("tests_cube", None)


@pytest.mark.usefixtures("no_cube")
def test_another_package_adds_a_kind_of_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its module is imported when a spec names the kind, by its entry point."""
    text = json.dumps({"z_dim": 4, "image": [1, 2, 2], "layers": [
        {"kind": "tests_cube", "gain": 2.0, "as": "cubed"}, {"kind": "add", "with": "cubed"},
        {"kind": "reshape", "shape": [1, 2, 2]},
    ]})  # fmt: skip
    with pytest.raises(SpecError, match="unknown layer kind 'tests_cube'"):
        GeneratorSpec.loads(text)

    def entry_points(*, group: str, name: str) -> list[CubeEntryPoint]:
        assert (group, name) == ("ganport.layers", "tests_cube")
        return [CubeEntryPoint()]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    spec = GeneratorSpec.loads(text)
    assert GeneratorSpec.loads(spec.dumps()) == spec
    z = torch.randn(3, 4)
    torch.testing.assert_close(build(spec)(z), (4 * z**3).reshape(3, 1, 2, 2))


def test_two_kinds_of_one_name_are_a_mistake() -> None:
    with pytest.raises(TypeError, match="two layers of the kind 'upsample'"):
        type("Again", (Layer,), {"kind": Upsample.kind})
