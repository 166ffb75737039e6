"""Layers of generators with styles, against what the paper and its filters say, computed the long way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, linear, pad

from gan_core.contract import Contract
from gan_core.interface import Interface, NoiseMaps, Styles
from gan_core.spec import Layer
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec, SpecError
from gan_trainer.networks.generator import build, build_layer


def styled(*last: Layer, noise: bool = True) -> GeneratorSpec:
    """z (6,) → w (5,) → 3 styles → an image of 2 channels, 8x8."""
    return GeneratorSpec(
        Interface(6, (2, 8, 8), styles=Styles(5, 3), noise=noise),
        (
            L.Linear(6, 5),
            L.Styles(5, 3, as_="styles"),
            L.Constant((4, 4, 4)),
            L.ModulatedConv(4, 4, 3, "styles", 0, 5),
            *([L.Noise(4, 4)] if noise else []),
            L.ModulatedConv(4, 3, 2, "styles", 1, 5, up=2),
            L.ModulatedConv(3, 2, 1, "styles", 2, 5, demodulate=False),
            *last,
        ),
    )


@pytest.mark.parametrize("up", [1, 2, 3])
@pytest.mark.parametrize("demodulate", [True, False])
def test_a_modulated_convolution_is_that_of_a_scaled_kernel_for_each_image(up: int, demodulate: bool) -> None:
    layer = L.ModulatedConv(4, 6, 3, "styles", 1, 5, up=up, demodulate=demodulate)
    module = build_layer(layer, (4, 5, 5)).double()
    x, styles = torch.randn(3, 4, 5, 5).double(), torch.randn(3, 2, 5).double()
    held = dict(module.named_parameters())
    rows = []
    for image, row in zip(x, styles[:, 1], strict=True):
        style = linear(row, held["affine_weight"], held["affine_bias"])
        kernel = held["weight"] if up == 1 else held["weight"].transpose(0, 1)
        kernel = kernel * style.reshape(1, -1, 1, 1)
        if demodulate:
            kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up == 1:
            rows.append(conv2d(image[None], kernel, padding=1))
        else:
            rows.append(conv_transpose2d(image[None], kernel.transpose(0, 1), stride=up))
    made = layer.apply(torch, module, x, styles)
    torch.testing.assert_close(made, torch.cat(rows))
    assert made.shape[1:] == layer.out_shape((4, 5, 5), (2, 5))


@pytest.mark.parametrize("up", [1, 2, 3])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("borders", [(0, 0, 0, 0), (2, 1, 2, 1), (1, 1, 1, 1), (-1, 3, 4, -2)])
@pytest.mark.parametrize("separable", [False, True])
def test_a_filter_is_zeros_between_pixels_and_a_convolution(
    up: int, down: int, borders: tuple[int, int, int, int], separable: bool
) -> None:
    layer = L.Fir(3, up=up, down=down, borders=borders, separable=separable)
    module, x = build_layer(layer, (2, 5, 6)), torch.randn(2, 2, 5, 6)
    between = torch.zeros(2, 2, 5 * up, 6 * up)
    between[:, :, ::up, ::up] = x
    taps = dict(module.named_parameters())["filter"]
    kernel = (taps.outer(taps) if separable else taps).flip((0, 1)).expand(2, 1, 3, 3)
    expected = conv2d(pad(between, borders), kernel, groups=2)[:, :, ::down, ::down]
    made = layer.apply(torch, module, x)
    torch.testing.assert_close(made, expected)
    assert made.shape[1:] == layer.out_shape((2, 5, 6))


def test_a_convolution_with_a_border_of_its_own() -> None:
    layer = L.ModulatedConv(4, 6, 3, "styles", 0, 5, padding=2)
    module, x, styles = build_layer(layer, (4, 5, 5)), torch.randn(2, 4, 5, 5), torch.randn(2, 1, 5)
    wide = replace(layer, padding=None).apply(torch, module, pad(x, (1, 1, 1, 1)), styles)
    torch.testing.assert_close(layer.apply(torch, module, x, styles), wide)
    assert layer.out_shape((4, 5, 5)) == (6, 7, 7)


def test_sines_are_turned_and_moved() -> None:
    layer = L.FourierInput(3, 10, 6.0, 2.0, "styles", 0, 4)
    module = build_layer(layer, (4,))
    held = dict(module.named_parameters())
    turn, shift = 0.3, torch.tensor([0.2, -0.1])
    with torch.no_grad():
        held["affine_weight"].zero_()
        held["affine_bias"].copy_(2 * torch.tensor([math.cos(turn), math.sin(turn), *shift.tolist()]))
        held["transform"].copy_(torch.eye(3))
        held["freqs"].copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [2.5, 0.0]]))
        made = layer.apply(torch, module, torch.zeros(2, 4), torch.randn(2, 1, 4))
    middle = (torch.arange(10) + 0.5 - 5) / 6.0
    places = torch.stack(torch.meshgrid(middle, middle, indexing="xy"), dim=-1) - shift
    turned = places @ torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]).T
    waves = torch.sin(2 * math.pi * (turned @ held["freqs"].T + held["phases"])) * torch.tensor([1.0, 1.0, 0.5])
    torch.testing.assert_close(made[0], (waves @ held["weight"].T).permute(2, 0, 1), rtol=1e-4, atol=1e-4)
    assert made.shape[1:] == layer.out_shape((4,), (1, 4))
    with pytest.raises(SpecError, match="bandwidth 3 must be below half the rate"):
        replace(layer, bandwidth=3.0).out_shape((4,))


def test_psi_and_given_styles() -> None:
    module = build(styled())
    z, ones = torch.randn(4, 6), torch.ones(4, dtype=torch.bool)
    image, styles = module.values(z)
    assert styles is not None
    w, mean = module.layers[0](z), module.state_dict()["layers.1.w_avg"]
    torch.testing.assert_close(styles, w.unsqueeze(1).expand(4, 3, 5), rtol=0, atol=0)
    half: Tensor = module.values(z, psi=torch.full((1,), 0.5))[1]  # type: ignore[assignment]
    torch.testing.assert_close(half[:, 2], mean + 0.5 * (w - mean))
    torch.testing.assert_close(module(0 * z, w=styles, from_w=ones), image, rtol=0, atol=0)
    mixed = module(z, w=styles.flip(0), from_w=torch.tensor([True, False, False, True]))
    torch.testing.assert_close(mixed, torch.cat((image[3:], image[1:3], image[:1])))


def test_noise_is_scaled() -> None:
    module = build(styled())
    without = build(styled(noise=False))
    names = {name.replace("layers.4", "x").replace("layers.5", "layers.4").replace("layers.6", "layers.5"): value
             for name, value in module.state_dict().items()}  # fmt: skip
    without.load_state_dict({name: value for name, value in names.items() if not name.startswith("x")})
    z = torch.randn(2, 6)
    torch.testing.assert_close(module(z, noise=torch.zeros(1)), without(z))
    assert not torch.allclose(module(z), without(z))
    torch.testing.assert_close(module(z), module(z, noise=torch.ones(2)))


def with_maps(*maps: L.Noise, size: int = 16) -> GeneratorSpec:
    """`styled`, whose noise is an input."""
    first, last = (maps or (L.Noise(4, 4, at=0),))[0], maps[1:]
    spec = styled()
    layers = [first if isinstance(layer, L.Noise) else layer for layer in spec.layers]
    return GeneratorSpec(replace(spec.interface, noise_maps=NoiseMaps(size)), (*layers, *last))


def test_each_image_may_have_noise_of_its_own() -> None:
    module, z, maps = build(with_maps(L.Noise(4, 4, at=0), L.Noise(8, 8, at=16), size=80)), torch.randn(3, 6), []
    constant = module.noise_maps()
    torch.testing.assert_close(module(z), module(z, noise_maps=constant))
    for seed in range(3):
        alone = build(styled(L.Noise(8, 8)))
        drawn = torch.randn(80)
        own = {"layers.4.map": drawn[:16].reshape(4, 4), "layers.7.map": drawn[16:].reshape(8, 8)}
        alone.load_state_dict(module.state_dict() | own)
        maps.append((drawn, alone(z[seed : seed + 1], noise=torch.tensor([0.5]))))
    made = module(z, noise_maps=torch.stack([drawn for drawn, _ in maps]), noise=torch.full((3,), 0.5))
    torch.testing.assert_close(made, torch.cat([image for _, image in maps]))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (lambda: with_maps(L.Noise(4, 4, at=1)), r"layer 4 \(noise\) at is 1, expected 0"),
        (lambda: with_maps(size=17), "noise_maps have 17 numbers, the layers take 16"),
        (lambda: with_maps(L.Noise(4, 4)), "noise_maps have 16 numbers, the layers take 0"),
        (lambda: styled(L.Noise(8, 8, at=0)), "noise_maps have 0 numbers, the layers take 64"),
        (lambda: Interface(6, (2, 8, 8), noise_maps=NoiseMaps(16)), "noise_maps are set, and noise is not"),
        (lambda: NoiseMaps(0), "size must be"),
        (lambda: NoiseMaps(4, "loud"), "law must be"),  # type: ignore[arg-type]
    ],
)
def test_noise_that_does_not_fit_is_refused(spec: Callable[[], object], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        spec()
    assert caught.value.hint


def test_a_spec_with_styles_survives_json_and_a_contract() -> None:
    for spec in (styled(), with_maps()):
        assert GeneratorSpec.loads(spec.dumps()) == spec
        contract = Contract(replace(spec.interface, image=(3, 8, 8)))
        assert Contract.from_metadata(contract.to_metadata()) == contract
    assert list(contract.interface.options) == ["psi", "w", "from_w", "noise", "noise_maps"]
    plain = Contract(Interface(6, (3, 8, 8)))
    assert "styles" not in plain.to_metadata()["gan.interface"]
    assert list(styled().interface.options) == ["psi", "w", "from_w", "noise"]


@pytest.mark.parametrize(
    ("layers", "interface", "message"),
    [
        (styled().layers, {"styles": None}, "styles is not set, and there is a layer 'styles'"),
        (styled().layers, {"noise": False}, "noise is not set, and there is a layer 'noise'"),
        (styled().layers, {"styles": Styles(5, 4)}, r"makes 3 styles, the interface has \(4, 5\)"),
        (styled(noise=False).layers, {"noise": True}, "noise is set, and there is no layer 'noise'"),
        ((L.Linear(6, 128), L.Reshape((2, 8, 8))), {}, "styles is set, and there is no layer 'styles'"),
        ((*styled().layers, L.ModulatedConv(2, 2, 1, "styles", 3, 5)), {}, "takes row 3 of 3 styles"),
        ((*styled().layers, L.ModulatedConv(2, 2, 1, "z", 0, 5)), {}, r"takes styles of 5, gets \(6,\)"),
        ((*styled().layers, L.Noise(4, 8)), {}, "adds noise of 4x8, gets 8x8"),
        ((*styled().layers, L.Bias(3)), {}, "takes 3 features, gets 2"),
        ((*styled().layers, L.Fir(12)), {}, "12 taps do not fit into 8x8"),
    ],
)
def test_what_does_not_fit_is_refused(layers: tuple[Layer, ...], interface: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        GeneratorSpec(replace(styled().interface, **interface), layers)  # type: ignore[arg-type]


def test_a_modulated_convolution_keeps_the_size_or_upsamples() -> None:
    with pytest.raises(SpecError, match="kernel must be odd, got 2"):
        L.ModulatedConv(2, 2, 2, "styles", 0, 5)
