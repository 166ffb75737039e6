"""Upscalers: what they are trained on, what is left out, how near they come, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_core.errors import GanportError
from gan_trainer.batches import Batches, normalise
from gan_trainer.config import Limit, TrainRequest, left_out
from gan_trainer.data import check_large_enough
from gan_trainer.evaluation.generators import ModuleGenerator
from gan_trainer.networks.architectures import upscaler_spec
from gan_trainer.networks.generator import build, load_generator
from gan_trainer.presets import preset
from gan_trainer.upscaling import bicubic, check_alike, measure, psnr_db, reduced, reduced_pixels, side_by_side
from trainer.conftest import CPU, StartRun, blobs
from trainer.data_files import fill, picture, save

TINY = {"size": 28, "channels": 3, "width": 4, "batch_size": 8, "report_every": 5, "sample_every": 10}


@pytest.mark.parametrize("scale", [2, 4])
def test_the_network_enlarges_images_of_any_size(scale: int) -> None:
    module = build(upscaler_spec(64, 3, width=5, scale=scale))
    assert module(torch.zeros(2, 3, 7, 9)).shape == (2, 3, 7 * scale, 9 * scale)
    taken = module.spec.interface.input
    assert taken is not None
    assert taken.halo is not None
    assert 7 <= taken.halo <= 9  # seven convolutions of 3x3, and the neighbours of the enlargement


def test_reduced_images_are_those_of_a_file() -> None:
    pixels_NHWC = blobs(3, 28, 3)
    of_floats = reduced(normalise(torch.tensor(pixels_NHWC)), 2)
    np.testing.assert_array_equal(
        ((of_floats + 1) * 127.5).round().permute(0, 2, 3, 1).numpy(), reduced_pixels(pixels_NHWC, 2)
    )


def test_a_tenth_is_left_out_whatever_the_seed() -> None:
    assert len(left_out(2)) == 1
    assert len(left_out(100)) == 10
    assert len(left_out(10**6)) == 256
    assert len(set(left_out(100).tolist())) == 10
    batches = Batches(blobs(20, 28, 1), 4, seed=3, device=CPU, left_out=left_out(20))
    seen = torch.cat([batches.indices(step) for step in range(batches.per_epoch)]).tolist()
    assert sorted([*seen, *left_out(20).tolist()]) == list(range(20))
    with pytest.raises(GanportError, match="of which 1 are left out"):
        Batches(blobs(2, 28, 1), 4, seed=3, device=CPU, left_out=left_out(2))


def test_psnr_is_that_of_its_definition() -> None:
    assert psnr_db(255**2) == 0
    assert psnr_db(1) == pytest.approx(48.13, abs=0.01)
    assert psnr_db(0) == pytest.approx(120)
    originals = blobs(40, 28, 3)
    found = measure(bicubic(2), originals, 2)
    assert found.images == 40
    assert found.psnr_db == found.bicubic_psnr_db
    difference = bicubic(2)(reduced_pixels(originals, 2)).astype(float) - originals
    assert found.psnr_db == pytest.approx(psnr_db(float((difference**2).mean())))
    assert measure(lambda low: np.zeros_like(bicubic(2)(low)), originals, 2).psnr_db < found.psnr_db


def test_a_sample_shows_reduced_bicubic_upscaled_and_original() -> None:
    originals = blobs(2, 28, 1)
    made = side_by_side(lambda low: np.full((len(low), 28, 28, 1), 9, np.uint8), originals, 2)
    assert made.shape == (8, 28, 28, 1)
    np.testing.assert_array_equal(made[4, ::2, ::2], reduced_pixels(originals, 2)[1])
    assert (made[[2, 6]] == 9).all()
    np.testing.assert_array_equal(made[[3, 7]], originals)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["upscale", "upscale-gan"])
def test_an_upscaler_is_trained_measured_and_resumed(start_run: StartRun, name: str) -> None:
    pixels = blobs(40, 28, 3)
    training = start_run(preset(name), Limit("steps", 20), "whole", pixels, **TINY)
    training.run()
    line = training.run_dir.read_log()[-1]
    assert {"psnr_db", "bicubic_psnr_db"} < set(line)
    assert ("loss_d" in line) == (name == "upscale-gan")
    assert training.state.watch.noticed == []
    checkpoint = load_generator(training.run_dir.generator)
    assert checkpoint.spec == upscaler_spec(28, 3, width=4, scale=2)
    assert json.loads(training.run_dir.config.read_text())["recipe"]["scale"] == 2

    start_run(preset(name), Limit("steps", 7), "parts", pixels, **TINY).run()
    resumed = start_run(preset(name), Limit("steps", 20), "parts", pixels, **TINY)
    resumed.run()
    for key, tensor in load_generator(resumed.run_dir.generator).weights.items():
        torch.testing.assert_close(tensor, checkpoint.weights[key], rtol=0, atol=0)


@pytest.mark.slow
def test_training_comes_nearer_than_bicubic_interpolation(start_run: StartRun) -> None:
    recipe = dataclasses.replace(preset("upscale"), ema_beta=0.9, lr_g=6e-3)
    changes = TINY | {"channels": 1, "width": 8, "sample_every": 100, "report_every": 100}
    training = start_run(recipe, Limit("steps", 200), "near", blobs(200, 28, 1), **changes)
    training.run()
    line = training.run_dir.read_log()[-1]
    assert line["psnr_db"] > line["bicubic_psnr_db"] + 0.5


def test_eval_runs_upscalers_on_pixels() -> None:
    spec = upscaler_spec(28, 3, width=4, scale=2)
    generator = ModuleGenerator(build(spec))
    low = reduced_pixels(blobs(2, 28, 3), 2)
    image, pixels = generator.run(low)
    assert image.shape == (2, 3, 28, 28)
    with torch.no_grad():
        expected = generator.module(normalise(torch.tensor(low))).numpy()
    np.testing.assert_allclose(image, expected, atol=1e-6)
    assert pixels.dtype == np.uint8
    other = ModuleGenerator(build(upscaler_spec(28, 3, width=4, scale=4)))
    assert check_alike([Path("a.pt")], [generator]) == [generator]
    with pytest.raises(GanportError, match="another kind of upscaler"):
        check_alike([Path("a.pt"), Path("b.pt")], [generator, other])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"task": "enlarge"}, "no task is called"),
        ({"task": "upscale", "preset": "r3gan"}, "presets that do: upscale, upscale-gan"),
        ({"task": "generate", "preset": "upscale"}, "does not generate"),
        ({"scale": 2}, "does not go with"),
        ({"task": "upscale", "scale": 3}, "must be 2 or 4"),
        ({"task": "upscale", "scale": 1}, "does not go with"),
        ({"task": "upscale", "arch": "dcgan"}, "does not go with"),
        ({"arch": "espcn"}, "does not go with"),
        ({"task": "upscale", "conditional": True}, "takes no classes"),
        ({"task": "upscale", "z_dim": 5}, "no latent"),
        ({"task": "upscale", "augment": "flip"}, "which this recipe does not train"),
        ({"task": "upscale", "n_critic": 2}, "which this recipe does not train"),
        ({"task": "upscale", "penalty_weight": 2.0}, "penalty"),
        ({"task": "upscale", "size": 30}, "no network for size 30"),
    ],
)
def test_wrong_settings_are_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(GanportError) as caught:
        TrainRequest.of(asked).recipe(3)  # type: ignore[arg-type]
    assert said in f"{caught.value} {caught.value.hint}"


def test_small_images_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.jpg")  # 40x30
    check_large_enough(str(tmp_path), 28)
    save(tmp_path, "c/small.png", picture(28, 20))
    with pytest.raises(GanportError, match=r"1 of 3 images .* smaller than 28x28, such as c/small.png 28x20"):
        check_large_enough(str(tmp_path), 28)
    with pytest.raises(GanportError, match="digits are smaller than 64x64"):
        check_large_enough("digits", 64)
