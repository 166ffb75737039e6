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

from export import face_networks
from export import image_networks as own
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

Saved = dict[str, Any]


def bare(network: nn.Module) -> Saved:
    return network.state_dict()


def averaged(network: nn.Module) -> Saved:
    tensors = network.state_dict()
    return {"params_ema": tensors, "params": {key: torch.zeros_like(tensor) for key, tensor in tensors.items()}}


def parallel(network: nn.Module) -> Saved:
    return {f"module.{key}": tensor for key, tensor in network.state_dict().items()}


def old_statistics(network: nn.Module) -> Saved:
    """With what instance norms kept before PyTorch 0.4."""
    kept = {name: part for name, part in network.named_modules() if isinstance(part, nn.InstanceNorm2d)}
    more = {
        f"{name}.running_{what}": torch.ones(part.num_features)
        for name, part in kept.items()
        for what in ("mean", "var")
    }
    return {**network.state_dict(), **more}


def esrgan(scale: int = 4, *, old: bool = False) -> nn.Module:
    network = own.EsrGan(6, 3, 2, scale, old=old)
    return own.settled(network, last=network.conv_last)


def compact(scale: int) -> nn.Module:
    network = own.Compact(6, 2, scale)
    return own.settled(network, last=network.body[-1])


def msr(scale: int) -> nn.Module:
    return own.settled(own.MsrResNet(4, 2, scale))


def cycle(norm: type[nn.Module] = nn.InstanceNorm2d, makes: int = 1, **options: Any) -> nn.Module:
    network = own.CycleGan(3, makes, 4, 2, norm, **options)
    filters = {name: buffer.clone() for name, buffer in network.named_buffers() if "filt" in name}
    own.settled(network)
    network.load_state_dict(filters, strict=False)
    return network


def u_net(norm: type[nn.Module]) -> nn.Module:
    return own.settled(own.UNet(3, 3, (3, 4, 5, 6, 6), norm))


def restorer(*, half: bool = True) -> nn.Module:
    network = own.settled(face_networks.Restorer((3, 2, 4), half=half))
    for name, parameter in network.named_parameters():
        if "to_rgb" in name and "modulation" not in name:
            parameter.data /= 8
    return network


def level_u_net(norm: type[nn.Module], *, bias: bool = False) -> nn.Module:
    return own.settled(own.LevelUNet(3, 1, (3, 4, 5, 6), norm, bias=bias))


def shuffling_esrgan() -> nn.Module:
    network = own.EsrGan(3, 3, 2, shuffles=True)
    return own.Normalised(own.settled(network, last=network.conv_last)).eval()


def normalising_srgan() -> nn.Module:
    return own.Normalised(own.settled(own.SrGan(4, 2, normed=True))).eval()


def called(*names: str) -> Callable[[nn.Module], Saved]:
    """Saved with other names of the modules."""

    def save(network: nn.Module) -> Saved:
        tensors = network.get_submodule("inner" if isinstance(network, own.Normalised) else "").state_dict()
        return own.renamed(tensors, names)

    return save


ESRGAN = ("dense_blocks.{}.b{}.0", 1), ("rrdb.{}.blocks.{}.cnn", 0)
"""A convolution of PyTorch-GAN's and of aladdinpersson's dense blocks, and the number of the first."""
PG_DENSE, AL_DENSE = ([part.format(n, first + m) for n in range(3) for m in range(5)] for part, first in ESRGAN)
PG_SRGAN = called(
    "conv1.0", "conv1.1", *(f"res_blocks.{b}.conv_block.{n}" for b in range(5) for n in range(5)),
    "conv2.0", "conv2.1", *(f"upsampling.{n}" for n in (0, 1, 3, 4, 5, 7)), "conv3.0",
)  # fmt: skip
AL_SRGAN = called(
    "initial.cnn", "initial.act",
    *(f"residuals.{b}.block{n}" for b in range(5) for n in ("1.cnn", "1.bn", "1.act", "2.cnn", "2.bn")),
    "convblock.cnn", "convblock.bn", *(f"upsamples.{n}.{part}" for n in range(2) for part in ("conv", "act")), "final",
)  # fmt: skip
AL_CYCLE = called(
    "initial.0", "down_blocks.0.conv.0", "down_blocks.1.conv.0",
    *(f"res_blocks.{b}.block.{n}.conv.0" for b in range(2) for n in range(2)),
    "up_blocks.0.conv.0", "up_blocks.1.conv.0", "last",
)  # fmt: skip
PG_UNET = called(*(f"down{n}.model.0" for n in (1, 2, 3, 4)), *(f"up{n}.model.0" for n in (1, 2, 3)), "final.2")
AL_UNET = called(
    "initial_down.0", *(f"down{n}.conv.{part}" for n in (1, 2) for part in (0, 1)), "bottleneck.0",
    *(f"up{n}.conv.{part}" for n in (1, 2, 3) for part in (0, 1)), "final_up.0",
)  # fmt: skip


def with_unused(network: nn.Module) -> Saved:
    unused = ["convblock.act.weight", *(f"residuals.{b}.block2.act.weight" for b in range(5))]
    return AL_SRGAN(network) | {key: torch.ones(4) for key in unused}


def as_block(network: nn.Module) -> Saved:
    return {key.replace("conv_block", "block"): tensor for key, tensor in network.state_dict().items()}


Case = tuple[Callable[[], nn.Module], Callable[[nn.Module], Saved], str, bool]
CASES: dict[str, Case] = {
    "esrgan, oldest": (lambda: esrgan(old=True), lambda n: own.oldest(n.state_dict(), 2), "esrgan", True),
    "esrgan, old": (lambda: esrgan(old=True), bare, "esrgan", True),
    "real-esrgan x4": (esrgan, averaged, "esrgan", True),
    "real-esrgan x2": (lambda: esrgan(2), averaged, "esrgan", True),
    "esrgan x1": (lambda: esrgan(1), parallel, "esrgan", True),
    "srvgg x4": (lambda: compact(4), lambda n: {"params": n.state_dict()}, "srvgg", True),
    "srvgg x2": (lambda: compact(2), bare, "srvgg", True),
    "msrresnet x2": (lambda: msr(2), bare, "msrresnet", True),
    "msrresnet x3": (lambda: msr(3), bare, "msrresnet", True),
    "msrresnet x4": (lambda: msr(4), bare, "msrresnet", True),
    "srgan": (lambda: own.settled(own.SrGan(4, 2)), bare, "leftthomas-srgan", True),
    "cyclegan": (cycle, bare, "cyclegan-resnet", True),
    "cyclegan, dropout": (lambda: cycle(dropout=True), parallel, "cyclegan-resnet", True),
    "cyclegan, old statistics": (cycle, old_statistics, "cyclegan-resnet", True),
    "cyclegan, BatchNorm": (lambda: cycle(nn.BatchNorm2d), bare, "cyclegan-resnet", False),
    "pix2pix": (lambda: u_net(nn.BatchNorm2d), bare, "pix2pix-unet", False),
    "u-net, instance norm": (lambda: u_net(nn.InstanceNorm2d), bare, "pix2pix-unet", True),
    "cyclegan, no norms": (lambda: cycle(nn.Identity), bare, "cyclegan-resnet", True),
    "pix2pixHD": (lambda: cycle(downs=3), bare, "cyclegan-resnet", True),
    "cut": (lambda: cycle(blurs=True), bare, "cyclegan-resnet", True),
    "cyclegan, PyTorch-GAN": (lambda: cycle(makes=3, nearest=True), as_block, "pytorch-gan-cyclegan", True),
    "cyclegan, aladdinpersson": (lambda: cycle(borders="reflect"), AL_CYCLE, "aladdin-cyclegan", True),
    "animegan": (lambda: own.settled(own.AnimeGan(3, 3)), bare, "animegan2", True),
    "pix2pix, PyTorch-GAN": (lambda: level_u_net(nn.InstanceNorm2d), PG_UNET, "pytorch-gan-unet", True),
    "discogan, PyTorch-GAN": (lambda: level_u_net(nn.InstanceNorm2d, bias=True), PG_UNET, "pytorch-gan-unet", True),
    "pix2pix, aladdinpersson": (lambda: level_u_net(nn.BatchNorm2d), AL_UNET, "aladdin-unet", True),
    "srgan, PyTorch-GAN": (normalising_srgan, PG_SRGAN, "pytorch-gan-srgan", True),
    "srgan, aladdinpersson": (lambda: own.settled(own.SrGan(4, 2, each=True)), with_unused, "aladdin-srgan", True),
    "esrgan, PyTorch-GAN": (
        shuffling_esrgan,
        called(
            "conv1", *(f"res_blocks.{b}.{name}" for b in range(2) for name in PG_DENSE),
            "conv2", "upsampling.0", "upsampling.3", "conv3.0", "conv3.2",
        ),
        "esrgan",
        True,
    ),
    "esrgan, aladdinpersson": (
        esrgan,
        called(
            "initial", *(f"residuals.{b}.{name}" for b in range(2) for name in AL_DENSE),
            "conv", "upsamples.0.conv", "upsamples.1.conv", "final.0", "final.2",
        ),
        "esrgan",
        True,
    ),
    "gfpgan": (restorer, averaged, "gfpgan-clean", True),
    "gfpgan, all features": (lambda: restorer(half=False), parallel, "gfpgan-clean", True),
}  # fmt: skip


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
    network = own.CycleGan(36, 3, 2, 1, nn.InstanceNorm2d)
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
