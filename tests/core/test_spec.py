"""A generator is data: specs chain, print, read back, build, and refuse what makes no network."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from gan_core.errors import GanportError
from gan_core.interface import Interface
from gan_core.spec.generator_spec import GeneratorSpec, SpecError
from gan_core.spec.layers import (
    ACTIVATIONS,
    Activation,
    AdaptivePool,
    Attention,
    BatchNorm,
    Bias,
    ChannelNorm,
    ChannelShuffle,
    Constant,
    Conv,
    ConvTranspose,
    Fir,
    Glu,
    GroupNorm,
    InstanceNorm,
    LabelEmbedding,
    LabelOneHot,
    Layer,
    LayerNorm,
    Linear,
    LocalResponseNorm,
    Pad,
    PixelNorm,
    PixelShuffle,
    PixelUnshuffle,
    Pool,
    Reshape,
    RmsNorm,
    Shape,
    Upsample,
    layer_from_json,
)
from gan_trainer.networks.architectures import ARCHITECTURES, SIZES, network_spec
from gan_trainer.networks.generator import build, build_layer

IMAGE_LAYERS: list[tuple[Layer, Shape]] = [
    (Linear(6, 4), (6,)),
    (Linear(6, 4, bias=False), (6,)),
    (Conv(6, 4, 3, stride=2, padding=1), (6, 9, 9)),
    (Conv(6, 4, 3, dilation=2, groups=2, bias=False), (6, 9, 9)),
    (Conv(6, 4, 3, padding=1, padding_mode="reflect"), (6, 9, 9)),
    (ConvTranspose(6, 4, 4, 2, 1), (6, 5, 5)),
    (ConvTranspose(6, 4, 5, 2, 2, output_padding=1, groups=2), (6, 5, 5)),
    (ConvTranspose(6, 4, 3, dilation=2), (6, 5, 5)),
    (Upsample(3), (6, 5, 5)),
    (Upsample(2, "bilinear"), (6, 5, 5)),
    (Upsample(2, "bilinear", align_corners=True), (6, 5, 5)),
    (PixelShuffle(2), (8, 5, 5)),
    (BatchNorm(6), (6, 5, 5)),
    (BatchNorm(6, eps=0.8, affine=False), (6,)),
    (InstanceNorm(6, affine=True), (6, 5, 5)),
    (GroupNorm(2, 6), (6, 5, 5)),
    (LayerNorm((5, 5)), (6, 5, 5)),
    (PixelNorm(), (6, 5, 5)),
    (ChannelNorm(6), (6, 5, 5)),
    (LayerNorm((5, 5), bias=False), (6, 5, 5)),
    (RmsNorm((6, 5, 5)), (6, 5, 5)),
    (RmsNorm((6,), affine=False), (6,)),
    (LocalResponseNorm(3, alpha=0.5, k=0.7), (6, 5, 5)),
    (Upsample(2, "bicubic", align_corners=True), (6, 5, 5)),
    (Upsample(mode="nearest-exact", size=(8, 7)), (6, 5, 5)),
    (PixelUnshuffle(3), (2, 6, 9)),
    (ChannelShuffle(3), (6, 5, 5)),
    (Glu(), (6, 5, 5)),
    (Glu(), (6,)),
    *[
        (Pool("max", (kernel, 2), (stride, 1), (padding, 1), (dilation, 1), ceil=ceil), (6, 9, 7))
        for kernel, stride, padding, dilation in [(2, 2, 0, 1), (3, 2, 1, 1), (2, 3, 1, 2), (3, 4, 1, 2), (2, 3, 1, 1)]
        for ceil in (False, True)
    ],
    (Pool("avg", (3, 3), (2, 2), (1, 1), ceil=True, count_padding=False), (6, 8, 8)),
    (AdaptivePool("avg", (2, 3)), (6, 4, 9)),
    (AdaptivePool("max", (1, 1)), (6, 4, 9)),
    (Pad((1, 2, 3, 4)), (6, 5, 5)),
    (Pad((-1, 0, -2, 1), value=0.5), (6, 5, 5)),
    (Pad((1, 0, 4, 4), "reflect"), (6, 5, 5)),
    (Pad((1, 0, 7, 4), "replicate"), (6, 5, 5)),
    (Pad((5, 0, 4, 4), "circular"), (6, 5, 5)),
    (Attention(6, keys=2, values=3), (6, 4, 8)),
    (Attention(6, keys=1, values=2, pool=1), (6, 5, 3)),
    (Constant((4, 3, 3)), (6,)),
    (Bias(6), (6, 5, 5)),
    (Bias(6), (6,)),
    (Fir(4, up=2, borders=(2, 1, 2, 1)), (6, 5, 5)),
    (Fir(4, up=3, down=2, borders=(-1, 1, 0, 2)), (6, 5, 4)),
    (Fir(4, down=2, borders=(1, 1, 1, 1)), (6, 8, 6)),
    (Fir(4, up=2, down=2, borders=(2, -1, 3, 1), separable=True), (6, 8, 6)),
    (Reshape((3, 2, 1)), (6,)),
    (Reshape((6,)), (6, 1, 1)),
    *[(Activation(name), (6, 5, 5)) for name in ACTIVATIONS],
    (Activation("prelu", features=6), (6, 5, 5)),
    (Activation("leaky_relu", slope=0.2, gain=2.0**0.5, clamp=256.0), (6, 5, 5)),
    (Activation("hardtanh", limits=(0.0, 6.0)), (6, 5, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), IMAGE_LAYERS, ids=lambda value: getattr(value, "kind", None))
def test_layer_shape_and_tensors_are_what_torch_makes(layer: Layer, shape: Shape) -> None:
    module = build_layer(layer, shape).eval()
    out = layer.apply(torch, module, torch.randn(3, *shape))
    assert tuple(out.shape[1:]) == layer.out_shape(shape)
    owned = {name: tuple(t.shape) for name, t in module.state_dict().items() if name != "num_batches_tracked"}
    assert owned == layer.tensors()
    assert layer_from_json(json.loads(json.dumps(layer.to_json()))) == layer


@pytest.mark.parametrize("slope", [0.01, 0.1, 0.2])
def test_slope_reaches_the_module(slope: float) -> None:
    x = torch.tensor([[-2.0]])
    assert build_layer(Activation("leaky_relu", slope), (1,))(x).item() == pytest.approx(-2 * slope)
    assert build_layer(Activation("elu", slope), (1,))(x).item() == pytest.approx(slope * (torch.e**-2 - 1))


@pytest.mark.parametrize(
    ("head", "joined"),
    [
        (LabelEmbedding(5, 3, "z_label"), lambda z, e: torch.cat((z, e), 1)),
        (LabelEmbedding(5, 3, "label_z"), lambda z, e: torch.cat((e, z), 1)),
        (LabelEmbedding(5, 4, "multiply"), lambda z, e: z * e),
        (LabelEmbedding(5, 4, "add"), lambda z, e: z + e),
    ],
)
def test_label_embedding_merges(head: LabelEmbedding, joined: Any) -> None:
    width = head.out_shape((4,))[0]
    spec = GeneratorSpec(Interface(4, (1, 2, 2), n_classes=5), (head, Linear(width, 4), Reshape((1, 2, 2))))
    module = build(spec)
    z, label = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 4, 0])
    embedded = torch.nn.functional.embedding(label, module.layers[0].get_parameter("weight"))
    expected = module.layers[1](joined(z, embedded)).reshape(6, 1, 2, 2)
    torch.testing.assert_close(module(z, label), expected)


def test_one_hot_label() -> None:
    spec = GeneratorSpec(Interface(2, (1, 1, 5), n_classes=3), (LabelOneHot(3), Reshape((1, 1, 5))))
    made = build(spec)(torch.zeros(2, 2), torch.tensor([0, 2]))
    assert made.reshape(2, 5).tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 0, 1]]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("size", [*SIZES[:-1], pytest.param(SIZES[-1], marks=pytest.mark.slow)])
@pytest.mark.parametrize(("channels", "n_classes"), [(1, 0), (3, 0), (1, 4)])
def test_networks_of_every_size(arch: str, size: int, channels: int, n_classes: int) -> None:
    spec = network_spec(arch, size, channels, width=4, z_dim=7, n_classes=n_classes)
    module = build(spec).eval()
    inputs = [torch.randn(2, 7), *([torch.tensor([0, n_classes - 1])] if n_classes else [])]
    image = module(*inputs)
    assert image.shape == (2, channels, size, size)
    assert image.abs().max() <= 1
    assert {k: tuple(v.shape) for k, v in module.state_dict().items() if "num_batches" not in k} == spec.tensors()
    assert GeneratorSpec.from_json(json.loads(spec.dumps())) == spec
    assert spec.parameters == sum(p.numel() for p in module.parameters())


def test_tutorial_networks_have_the_tutorials_sizes() -> None:
    assert network_spec("dcgan", 64, 3).parameters == 3_576_704  # the figure PyTorch's DCGAN tutorial's netG has
    hidden = [layer.out_features for layer in network_spec("mlp", 28, 1).layers if isinstance(layer, Linear)]
    assert hidden == [128, 256, 512, 1024, 784]
    norms = [layer for layer in network_spec("mlp", 28, 1).layers if isinstance(layer, BatchNorm)]
    assert [norm.eps for norm in norms] == [0.8, 0.8, 0.8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gan", 64, 3), "unknown architecture"),
        (("dcgan", 63, 3), "no network for size 63"),
        (("dcgan", 64, 2), "channels must be 1"),
    ],
)
def test_networks_that_do_not_exist(arguments: tuple[str, int, int], message: str) -> None:
    with pytest.raises(GanportError, match=message):
        network_spec(*arguments)


GOOD = {
    "z_dim": 4,
    "image": [1, 2, 2],
    "layers": [{"kind": "linear", "in_features": 4, "out_features": 4}, {"kind": "reshape", "shape": [1, 2, 2]}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z_dim": 3}, r"layer 0 \(linear\) takes a vector of 4, gets \(3,\)"),
        ({"z_dim": 0}, "z_dim must be a whole number from 1 to 16,777,216, got 0"),
        ({"z_dim": "many"}, "z_dim must be a whole number .* got 'many'"),
        ({"image": [3, 2, 2]}, "the layers make"),
        ({"image": [2, 2]}, "image must be"),
        ({"latent": "gamma"}, "latent must be one of"),
        ({"value_range": [1, -1]}, "value_range"),
        ({"value_range": 3}, "value_range must be a list of 2, each a number .* got 3"),
        ({"n_classes": 3}, "n_classes is 3"),
        ({"class_names": ["a"]}, "1 class names for 0 classes"),
        ({"colour": 1}, "unknown spec field 'colour'"),
        ({"layers": [{"kind": "convolution"}]}, "unknown layer kind 'convolution'"),
        ({"layers": [{"in_features": 4}]}, "a layer must be an object with a 'kind'"),
        ({"layers": [{"kind": "linear", "in_features": 4}]}, "linear"),
        ({"layers": [{"kind": "linear", "in_features": 4, "out_features": 4, "w": 1}]}, "unknown field 'w'"),
        ({"layers": [{"kind": "activation", "name": "swoosh"}]}, "must be one of relu"),
        ({"layers": [{"kind": "conv", "in_channels": 1, "out_channels": 1, "kernel": 3}]}, "takes an image"),
        ({"layers": []}, "the layers make"),
    ],
)
def test_specs_that_do_not_read(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        GeneratorSpec.from_json(GOOD | change)


@pytest.mark.parametrize("field", ["z_dim", "image", "layers"])
def test_specs_that_lack_a_field(field: str) -> None:
    with pytest.raises(SpecError, match=f"lacks '{field}'"):
        GeneratorSpec.from_json({key: value for key, value in GOOD.items() if key != field})


def test_a_list_is_no_spec() -> None:
    with pytest.raises(SpecError, match="must be a JSON object, got a list of 1"):
        GeneratorSpec.from_json([GOOD])
