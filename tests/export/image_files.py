"""Files of super-resolvers and image-to-image networks, as people save them: each with the family that reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from export import face_networks, image_networks
from export import upscale_networks as upscale

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
    network = upscale.EsrGan(6, 3, 2, scale, old=old)
    return image_networks.settled(network, last=network.conv_last)


def compact(scale: int) -> nn.Module:
    network = upscale.Compact(6, 2, scale)
    return image_networks.settled(network, last=network.body[-1])


def msr(scale: int) -> nn.Module:
    return image_networks.settled(upscale.MsrResNet(4, 2, scale))


def cycle(norm: type[nn.Module] = nn.InstanceNorm2d, makes: int = 1, **options: Any) -> nn.Module:
    network = image_networks.CycleGan(3, makes, 4, 2, norm, **options)
    filters = {name: buffer.clone() for name, buffer in network.named_buffers() if "filt" in name}
    image_networks.settled(network)
    network.load_state_dict(filters, strict=False)
    return network


def u_net(norm: type[nn.Module]) -> nn.Module:
    return image_networks.settled(image_networks.UNet(3, 3, (3, 4, 5, 6, 6), norm))


def restorer(*, half: bool = True) -> nn.Module:
    network = image_networks.settled(face_networks.Restorer((3, 2, 4), half=half))
    for name, parameter in network.named_parameters():
        if "to_rgb" in name and "modulation" not in name:
            parameter.data /= 8
    return network


def level_u_net(norm: type[nn.Module], *, bias: bool = False) -> nn.Module:
    return image_networks.settled(image_networks.LevelUNet(3, 1, (3, 4, 5, 6), norm, bias=bias))


def shuffling_esrgan() -> nn.Module:
    network = upscale.EsrGan(3, 3, 2, shuffles=True)
    return image_networks.Normalised(image_networks.settled(network, last=network.conv_last)).eval()


def normalising_srgan() -> nn.Module:
    return image_networks.Normalised(image_networks.settled(upscale.SrGan(4, 2, normed=True))).eval()


def separate_srgan() -> nn.Module:
    return image_networks.settled(upscale.SrGan(4, 2, each=True))


def called(*names: str) -> Callable[[nn.Module], Saved]:
    """Saved with other names of the modules."""

    def save(network: nn.Module) -> Saved:
        tensors = network.get_submodule("inner" if isinstance(network, image_networks.Normalised) else "").state_dict()
        return image_networks.renamed(tensors, names)

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
    "esrgan, oldest": (lambda: esrgan(old=True), lambda n: upscale.oldest(n.state_dict(), 2), "esrgan", True),
    "esrgan, old": (lambda: esrgan(old=True), bare, "esrgan", True),
    "real-esrgan x4": (esrgan, averaged, "esrgan", True),
    "real-esrgan x2": (lambda: esrgan(2), averaged, "esrgan", True),
    "esrgan x1": (lambda: esrgan(1), parallel, "esrgan", True),
    "srvgg x4": (lambda: compact(4), lambda n: {"params": n.state_dict()}, "srvgg", True),
    "srvgg x2": (lambda: compact(2), bare, "srvgg", True),
    "msrresnet x2": (lambda: msr(2), bare, "msrresnet", True),
    "msrresnet x3": (lambda: msr(3), bare, "msrresnet", True),
    "msrresnet x4": (lambda: msr(4), bare, "msrresnet", True),
    "srgan": (lambda: image_networks.settled(upscale.SrGan(4, 2)), bare, "leftthomas-srgan", True),
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
    "animegan": (lambda: image_networks.settled(image_networks.AnimeGan(3, 3)), bare, "animegan2", True),
    "pix2pix, PyTorch-GAN": (lambda: level_u_net(nn.InstanceNorm2d), PG_UNET, "pytorch-gan-unet", True),
    "discogan, PyTorch-GAN": (lambda: level_u_net(nn.InstanceNorm2d, bias=True), PG_UNET, "pytorch-gan-unet", True),
    "pix2pix, aladdinpersson": (lambda: level_u_net(nn.BatchNorm2d), AL_UNET, "aladdin-unet", True),
    "srgan, PyTorch-GAN": (normalising_srgan, PG_SRGAN, "pytorch-gan-srgan", True),
    "srgan, aladdinpersson": (separate_srgan, with_unused, "aladdin-srgan", True),
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
