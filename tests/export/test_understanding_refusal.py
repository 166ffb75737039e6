"""What is no generator, or no chain, is refused in one precise line."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from export.foreign_networks import sequential
from gan_core.errors import GanportError
from gan_export.understanding.understand import draft_candidates


def named(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


def state(*layers: nn.Module) -> dict[str, Tensor]:
    return dict(sequential(*layers).state_dict())


def dcgan_discriminator() -> dict[str, Tensor]:
    return state(
        nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2),
        nn.Conv2d(8, 1, 4),
    )  # fmt: skip


def resnet_classifier() -> dict[str, Tensor]:
    return named(
        conv1__weight=(8, 3, 7, 7), layer1__0__conv1__weight=(8, 8, 3, 3),
        layer1__0__downsample__0__weight=(8, 8, 1, 1), fc__weight=(1000, 8), fc__bias=(1000,),
    )  # fmt: skip


def residual_generator() -> dict[str, Tensor]:
    return named(
        l1__weight=(64, 8), l1__bias=(64,), block2__c1__weight=(4, 4, 3, 3), block2__c1__bias=(4,),
        block2__c2__weight=(8, 4, 3, 3), block2__c2__bias=(8,), block2__c_sc__weight=(8, 4, 1, 1),
        block2__c_sc__bias=(8,), c5__weight=(3, 8, 3, 3),
    )  # fmt: skip


def stylegan() -> dict[str, Tensor]:
    return named(
        style__1__weight=(16, 16), style__1__bias=(16,), input__input=(1, 16, 4, 4),
        conv1__conv__weight=(1, 16, 16, 3, 3),
        conv1__conv__modulation__weight=(16, 16), conv1__conv__modulation__bias=(16,), noises__noise_0=(1, 1, 4, 4),
    )  # fmt: skip


def sagan() -> dict[str, Tensor]:
    return named(
        l1__0__weight=(8, 16, 4, 4), attn1__gamma=(1,), attn1__query_conv__weight=(2, 16, 1, 1),
        attn1__key_conv__weight=(2, 16, 1, 1), last__weight=(16, 3, 4, 4),
    )  # fmt: skip


def unet() -> dict[str, Tensor]:
    return state(nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())


def mlp(*widths: int) -> dict[str, Tensor]:
    return state(*(nn.Linear(a, b) for a, b in itertools.pairwise(widths)))


TABLE: dict[str, tuple[Callable[[], dict[str, Tensor]], str]] = {
    "nothing": (dict, "it holds no weights of a layer; expected"),
    "norms only": (
        lambda: state(nn.BatchNorm2d(4), nn.BatchNorm2d(4)),
        r"no weights of a layer, only \S+weight, \S+bias, \S+mean, \S+var …; expected",
    ),
    "discriminator": (dcgan_discriminator, "like a discriminator, .* of 3-channel images .* ends in 1 number"),
    "discriminator, sigmoid of a linear": (
        lambda: state(nn.Conv2d(1, 8, 3, 2, 1), nn.Flatten(), nn.Linear(128, 1)),
        "like a discriminator, .* of 1-channel images .* ends in 1 number",
    ),
    "mlp discriminator": (lambda: mlp(784, 64, 1), "like a discriminator, .* begins with 784 pixels"),
    "conditional mlp discriminator": (
        lambda: mlp(794, 64, 1), r"like a discriminator, .* ends in 1 number \(main.1.weight\)"
    ),
    "mlp classifier": (lambda: mlp(784, 64, 10), "like a classifier, .* ends in 10 numbers"),
    "resnet": (resnet_classifier, "like a classifier, .* ends in 1,000 numbers"),
    "image to image": (unet, "like an image-to-image network, .* ends in 3-channel images"),
    "autoencoder of vectors": (lambda: mlp(784, 16, 784), "like an image-to-image network, .* ends in 784 pixels"),
    "autoencoder of images": (
        lambda: named(encoder__0__weight=(8, 3, 4, 4), decoder__0__weight=(8, 3, 4, 4)),
        "like an image-to-image network, .*encoder.0.weight",
    ),
    "stylegan": (stylegan, "no plain sequence of layers but a StyleGAN-like network: it has style.1.weight"),
    "conditional norms": (
        lambda: named(fc__weight=(64, 8), b__cbn__gain__weight=(3, 4), to_rgb__weight=(3, 4, 3, 3), x__weight=(9, 5)),
        "a network with conditional norms: it has b.cbn.gain.weight",
    ),
    "attention": (sagan, "a network with attention: it has attn1.gamma, attn1.query_conv.weight"),
    "residual": (residual_generator, "a residual network: it has block2.c_sc.weight, block2.c_sc.bias"),
    "recurrent": (
        lambda: named(net__weight_ih_l0=(16, 4), net__weight_hh_l0=(16, 4), out__weight=(784, 4)), "a recurrent network"
    ),
    "three dimensions": (
        lambda: named(net__0__weight=(8, 4, 4, 4, 4), net__1__weight=(8, 3, 4, 4)),
        "net.0 is no layer that a spec knows",
    ),
    "volumes behind a linear": (
        lambda: state(nn.Linear(4, 64), nn.ConvTranspose3d(8, 1, 4)),
        r"volumes or videos, .* three dimensions \(main.1.weight\)",
    ),
    "sequences": (
        lambda: state(nn.ConvTranspose1d(9, 8, 4), nn.BatchNorm1d(8), nn.ConvTranspose1d(8, 1, 4)),
        "signals, .* convolutions of one dimension",
    ),
    "rows of a table": (
        lambda: state(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Linear(32, 37)),
        "rows of a table, .* takes 64 and ends in 37",
    ),
    "an orthogonal map": (
        lambda: state(nn.Linear(4, 8), parametrizations.orthogonal(nn.Linear(8, 784))),
        "main.1.weight is made of main.1.parametrizations.weight.original by .*: an orthogonal map",
    ),
    "a map of the author's": (
        lambda: state(nn.Linear(4, 8), parametrize.register_parametrization(nn.Linear(8, 784), "weight", nn.Tanh())),
        "main.1.weight is made of main.1.parametrizations.weight.original by .* a function of the author's",
    ),
    "equalised rates": (
        lambda: named(a__weight_orig=(8, 4), a__bias=(8,), b__weight_orig=(784, 8)),
        "a.weight is made of a.weight_orig by code that no file holds: an equalised learning rate",
    ),
    "oblong kernel": (
        lambda: named(net__0__weight=(9, 8, 4, 3), net__1__weight=(8, 3, 4, 4)), r"net.0 is no layer .* \[9, 8, 4, 3\]"
    ),
    "a statistic missing": (
        lambda: {k: v for k, v in state(nn.Conv2d(9, 8, 3), nn.BatchNorm2d(8)).items() if "running_mean" not in k},
        "main.1.running_mean is missing, the rest of main.1 is there",
    ),
    "a weight missing": (
        lambda: named(net__0__weight=(9, 8, 4, 4), net__1__bias=(3,)), "net.1.weight is missing, the rest of net.1"
    ),
    "a root parameter": (lambda: named(const=(1, 8, 4, 4), net__1__weight=(8, 3, 4, 4)), "the root is no layer"),
    "two branches": (
        lambda: named(a__weight=(100, 8, 4, 4), b__weight=(10, 6, 4, 4), c__weight=(14, 3, 4, 4)),
        r"do not chain: b.weight \[10, 6, 4, 4\] comes after 8 channels",
    ),
    "too many channels": (
        lambda: state(nn.ConvTranspose2d(9, 8, 4), nn.ConvTranspose2d(8, 7, 4)),
        "the last layer gives 7 channels, expected an image of 1, 3 or 4 channels",
    ),
    "an odd vector": (lambda: mlp(16, 32, 1000), "the last layer gives 1000 numbers, which is not a square image"),
    "no usual size": (
        lambda: state(nn.ConvTranspose2d(9, 8, 1), nn.ConvTranspose2d(8, 3, 2)),
        "no usual strides and paddings",
    ),
    "two embeddings": (
        lambda: named(class_emb__weight=(10, 4), style_label__weight=(5, 4)) | mlp(12, 784), "are two embeddings"
    ),
    "an embedding too wide": (
        lambda: named(class_emb__weight=(10, 50)) | mlp(12, 784), r"class_emb.weight \[10, 50\] is wider than the first"
    ),
    "endless": (
        lambda: state(*(nn.Linear(8, 8) for _ in range(300)), nn.Linear(8, 784)),
        "301 modules with weights, more than any chain",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_refused_with_a_reason(name: str) -> None:
    make, message = TABLE[name]
    with pytest.raises(GanportError, match=message) as caught:
        draft_candidates(make())
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["stylegan", "attention", "residual", "two branches", "oblong kernel"])
def test_networks_of_their_own_are_pointed_to_module(name: str) -> None:
    with pytest.raises(GanportError) as caught:
        draft_candidates(TABLE[name][0]())
    assert "`module` file.py:Class" in caught.value.hint
