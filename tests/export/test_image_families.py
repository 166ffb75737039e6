"""Files of known super-resolvers and image-to-image networks: what is read of the file alone is the network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.image_files import CASES, bare, compact, cycle, esrgan, old_statistics, restorer, u_net
from export.image_networks import CycleGan
from gan_core.errors import GanportError
from gan_core.golden import example_images
from gan_export.again import source_again
from gan_export.answers import Answers
from gan_export.asking import ask, candidates_of
from gan_export.draft import Evidence
from gan_export.exporting import export_onnx
from gan_export.families import super_resolution
from gan_export.families.registry import family_drafts
from gan_export.identify import Identified, identify, module_of, source_of
from gan_export.inspection import export_command
from gan_serve.runtime.onnx_generator import OnnxGenerator


def identified(saved: Mapping[str, Any], folder: Path) -> Identified:
    torch.save(dict(saved), folder / "file.pth")
    return identify(folder / "file.pth", Answers())


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_the_network(name: str, tmp_path: Path) -> None:
    build, save, family, settled = CASES[name]
    network = build()
    found = identified(save(network), tmp_path)
    draft = found.draft
    assert draft is not None
    assert draft.family == family
    assert (found.unanswered == ()) is settled
    taken = draft.spec.interface.input
    assert taken is not None
    height, width = draft.spec.interface.input_shape[1:] if taken.fixed else (16, 24)
    pixels = torch.from_numpy(example_images(range(2), height, width, taken.channels)).permute(0, 3, 1, 2)
    black, white = taken.value_range
    values = pixels.double() / 255 * (white - black) + black
    with torch.no_grad():
        made, expected = module_of(draft).double()(values), network.double()(values.clone())
    assert made.shape[2:] == (height * taken.scale, width * taken.scale)
    np.testing.assert_allclose(made.numpy(), expected.numpy(), atol=1e-6)
    assert expected.std() > 0.002


def test_the_statistics_of_batch_norms_are_a_question(tmp_path: Path) -> None:
    (choice,) = identified(bare(u_net(nn.BatchNorm2d)), tmp_path).unanswered
    assert (choice.field, choice.evidence) == ("norm", Evidence.WEAK)
    assert "test.py does with --eval" in choice.reason


@torch.no_grad()
def test_the_noise_of_gfpgan_can_be_left_out(tmp_path: Path) -> None:
    network = restorer()
    draft, image = identified(bare(network), tmp_path).draft, torch.rand(2, 3, 16, 16)
    assert draft is not None
    made: Tensor = module_of(draft)(image, noise=torch.zeros(1))
    torch.testing.assert_close(made, network(image, 0.0), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(made, module_of(draft)(image), atol=1e-2)


@pytest.mark.parametrize("build", [cycle, u_net])
@torch.no_grad()
def test_batch_norms_can_use_the_statistics_of_each_image(build: Callable[..., nn.Module], tmp_path: Path) -> None:
    """As in train mode, where an image is alone."""
    network, path = build(nn.BatchNorm2d), tmp_path / "file.pth"
    torch.save(bare(network), path)
    asked = identify(path, Answers())
    each, own = candidates_of(asked)
    assert (each.pixels != own.pixels).any()
    assert "--image-stats, as the code's test.py does" in ask(asked, tmp_path / "g.onnx").hint
    found = identify(path, Answers(image_stats=True))
    assert found.draft is not None
    assert found.unanswered == ()
    taken = found.draft.spec.interface.input
    assert taken is not None
    assert taken.halo is None
    images, module = torch.rand(3, taken.channels, 32, 32, dtype=torch.float64), module_of(found.draft).double()
    settled = network.double()(images.clone())
    network.train()
    expected = torch.cat([network(image[None].clone()) for image in images])
    torch.testing.assert_close(module(images), expected)
    kept = identify(path, Answers(image_stats=False))
    assert kept.unanswered == ()
    assert kept.draft is not None
    torch.testing.assert_close(module_of(kept.draft).double()(images), settled)
    assert "--image-stats" in export_command(found)
    assert "--no-image-stats" in export_command(kept)


def test_image_statistics_are_for_batch_norms_and_images(tmp_path: Path) -> None:
    torch.save(bare(cycle()), tmp_path / "file.pth")
    for said in (True, False):
        with pytest.raises(GanportError, match="it has no BatchNorm, and `image_stats` is for") as caught:
            identify(tmp_path / "file.pth", Answers(image_stats=said))
        assert caught.value.hint == "leave out `image_stats`"


@pytest.mark.slow
def test_an_export_with_the_statistics_of_each_image_is_compared_again(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save(bare(u_net(nn.BatchNorm2d)), path)
    report = export_onnx(source_of(identify(path, Answers(image_stats=True))), tmp_path / "g.onnx")
    assert report.ok, report.failed
    again = source_again(tmp_path / "g.onnx", path, None)
    assert again.spec is not None
    assert {layer.kind for layer in again.spec.layers} >= {"instance_norm"}


def test_old_statistics_are_named(tmp_path: Path) -> None:
    draft = identified(old_statistics(cycle()), tmp_path).draft
    assert draft is not None
    assert "running statistics of the instance norms are left out" in draft.notes[0]


def test_without_slopes_the_activation_is_a_question(tmp_path: Path) -> None:
    network = compact(2)
    tensors = {key: tensor for key, tensor in network.state_dict().items() if tensor.ndim > 1 or "bias" in key}
    open_choices = identified(tensors, tmp_path).unanswered
    assert {choice.field for choice in open_choices} == {"activation"}


@pytest.mark.slow
def test_the_deepest_that_are_published_fit_into_the_budget() -> None:
    numbers = super_resolution.Rrdb("body", 3, 64, 32, 23)
    network = super_resolution.EsrGan().network(numbers)
    parameters = sum(np.prod(shape) for shape in network.shapes.values())
    assert parameters == 16_697_987
    assert network.interface.input is not None
    assert network.interface.input.halo == 23 * 15 + 2 + 3
    tensors = {key: torch.zeros(()).expand(shape) for key, shape in network.shapes.items()}
    (draft,) = family_drafts(tensors)
    assert draft.structure_said == "351 times conv k3 s1 p1 → 3x128x128"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "u-net, instance norm",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("real-esrgan x2", "cyclegan", "gfpgan")),
    ],
)
def test_it_is_proved_from_the_file_alone(name: str, tmp_path: Path) -> None:
    build, save, _, _ = CASES[name]
    source = source_of(identified(save(build()), tmp_path))
    report = export_onnx(source, tmp_path / "g.onnx")
    assert report.ok, report.failed
    with OnnxGenerator(tmp_path / "g.onnx", "cpu") as generator:
        assert generator.contract.source["family"] == CASES[name][2]
        if generator.contract.interface.noise:
            photo = example_images(range(1), 16, 16, 3)[0]
            silent = np.asarray(generator.with_options(noise=0).transform(photo))
            assert (silent != np.asarray(generator.transform(photo))).mean() > 0.5


def test_label_maps_are_refused_at_once(tmp_path: Path) -> None:
    network = CycleGan(36, 3, 2, 1, nn.InstanceNorm2d)
    with pytest.raises(GanportError, match=r"takes 36 channels and makes 3, expected images of 1 or 3 or 4") as error:
        identified(bare(network), tmp_path)
    assert "label maps" in error.value.hint


def test_a_near_miss_is_named(tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = esrgan().state_dict()
    del tensors["conv_hr.bias"]
    with pytest.raises(GanportError, match=r"image-to-image|super-resolver") as error:
        identified(tensors, tmp_path)
    assert "71 of 72 tensors as in xinntao/ESRGAN" in error.value.hint
    assert "conv_hr.bias is missing" in error.value.hint


@pytest.mark.slow
def test_no_end_of_blocks_is_no_end_of_work() -> None:
    """A file of tens of thousands of blocks is refused without building them."""
    tensors: dict[str, Tensor] = esrgan().state_dict()
    one = torch.zeros(3, 6, 3, 3)
    tensors |= {f"body.{block}.rdb1.conv1.weight": one for block in range(2, 20_000)}
    started = time.monotonic()
    assert family_drafts(tensors) == []
    assert time.monotonic() - started < 20
