"""Generators that take images, exported and proved: sizes stay symbolic, batches too, and each mistake is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from gan_core.golden import example_images
from gan_core.image_input import ImageInput
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.answers import OnnxOptions
from gan_export.exporting import export_onnx, export_torchscript
from gan_export.proof.prove import prove
from gan_export.proof.reference import Reference
from gan_export.source import Source, from_spec
from gan_serve.runtime.golden import check_golden
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_trainer.networks.generator import build

pytestmark = pytest.mark.slow

RELU = L.Activation("relu")
UPSCALE = GeneratorSpec(
    Interface(0, (3, 64, 48), value_range=(0.0, 1.0), input=ImageInput(scale=2, multiple_of=2, minimum=2)),
    (
        L.PixelUnshuffle(2),
        L.Conv(12, 6, 3, padding=1, as_="first"),
        L.Conv(6, 6, 3, padding=1),
        L.Activation("prelu", features=6),
        L.Add("first", scale=0.2),
        L.Upsample(2),
        L.Conv(6, 6, 3, padding=1),
        L.Conv(6, 12, 3, padding=1),
        L.PixelShuffle(2),
        L.Activation("sigmoid"),
    ),
    "upscale",
)
TRANSLATE = GeneratorSpec(
    Interface(0, (1, 32, 32), input=ImageInput(1, (-1.0, 1.0), multiple_of=2, minimum=4)),
    (
        L.Pad((3, 3, 3, 3), mode="reflect"),
        L.Conv(1, 4, 7),
        L.InstanceNorm(4),
        RELU,
        L.Conv(4, 8, 3, stride=2, padding=1),
        L.InstanceNorm(8),
        RELU,
        L.ConvTranspose(8, 4, 3, stride=2, padding=1, output_padding=1),
        L.InstanceNorm(4),
        RELU,
        L.Conv(4, 1, 3, padding=1),
        L.Activation("tanh"),
    ),
    "translate",
)
U_NET = GeneratorSpec(
    Interface(0, (3, 16, 16), input=ImageInput(3, (-1.0, 1.0), fixed=True)),
    (
        L.Conv(3, 4, 4, stride=2, padding=1, as_="outer"),
        L.Conv(4, 8, 4, stride=2, padding=1),
        RELU,
        L.ConvTranspose(8, 4, 4, stride=2, padding=1),
        L.BatchNorm(4),
        L.Concat(("outer", "x")),
        RELU,
        L.ConvTranspose(8, 3, 4, stride=2, padding=1),
        L.Activation("tanh"),
    ),
    "u-net",
)


def source_of(spec: GeneratorSpec) -> Source:
    torch.manual_seed(3)
    return from_spec(spec, build(spec))


@pytest.mark.parametrize("spec", [UPSCALE, TRANSLATE, U_NET], ids=lambda spec: spec.name)
def test_it_is_exported_and_proved(spec: GeneratorSpec, tmp_path: Path) -> None:
    path, source = tmp_path / "g.onnx", source_of(spec)
    report = export_onnx(source, path)
    assert report.ok, report.failed
    taken = spec.interface.input
    assert taken is not None
    dims = [dim.dim_param or dim.dim_value for dim in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", *((16, 16) if taken.fixed else ("height", "width")), taken.channels]
    with OnnxGenerator(path, "cpu") as generator:
        assert all(result.ok for result in check_golden(generator))
        height, width = (16, 16) if taken.fixed else (10, 46)
        images = example_images(range(4), height, width, taken.channels)
        pixels = generator.run_pixels(images)
        assert pixels.shape == (4, height * taken.scale, width * taken.scale, spec.interface.channels)
        values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        black, white = taken.value_range
        with torch.no_grad():
            expected = source.module(values * (white - black) + black).numpy()
        np.testing.assert_allclose(generator.run(images)[0], expected, atol=1e-5)


def test_rounding_is_measured_on_the_least_images_too() -> None:
    """There an instance norm over a few pixels enlarges it."""
    source = source_of(TRANSLATE)
    ordinary = Reference(source)
    assert next(case for case in ordinary.cases if case.kind == "size").z.shape[1:3] == (4, 4)

    class Steep(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rounded = 1.0 if x.dtype == torch.float64 else 1.5
            image: torch.Tensor = source.module.to(x.dtype)(x)
            return image * (rounded if x.shape[-1] == 4 else 1.0)

    steep = Reference(replace(source, module=Steep().eval()))
    assert ordinary.rounding is not None
    assert ordinary.rounding < 1e-5
    assert steep.rounding is not None
    assert steep.rounding > 1e-3


def test_torchscript_takes_any_size_too(tmp_path: Path) -> None:
    assert export_torchscript(source_of(UPSCALE), tmp_path / "g.ts").ok


@pytest.mark.parametrize(
    "options", [OnnxOptions(precision="fp16"), OnnxOptions(precision="int8"), OnnxOptions(store="fp16")], ids=str
)
def test_lower_precision(options: OnnxOptions, tmp_path: Path) -> None:
    report = export_onnx(source_of(UPSCALE), tmp_path / "g.onnx", options)
    assert report.ok, report.failed


def test_a_network_that_bakes_in_its_size_is_found(tmp_path: Path) -> None:
    class Baked(torch.nn.Module):
        def __init__(self, of: torch.nn.Module) -> None:
            super().__init__()
            self.of = of

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.of(x)
            return made if x.shape[2] == 32 else made * 0.5

    source = source_of(TRANSLATE)
    source = replace(source, module=Baked(source.module).eval())
    report = export_torchscript(source, tmp_path / "g.ts")
    assert not report.ok
    assert not (tmp_path / "g.ts").exists()


def test_a_changed_contract_is_found(tmp_path: Path) -> None:
    path, source = tmp_path / "g.onnx", source_of(UPSCALE)
    assert export_onnx(source, path).ok
    taken = ImageInput(scale=2, multiple_of=4, minimum=2)
    spec = replace(UPSCALE, interface=replace(UPSCALE.interface, input=taken))
    report = prove(path, replace(source, interface=spec.interface, spec=spec))
    assert [check.name for check in report.failed] == ["contract"]
