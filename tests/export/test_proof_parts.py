"""The parts of a proof by themselves: cases, numbers, limits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.precision_nets import settled_source
from export.tiny import lively, source_of, spec_of
from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.errors import JobError
from gan_core.images import to_pixels
from gan_core.interface import Interface, with_interface
from gan_core.latents import latents
from gan_core.limits import LIMITS
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.exporting import export_onnx
from gan_export.proof import Check, Report
from gan_export.proof.cases import BATCHES, Case, cases
from gan_export.proof.meaning import Statistics, check_meaning
from gan_export.proof.parity import Differences, check_batches, check_parity, run_cases
from gan_export.proof.prove import OVERHEAD_BYTES, check_size, check_spec_weights, tolerance_of
from gan_export.proof.reference import Reference, check_reference, make_golden
from gan_export.source import Source
from gan_serve.runtime.generator import Generator

pytestmark = pytest.mark.slow


class FakeGenerator(Generator):
    """Draws what a reference draws, changed by a test."""

    def __init__(self, reference: Reference) -> None:
        source = reference.source
        self.reference = reference
        self.contract = Contract(
            source.interface,
            precision="fp32",
        )
        self.provider, self.sha256 = "fake", ""
        self.add: F32 = np.zeros(1, np.float32)

    def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
        image = self.reference.run(z, label) + self.add
        return image, to_pixels(image, self.contract.interface.value_range)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(source_of(spec_of(n_classes=3)))


def compared(generator: FakeGenerator) -> Differences:
    """All cases of its reference drawn, and compared with it."""
    differences = Differences(generator.reference)
    run_cases(generator, generator.reference.cases, [differences])
    return differences


def meant(generator: FakeGenerator, made: tuple[Case, ...] | None = None) -> dict[str, Check]:
    """The checks of what the images of `made` (all cases of its reference) show by themselves, by name."""
    made = generator.reference.cases if made is None else made
    statistics = Statistics(generator.contract, made)
    run_cases(generator, made, [statistics])
    return {check.name: check for check in check_meaning(generator, statistics, 1e-4)}


def test_cases_cover_batches_latents_and_classes() -> None:
    made = cases(Interface(8, (3, 28, 28), n_classes=30))
    ordinary = [case for case in made if case.kind == "ordinary"]
    assert tuple(len(case.z) for case in ordinary) == BATCHES == (1, 2, 3, 8, 25)
    np.testing.assert_array_equal(ordinary[-1].z, latents(range(25), 8))
    (zero,) = [case for case in made if case.kind == "zero"]
    assert not zero.z.any()
    (far,) = [case for case in made if case.kind == "far"]
    assert (np.abs(far.z) == 4).all()
    assert (far.z[0] == 4).all()
    assert (far.z[1] == -4).all()
    classes = np.concatenate([case.label for case in made if case.kind == "class" and case.label is not None])
    assert sorted(classes) == sorted([*range(30), *range(30)])
    assert max(len(case.z) for case in made) == 25
    assert all(len(case.rows) == len(case.z) for case in made)
    assert ordinary[3].rows[7] == "seed 7 class 7"


def test_cases_of_a_uniform_latent_stop_at_its_corners() -> None:
    made = cases(Interface(8, (3, 28, 28), "uniform"))
    assert max(float(np.abs(case.z).max()) for case in made) == 1.0
    assert all(case.label is None for case in made)


def test_equal_images_have_no_difference(reference: Reference) -> None:
    parity = compared(FakeGenerator(reference))
    assert (parity.image.value, parity.pixels.value, parity.psnr_db) == (0.0, 0.0, 200.0)
    assert parity.images == sum(len(case.z) for case in reference.cases)
    assert all(check.ok for check in check_parity(parity, LIMITS["fp32"], 1e-4))


def test_psnr_is_that_of_the_textbook(reference: Reference) -> None:
    (first,) = (case for case in reference.cases if len(case.z) == 1 and case.kind == "ordinary")
    image, pixels = FakeGenerator(reference).run(first.z, first.label)
    parity = Differences(reference)
    parity.add(first, image, pixels ^ np.uint8(1))
    assert parity.pixels.value == 1
    assert math.isclose(parity.psnr_db, 10 * math.log10(255**2), rel_tol=1e-9)
    assert parity.squares.where.startswith("seed 0")


@pytest.mark.parametrize(("shift", "fails"), [(0.0, set()), (5e-5, set()), (2e-4, {"image values"}), (0.02, None)])
def test_limits_of_parity(reference: Reference, shift: float, fails: set[str] | None) -> None:
    generator = FakeGenerator(reference)
    generator.add[:] = shift
    parity = compared(generator)
    failed = {check.name for check in check_parity(parity, LIMITS["fp32"], 1e-4) if not check.ok}
    assert failed == (fails if fails is not None else {"image values", "pixel values"})


def test_lower_precisions_are_held_to_their_psnr(reference: Reference) -> None:
    generator = FakeGenerator(reference)
    for shift, ok in ((0.01, True), (0.1, False)):
        generator.add[:] = shift
        parity = compared(generator)
        checks = check_parity(parity, LIMITS["fp16"], None)
        assert all(check.ok for check in checks) == ok
        assert checks[1].limit == ""
        assert checks[3].limit == ">= 40"


def test_the_worst_image_counts_not_the_mean(reference: Reference) -> None:
    class OneBadImage(FakeGenerator):
        def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
            image, _ = super().run(z, label)
            if len(z) == BATCHES[-1]:
                image[7] += np.float32(0.03)
            return image, to_pixels(image, self.contract.interface.value_range)

    parity = compared(OneBadImage(reference))
    assert parity.worst_psnr_db < 40 < parity.psnr_db
    (failed,) = [check for check in check_parity(parity, LIMITS["fp16"], None) if not check.ok]
    assert (failed.name, failed.detail) == ("worst PSNR", parity.squares.where)
    assert "seed 7" in parity.squares.where
    assert '`precision="fp32"`' in Report("g.onnx", (failed,)).error().hint


BEHIND_UPSAMPLING = (
    [L.Linear(8, 32 * 4 * 4), L.Reshape((32, 4, 4))]
    + [layer for _ in range(3) for layer in (L.Upsample(2), L.Conv(32, 32, 3, 1, 1), L.Activation("relu"))]
    + [L.Conv(32, 32, 3, 1, 1), L.Activation("relu"), L.Conv(32, 3, 3, 1, 1), L.Activation("tanh")]
)


def test_a_weight_that_is_found_by_name_leaves_the_sizes_to_the_others() -> None:
    """Three of four convolutions of one size were rewritten and are called after their weight; the fourth was not."""
    spec = GeneratorSpec(Interface(8, (3, 32, 32)), tuple(BEHIND_UPSAMPLING))
    contract = Contract(Interface(8, (3, 32, 32)), spec=spec.to_json())
    _, *kernels, last = (name for name, shape in spec.tensors().items() if len(shape) > 1)
    size = 32 * 32 * 9
    phases = [(f"{name}.c{number}", size // 9 * 4) for name in kernels[:3] for number in range(4)]
    tensors = [("constant_3", 8 * 512), *phases, ("a new name", size), (last, 3 * 32 * 9)]
    assert check_spec_weights(contract, tensors).ok
    for missing in (("constant_3", 8 * 512), ("a new name", size), (last, 3 * 32 * 9)):
        check = check_spec_weights(contract, [tensor for tensor in tensors if tensor != missing])
        assert (check.ok, check.value) == (False, "5 of 6")
    without_first = [tensor for tensor in tensors if not tensor[0].startswith(f"{kernels[0]}.")]
    assert check_spec_weights(contract, without_first).detail in kernels
    resized = [tensor if tensor[0] != last else (last, 3 * 32 * 4) for tensor in tensors]
    assert check_spec_weights(contract, resized).detail == last


def test_upsampling_three_times_and_a_plain_convolution_of_the_same_size_export(tmp_path: Path) -> None:
    spec = GeneratorSpec(Interface(8, (3, 32, 32)), tuple(BEHIND_UPSAMPLING))
    report = export_onnx(settled_source(spec), tmp_path / "g.onnx")
    assert report.ok, report.verdict()


def test_nan_counts_as_infinitely_far(reference: Reference) -> None:
    generator = FakeGenerator(reference)
    generator.add[:] = np.nan
    parity = compared(generator)
    assert parity.image.value == math.inf
    assert not meant(generator)["NaN or Inf"].ok


@pytest.mark.parametrize(
    ("precision", "value_range", "expected"),
    [
        ("fp32", (-1.0, 1.0), 1e-4),
        ("fp32", (0.0, 1.0), 5e-5),
        ("fp32", (0.0, 255.0), 1e-4 * 127.5),
        ("fp16", (-1.0, 1.0), 0.02),
        ("int8", (0.0, 1.0), 10**-1.5),
    ],
)
def test_tolerance_follows_the_value_range(precision: str, value_range: tuple[float, float], expected: float) -> None:
    assert math.isclose(tolerance_of(LIMITS[precision], value_range), expected, rel_tol=1e-9)


def test_pale_images_are_a_warning(reference: Reference) -> None:
    """Values in [0, 1] of a generator that is said to draw in [-1, 1]."""

    class Pale(FakeGenerator):
        def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
            image = (self.reference.run(z, label) + np.float32(1)) / np.float32(2)
            return image, to_pixels(image, self.contract.interface.value_range)

    check = meant(Pale(reference))["outside the value range"]
    assert check.ok
    assert check.warning
    assert "only half of the range" in check.detail


@pytest.mark.parametrize(("share", "ok"), [(0.2, True), (0.3, False)])
def test_few_values_may_lie_outside_the_range(reference: Reference, share: float, ok: bool) -> None:
    class Overshooting(FakeGenerator):
        def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
            image = self.reference.run(z, label).clip(-1, 1)
            flat = image.reshape(len(image), -1)
            flat[:, : int(share * flat.shape[1])] = 1.1
            return image, to_pixels(image, self.contract.interface.value_range)

    assert meant(Overshooting(reference))["outside the value range"].ok == ok


def test_a_file_is_as_large_as_its_weights_and_a_little() -> None:
    assert check_size(OVERHEAD_BYTES + 104_000, 100_000).ok
    assert not check_size(OVERHEAD_BYTES + 106_000, 100_000).ok


def test_nothing_drawn_is_a_failure(reference: Reference) -> None:
    generator = FakeGenerator(reference)
    (check,) = meant(generator, ()).values()
    assert not check.ok
    assert not check_parity(Differences(reference), LIMITS["fp32"], 1e-4)[0].ok


def test_runs_record_what_failed(reference: Reference) -> None:
    class Picky(FakeGenerator):
        def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
            if len(z) == 3:
                raise RuntimeError("three is\n  too many " + "x" * 300)
            image, pixels = super().run(z, label)
            return (image, pixels) if len(z) != 8 else (image[:, :, :-1], pixels)

    failures = run_cases(Picky(reference), reference.cases, [])
    check = check_batches(reference.cases, failures)
    assert not check.ok
    assert check.value == "fails at 3 8"
    assert "three is too many" in check.detail
    assert len(check.detail) < 250
    assert any("expected float32 (8, 3, 28, 28)" in message for _, message in failures)


def test_golden_set_is_what_torch_draws(reference: Reference) -> None:
    golden = make_golden(reference)
    assert [(entry.seed, entry.label) for entry in golden] == [(0, 0), (1, 1), (2, 2), (3, 0)]


def test_a_network_that_is_not_steady_far_out_is_asked_nearer() -> None:
    """As BigGAN, whose gains are made of z: what is multiplied again and again leaves float32 at 4 sigma, or all images
    are black and white there."""
    source = source_of()

    class Changed(torch.nn.Module):
        def __init__(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
            super().__init__()
            self.inner, self.change = source.module, change

        def forward(self, z: Tensor) -> Tensor:
            return self.change(self.inner(z), z.square().mean(dim=1)[:, None, None, None]).clamp(-1, 1)

    def reach(change: Callable[[Tensor, Tensor], Tensor]) -> float:
        reference = Reference(dataclasses.replace(source, module=Changed(change).eval()))
        return max(float(np.abs(case.z).max()) for case in reference.cases if case.kind == "far")

    assert reach(lambda image, square: image + 1e-3 * torch.sin(1 + square)) == 4
    assert reach(lambda image, square: image + 1e-3 * torch.sin((1 + square) ** 7)) == 2
    assert reach(lambda image, square: image * torch.where(square > 10, 1e9, 1.0)) == 2


def test_reference_of_another_shape() -> None:
    source = with_interface(source_of(), image=(3, 32, 32))
    with pytest.raises(JobError, match=r"makes \(1, 3, 28, 28\) of a batch of 1 ordinary latents, expected"):
        check_reference(Reference(source), 1e-4)


def test_reference_checks_hold_for_a_right_module(reference: Reference) -> None:
    assert [check.ok for check in check_reference(reference, 1e-4)] == [True] * 4
    assert not torch.is_grad_enabled() or reference.images(reference.cases[0]).dtype == np.float32


class Steep(nn.Module):
    """Multiplies rounding errors by `factor`."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.linear = lively(nn.Linear(8, 48))

    def forward(self, z: Tensor) -> Tensor:
        return torch.sin(self.factor * self.linear(z)).reshape(-1, 3, 4, 4)


class Single(Steep):
    """Has float32 written into it."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(torch.nn.functional.linear(z, self.get_parameter("linear.weight").float())).reshape(
            -1, 3, 4, 4
        )


@pytest.mark.parametrize(("factor", "limit"), [(1.0, 1e-4), (100.0, None)])
def test_limit_follows_the_module_s_own_rounding(factor: float, limit: float | None, tmp_path: Path) -> None:
    """Where float32 itself is 1e-4 off, an export can be no closer; a right one passes all the same."""
    source = Source(Steep(factor).eval(), Interface(8, (3, 4, 4)))
    reference = Reference(source)
    assert reference.rounding is not None
    expected = limit or 4 * reference.rounding
    assert expected >= 1e-4
    report = export_onnx(source, tmp_path / "g.onnx")
    assert report.ok, report.verdict()
    assert report.check("image values").limit == f"<= {expected:.3g}"


def test_module_that_float32_cannot_hold_is_no_reference(tmp_path: Path) -> None:
    report = export_onnx(Source(Steep(1e5).eval(), Interface(8, (3, 4, 4))), tmp_path / "g.onnx")
    assert [check.name for check in report.failed] == ["reference rounding"]
    assert not (tmp_path / "g.onnx").exists()


def test_module_that_does_not_run_in_float64() -> None:
    reference = Reference(Source(Single(1.0).eval(), Interface(8, (3, 4, 4))))
    assert reference.rounding is None
    assert check_reference(reference, 1e-4)[-1].detail == "does not run in float64"
    assert reference.allow(1e-4) == 1e-4
