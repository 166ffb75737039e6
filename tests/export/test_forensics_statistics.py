"""The measures: moments, symmetric KL, what a BatchNorm remembers, and runs that share their first layers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from export import forensics_nets as nets
from gan_core.interface import Interface
from gan_core.latents import latents
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import BatchNorm, Conv, Reshape, Upsample
from gan_export.draft import Draft
from gan_export.forensics.runner import Runner, latent_moments
from gan_export.forensics.statistics import (
    MIN_SAMPLES,
    Moments,
    label_batch,
    latent_batch,
    median_misfit,
    moments,
    never_trained,
    remembered,
    rows_for,
    run_eval,
    steps,
    stored,
    symmetric_kl,
    witnesses,
)
from gan_export.understanding.units import batches_of
from gan_trainer.networks.generator import build

NORMED = GeneratorSpec(Interface(8, (1, 2, 4)), (BatchNorm(8), Reshape((1, 2, 4))))


def at(mean: float, var: float, channels: int = 1) -> Moments:
    return Moments(torch.full((channels,), mean), torch.full((channels,), var))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (at(0, 1), at(0, 1), 0.0),
        (at(3, 2), at(3, 2), 0.0),
        (at(1, 1), at(0, 1), 1.0),
        (at(0, 1), at(0, 1 / 3), 2 / 3),
        (at(0, 4), at(0, 1), 0.5 * (4 + 0.25) - 1),
        (at(2, 4), at(0, 1), 0.5 * (8 + 5 / 4) - 1),
    ],
)
def test_symmetric_kl_of_known_pairs(a: Moments, b: Moments, expected: float) -> None:
    assert symmetric_kl(a, b).item() == pytest.approx(expected, abs=1e-6)
    assert symmetric_kl(b, a).item() == pytest.approx(expected, abs=1e-6)


def test_symmetric_kl_is_the_sum_of_both_divergences() -> None:
    a, b = torch.distributions.Normal(0.3, 1.7), torch.distributions.Normal(-0.4, 0.6)
    both = torch.distributions.kl_divergence(a, b) + torch.distributions.kl_divergence(b, a)
    assert symmetric_kl(at(0.3, 1.7**2), at(-0.4, 0.6**2)).item() == pytest.approx(both.item(), rel=1e-5)


def test_symmetric_kl_does_not_change_with_scale_and_shift() -> None:
    there = symmetric_kl(at(1, 2), at(0, 1))
    assert symmetric_kl(at(10 * 1 + 5, 200), at(5, 100)).item() == pytest.approx(there.item(), rel=1e-5)


def test_a_dead_channel_is_finite_and_the_median_ignores_it() -> None:
    a = Moments(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 1.0, 0.0]))
    b = Moments(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 1.0, 5.0]))
    assert torch.isfinite(symmetric_kl(a, b)).all()
    assert median_misfit(a, b) == 0.0


def test_nan_counts_as_no_fit_at_all() -> None:
    assert median_misfit(at(math.nan, 1), at(0, 1)) == math.inf


@pytest.mark.parametrize("shape", [(50, 7), (9, 5, 6, 4), (2, 3, 1, 1), (30, 2, 40, 40)])
def test_moments_are_torchs(shape: tuple[int, ...]) -> None:
    x = 40 + 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    var, mean = torch.var_mean(x.double(), dim=[d for d in range(len(shape)) if d != 1], correction=1)
    seen = moments(x)
    torch.testing.assert_close(seen.mean, mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen.var, var, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kernel", "factor", "padding"), [(3, 2, 1), (5, 3, 0), (4, 2, 3)])
def test_upsampling_and_the_convolution_behind_it_run_as_one(kernel: int, factor: int, padding: int) -> None:
    layers = (Reshape((3, 4, 4)), Upsample(factor), Conv(3, 2, kernel, 1, padding))
    side = 4 * factor + 2 * padding - kernel + 1
    spec = GeneratorSpec(Interface(48, (2, side, side), value_range=(-1.0, 1.0)), layers)
    made = torch.Generator().manual_seed(2)
    weight, bias, z = (torch.randn(*n, generator=made) for n in ((2, 3, kernel, kernel), (2,), (5, 48)))
    draft = Draft(spec, ({}, {}, {"weight": weight, "bias": bias}))
    assert [i for i, *_ in steps(draft, 0, 3)] == [0, 2]
    apart = F.conv2d(F.interpolate(z.reshape(5, 3, 4, 4), scale_factor=float(factor)), weight, bias, padding=padding)
    torch.testing.assert_close(run_eval(draft, 0, 3, z, None), apart, rtol=1e-4, atol=1e-4)


def test_latents_are_the_seeds_own() -> None:
    batch = latent_batch(6, "uniform", 4, seed=30)
    assert batch.dtype == torch.float32
    assert (batch.numpy() == latents(range(30, 34), 6, "uniform")).all()


def test_labels_come_equally_often() -> None:
    labels = label_batch(3, 9)
    assert labels is not None
    assert torch.bincount(labels).tolist() == [3, 3, 3]
    assert label_batch(0, 9) is None


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((64,), 2048),
        ((512, 4, 4), 512),
        ((64, 32, 32), MIN_SAMPLES),
        ((64, 128, 128), MIN_SAMPLES),
        ((64, 256, 256), 32),
        ((64, 1024, 1024), 8),
    ],
)
def test_fewer_rows_for_larger_images(shape: tuple[int, ...], rows: int) -> None:
    assert rows_for(shape, 2048) == rows
    assert rows_for(shape, 8) == 8


def test_a_new_batch_norm_is_no_witness() -> None:
    spec = nets.mlp(nets.RELU, nets.RELU)
    draft = Draft(spec, spec.by_layer(nets.trained(spec, batches=5)))
    assert witnesses(draft) == (1, 4)
    draft.weights[1]["running_mean"] = torch.zeros(64)
    draft.weights[1]["running_var"] = torch.ones(64)
    assert never_trained(remembered(draft, 1))
    assert witnesses(draft) == (4,)


@pytest.mark.parametrize("batches", [1, 7, 40])
def test_what_running_statistics_began_with_is_taken_out(batches: int) -> None:
    norm = nn.BatchNorm1d(8)
    x = 3.0 + 0.1 * torch.randn(64, 8)
    for _ in range(batches):
        norm(x)
    expected, draft = moments(x), Draft(NORMED, (norm.state_dict(), {}))
    assert median_misfit(stored(draft, 0), expected) > 0.1
    found = remembered(replace(draft, batches=batches), 0)
    torch.testing.assert_close(found.mean.double(), expected.mean, rtol=1e-3, atol=0)
    torch.testing.assert_close(found.var.double(), expected.var, rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    ("counters", "batches"),
    [([7, 7], 7), ([7, 8], None), ([0], None), ([-3], None), ([[7, 7]], None), ([7j], None), ([7.0], 7), ([], None)],
)
def test_batches_are_what_all_counters_say(counters: list[Any], batches: int | None) -> None:
    tensors = {f"main.{i}.num_batches_tracked": torch.tensor(counter) for i, counter in enumerate(counters)}
    assert batches_of({"main.9.weight": torch.ones(2), **tensors}) == batches


def test_running_statistics_of_another_momentum_are_left_alone() -> None:
    norm = nn.BatchNorm1d(8, momentum=0.5)
    for _ in range(5):
        norm(0.1 * torch.randn(64, 8))
    draft = Draft(NORMED, (norm.state_dict(), {}), batches=5)
    torch.testing.assert_close(remembered(draft, 0).var, norm.running_var)


def test_a_path_that_is_shared_gives_what_a_fresh_one_gives() -> None:
    weights = nets.trained(nets.mlp(nets.RELU, nets.RELU), batches=3)
    runner = Runner(None, 0, 40, 0)
    for value in (nets.RELU, nets.leaky(0.2), nets.RELU, nets.IDENTITY):
        spec = nets.mlp(value, nets.RELU, eps=0.8)
        draft = Draft(spec, spec.by_layer(weights))
        with torch.inference_mode():
            torch.testing.assert_close(runner.run(draft, 4), Runner(None, 0, 40, 0).run(draft, 4), rtol=0, atol=0)


def test_a_run_is_what_the_module_does_in_train_mode() -> None:
    spec = nets.dcgan(nets.leaky(0.2), nets.RELU, n_classes=3)
    weights = nets.trained(spec, batches=3)
    module = build(spec).train()
    module.load_state_dict(weights, strict=False)
    seen: list[torch.Tensor] = []
    module.layers[6].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        module(latent_batch(12, "normal", 48, 5), label_batch(3, 48))
        arrived = Runner(None, 0, 48, 5).run(Draft(spec, spec.by_layer(weights)), 6)
    torch.testing.assert_close(arrived, seen[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("z", "mean", "var"), [(nets.normal, 0.0, 1.0), (nets.uniform, 0.0, 1 / 3), (nets.half_uniform, 0.5, 1 / 12)]
)
def test_mean_and_variance_of_the_latent_are_solved(z: nets.Sampler, mean: float, var: float) -> None:
    spec = nets.dcgan(nets.RELU, nets.RELU)
    with torch.inference_mode():
        solved = latent_moments(nets.blank(spec, nets.trained(spec, z)), 1024, 0)
    assert solved is not None
    assert solved[0] == pytest.approx(mean, abs=0.06)
    assert solved[1] == pytest.approx(var, rel=0.12)


def test_a_label_hides_the_moments_of_the_latent() -> None:
    spec = nets.dcgan(nets.RELU, nets.RELU, n_classes=3)
    assert latent_moments(nets.blank(spec, nets.trained(spec, batches=3)), 64, 0) is None
