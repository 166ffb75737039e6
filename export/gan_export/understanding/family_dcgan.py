"""The DCGAN families: transposed convolutions from 1x1, told apart by how the modules are named.

pytorch-examples-dcgan  pytorch/examples dcgan/main.py, and the tutorials that kept its keys (DCGAN faces,
                        pytorch-book's 96x96 anime faces with k5 s3 p1 last, 28x28 with k1 p2 last)
zeleni9-wgan            Zeleni9/pytorch-wgan
znxlwm-dcgan            znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN
yunjey-dcgan            yunjey/pytorch-tutorial 03-advanced/deep_convolutional_gan
wgan-arjovsky-dcgan     martinarjovsky/WassersteinGAN models/dcgan.py
emilien-dupont-wgan-gp  EmilienDupont/wgan-gp
deeplearning-ai-dcgan   the GAN specialisation's notebooks: DCGAN and its conditional form
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from gan_core.spec import layers as L
from gan_export.draft import Evidence
from gan_export.understanding.families import Plan, Reading, Shapes

RELU = L.Activation("relu")
TANH = L.Activation("tanh")
SIGMOID = L.Activation("sigmoid")


def pytorch_examples(shapes: Shapes) -> Iterator[Reading]:
    yield from _dcgan(shapes, "main", bias=False, source="pytorch/examples dcgan")


def zeleni9(shapes: Shapes) -> Iterator[Reading]:
    yield from _dcgan(shapes, "main_module", bias=True, source="Zeleni9/pytorch-wgan")


def _dcgan(shapes: Shapes, prefix: str, *, bias: bool, source: str) -> Iterator[Reading]:
    """`prefix.0` ConvT, `.1` BN, `.2` ReLU, `.3` ConvT …: k4 s1 p0, then k4 s2 p1, the last of kernel 4, 5 or 1."""
    weights: list[L.Shape] = []
    while shapes.rank(f"{prefix}.{3 * len(weights)}.weight", 4):
        weights.append(shapes[f"{prefix}.{3 * len(weights)}.weight"])
    if len(weights) < 2:
        return
    plan: Plan = [("", L.Reshape((weights[0][0], 1, 1)))]
    for index, (takes, makes, kernel, _) in enumerate(weights[:-1]):
        stride, padding = (2, 1) if index else (1, 0)
        name = f"{prefix}.{3 * index}"
        plan.append((name, L.ConvTranspose(takes, makes, kernel, stride, padding, bias=bias)))
        plan += [(f"{prefix}.{3 * index + 1}", L.BatchNorm(makes)), ("", RELU)]
    if any(weight[2] != 4 for weight in weights[:-1]):
        return
    takes, makes, kernel, _ = weights[-1]
    endings = {4: ((2, 1),), 5: ((3, 1),), 1: ((1, 2), (1, 0)) if makes == 1 else ((1, 0),)}.get(kernel, ())
    before = 4 * 2 ** (len(weights) - 2)
    for stride, padding in endings:
        last = L.ConvTranspose(takes, makes, kernel, stride, padding, bias=bias)
        size = last.out_shape((takes, before, before))[1]
        yield Reading(
            [*plan, (f"{prefix}.{3 * (len(weights) - 1)}", last), ("", TANH)],
            z_dim=weights[0][0],
            image=(makes, size, size),
            source=source,
            structure=Evidence.STRONG if kernel > 1 else Evidence.WEAK,
        )


def znxlwm_dcgan(shapes: Shapes) -> Iterator[Reading]:
    """`deconv1`, `deconv1_bn` …, k4 s1 p0 then k4 s2 p1, ReLU, tanh, biases everywhere."""
    count = 0
    while shapes.rank(f"deconv{count + 1}.weight", 4):
        count += 1
    if count < 3:
        return
    first, final = shapes["deconv1.weight"], shapes[f"deconv{count}.weight"]
    plan: Plan = [("", L.Reshape((first[0], 1, 1)))]
    for number in range(1, count + 1):
        takes, makes = shapes[f"deconv{number}.weight"][:2]
        stride, padding = (1, 0) if number == 1 else (2, 1)
        plan.append((f"deconv{number}", L.ConvTranspose(takes, makes, 4, stride, padding)))
        plan += [(f"deconv{number}_bn", L.BatchNorm(makes)), ("", RELU)] if number < count else [("", TANH)]
    size = 4 * 2 ** (count - 1)
    source = "znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN"
    yield Reading(plan, z_dim=first[0], image=(final[1], size, size), source=source)


def yunjey_dcgan(shapes: Shapes) -> Iterator[Reading]:
    """`fc.0` ConvT of the whole first image, then `deconvN.0`, `deconvN.1`: LeakyReLU 0.05, none after `fc`."""
    first, final = shapes["fc.0.weight"], shapes["deconv4.0.weight"]
    if len(first) != 4 or len(final) != 4:
        return
    kernel = first[2]
    plan: Plan = [("", L.Reshape((first[0], 1, 1))), ("fc.0", L.ConvTranspose(first[0], first[1], kernel))]
    for number in range(1, 5):
        takes, makes = (*shapes[f"deconv{number}.0.weight"], 0, 0)[:2]
        plan.append((f"deconv{number}.0", L.ConvTranspose(takes, makes, 4, 2, 1)))
        if number < 4:
            plan += [(f"deconv{number}.1", L.BatchNorm(makes)), ("", L.Activation("leaky_relu", slope=0.05))]
    size = 16 * kernel
    yield Reading(
        [*plan, ("", TANH)], first[0], (final[1], size, size), "yunjey/pytorch-tutorial deep_convolutional_gan"
    )


def arjovsky_dcgan(shapes: Shapes) -> Iterator[Reading]:
    """`main.pyramid.512-256.convt` or with colons; ReLU after each BN, extra 3x3 convolutions before the last."""
    plan: Plan = []
    size, image_channels = 1, 0
    for key in shapes:
        name = key.rpartition(".")[0]
        if not key.endswith("weight") or not name.startswith("main"):
            continue
        shape = shapes[key]
        if re.fullmatch(r"main[.](initial|pyramid|final)[.:]\d+-\d+[.:]convt", name) and len(shape) == 4:
            stride, padding = (1, 0) if "initial" in name else (2, 1)
            if not plan:
                plan.append(("", L.Reshape((shape[0], 1, 1))))
            plan.append((name, L.ConvTranspose(shape[0], shape[1], 4, stride, padding, bias=False)))
            size, image_channels = 4 if size == 1 else 2 * size, shape[1]
        elif re.fullmatch(r"main[.]extra-layers-\d+[.:]\d+[.:]conv", name) and len(shape) == 4:
            plan.append((name, L.Conv(shape[1], shape[0], 3, padding=1, bias=False)))
        elif name.endswith("batchnorm") and len(shape) == 1:
            plan += [(name, L.BatchNorm(shape[0])), ("", RELU)]
    if image_channels and isinstance(plan[0][1], L.Reshape):
        z_dim = plan[0][1].shape[0]
        yield Reading([*plan, ("", TANH)], z_dim, (image_channels, size, size), "martinarjovsky/WassersteinGAN")


def emilien_dupont(shapes: Shapes) -> Iterator[Reading]:
    """Linear, ReLU, then ConvT, ReLU, BN in that order, sigmoid: images in [0, 1]."""
    first, body = shapes["latent_to_features.0.weight"], "features_to_image"
    weights = [shapes[f"{body}.{3 * index}.weight"] for index in range(4)]
    if len(first) != 2 or any(len(weight) != 4 for weight in weights):
        return
    side = math.isqrt(first[0] // weights[0][0])
    plan: Plan = [
        ("latent_to_features.0", L.Linear(first[1], first[0])),
        ("", RELU),
        ("", L.Reshape((weights[0][0], side, side))),
    ]
    for index, (takes, makes, *_) in enumerate(weights):
        plan.append((f"{body}.{3 * index}", L.ConvTranspose(takes, makes, 4, 2, 1)))
        plan += [("", RELU), (f"{body}.{3 * index + 2}", L.BatchNorm(makes))] if index < 3 else [("", SIGMOID)]
    image = (weights[-1][1], 16 * side, 16 * side)
    yield Reading(plan, first[1], image, "EmilienDupont/wgan-gp", value_range=(0.0, 1.0))


def deeplearning_ai_dcgan(shapes: Shapes) -> Iterator[Reading]:
    """`gen.N.0`, `gen.N.1`: k3 s2, k4 s1, k3 s2, k4 s2, all without padding: 1, 3, 6, 13, 28."""
    weights = [shapes[f"gen.{index}.0.weight"] for index in range(4)]
    if [weight[2:] for weight in weights] != [(3, 3), (4, 4), (3, 3), (4, 4)]:
        return
    plan: Plan = [("", L.Reshape((weights[0][0], 1, 1)))]
    for index, (takes, makes, kernel, _) in enumerate(weights):
        plan.append((f"gen.{index}.0", L.ConvTranspose(takes, makes, kernel, 1 if index == 1 else 2)))
        plan += [(f"gen.{index}.1", L.BatchNorm(makes)), ("", RELU)] if index < 3 else [("", TANH)]
    image, source = (weights[-1][1], 28, 28), "deeplearning.ai's DCGAN"
    if weights[0][0] == 74:
        label: Plan = [("", L.LabelOneHot(10, merge="z_label"))]
        yield Reading(
            label + plan, 64, image, "deeplearning.ai's conditional GAN (z of 64, one-hot of 10)", n_classes=10
        )
        return
    yield Reading(plan, weights[0][0], image, source)
