"""The named recipes: five tutorials, as closely as docs/training.md says, `default`, our own, and two papers' losses on
its networks.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from gan_core.errors import GanportError
from gan_trainer.recipes import Recipe

GAN_BASIC = Recipe(
    name="gan-basic",
    init="torch",
    order="g_first",
    d_loss="mean",
    epochs=50,
    grid="save_image",
)

MLP_MNIST = Recipe(
    name="mlp-mnist",
    arch="mlp",
    size=28,
    channels=1,
    init="torch",
    order="g_first",
    d_loss="mean",
    epochs=200,
    report_every=400,
    print_every=1,
    sample_every=400,
    n_fixed=25,
    cols=5,
)

DCGAN64 = Recipe(
    name="dcgan64",
    size=64,
    channels=3,
    batch_size=128,
    epochs=5,
    report_every=250,
    print_every=50,
    sample_every=500,
)

DCGAN64_FACADES = dataclasses.replace(
    DCGAN64, name="dcgan64-facades", epochs=100, report_every=50, print_every=0, sample_every=50
)

DCGAN96 = Recipe(
    name="dcgan96",
    size=96,
    channels=3,
    lr_g=1e-4,
    lr_d=1e-4,
    batch_size=100,
    epochs=25,
    checkpoint_every_epoch=True,
)

DEFAULT = Recipe(
    name="default",
    width=32,
    d_norm="spectral",
    loss="hinge",
    d_loss="joined",
    lr_g=4e-4,
    lr_d=8e-4,
    betas=(0.0, 0.999),
    steps=3000,
    ema_beta=0.999,
    sample_every=250,
)

RESNET = dataclasses.replace(DEFAULT, name="resnet", arch="resnet")

WGAN_GP = Recipe(
    name="wgan-gp",
    width=32,
    init="he",
    d_norm="none",
    loss="wasserstein",
    penalty="gp",
    penalty_weight=10.0,
    n_critic=5,
    d_loss="joined",
    lr_g=1e-4,
    lr_d=1e-4,
    betas=(0.0, 0.9),
    steps=15000,
    ema_beta=0.999,
    report_every=500,
    sample_every=1250,
)

R3GAN = Recipe(
    name="r3gan",
    width=32,
    init="he",
    d_norm="none",
    loss="relativistic",
    penalty="r1r2",
    penalty_weight=1.0,
    d_loss="joined",
    betas=(0.0, 0.99),
    steps=3000,
    ema_beta=0.999,
    sample_every=250,
)

UPSCALE = Recipe(
    name="upscale",
    arch="espcn",
    scale=2,
    adversarial=0.0,
    width=32,
    z_dim=1,
    init="torch",
    d_norm="spectral",
    loss="hinge",
    d_loss="joined",
    lr_g=2e-3,
    lr_d=4e-4,
    betas=(0.9, 0.99),
    batch_size=32,
    steps=3000,
    ema_beta=0.999,
    sample_every=250,
)

UPSCALE_GAN = dataclasses.replace(UPSCALE, name="upscale-gan", adversarial=0.002)

PRESETS: dict[str, tuple[Recipe, str]] = {
    "default": (DEFAULT, "DCGAN, spectral norm in D, hinge loss, averaged weights"),
    "resnet": (RESNET, "the same with residual networks, for 256 and 512 pixels"),
    "wgan-gp": (WGAN_GP, "Wasserstein, gradient penalty, 5 steps of D for 1 of G"),
    "r3gan": (R3GAN, "relativistic loss, penalties on reals and fakes"),
    "upscale": (UPSCALE, "enlarges images: L1 loss"),
    "upscale-gan": (UPSCALE_GAN, "the same with an adversarial loss: sharper, less exact"),
    "gan-basic": (GAN_BASIC, "the basic loop: G, then D on the mean loss"),
    "mlp-mnist": (MLP_MNIST, "fully connected GAN, for MNIST"),
    "dcgan64": (DCGAN64, "PyTorch's DCGAN tutorial, for CelebA"),
    "dcgan64-facades": (DCGAN64_FACADES, "the same for building facades"),
    "dcgan96": (DCGAN96, "for anime faces, keeps every epoch"),
}


TUTORIALS = ("gan-basic", "mlp-mnist", "dcgan64", "dcgan64-facades", "dcgan96")
"""Presets that are somebody's tutorial: what nobody asked for changes none of their numbers."""


RGB: dict[str, dict[str, Any]] = {
    "default": {"augment": "translation", "arch": "resize"},
    "resnet": {"augment": "translation"},
    "r3gan": {"penalty_weight": 10.0},
}
"""What these presets do otherwise with RGB images: the tables of benchmarks/results/README.md show it best there."""


def preset(name: str, channels: int | None = None) -> Recipe:
    """The preset called `name`, for images of `channels` where that is known.

    Raises `GanportError` with the nearest name when there is none.
    """
    if name in PRESETS:
        return dataclasses.replace(PRESETS[name][0], **RGB.get(name, {}) if channels == 3 else {})
    near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise GanportError(f"unknown preset {name!r}", hint=f"{hint}presets: {', '.join(PRESETS)}")
