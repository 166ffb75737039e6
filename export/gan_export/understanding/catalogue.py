"""The families themselves. Each was read in its repository; the layouts are facts about that code.

pytorch-examples-dcgan     pytorch/examples dcgan/main.py, and the tutorials that kept its keys (DCGAN faces,
                           pytorch-book's 96x96 anime faces with k5 s3 p1 last, 28x28 with k1 p2 last)
pytorch-gan-*              eriklindernoren/PyTorch-GAN: gan, wgan_gp and others (mlp), cgan, dcgan, acgan
mnist-conditional-wgan-gp  HayatoHongo/MNIST-Conditional-WGAN-gp
znxlwm-*                   znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN
yunjey-*                   yunjey/pytorch-tutorial, 03-advanced
wgan-arjovsky-dcgan        martinarjovsky/WassersteinGAN models/dcgan.py
zeleni9-wgan               Zeleni9/pytorch-wgan
emilien-dupont-wgan-gp     EmilienDupont/wgan-gp
deeplearning-ai-*          the GAN specialisation's notebooks (DCGAN, and its conditional form; the first MLP)
ganport-*                  the presets of gan-train, when the spec was lost
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator

from gan_export.draft import Evidence
from gan_export.understanding.families import Plan, Reading, Shapes
from gan_trainer import layers as L
from gan_trainer.networks import ARCHITECTURES, SIZES, network_spec

RELU = L.Activation("relu")
LEAKY = L.Activation("leaky_relu", slope=0.2)
TANH = L.Activation("tanh")
SIGMOID = L.Activation("sigmoid")
IDENTITY = L.Activation("identity")

FIRST_NORM_EPS = 1e-5
PYTORCH_GAN_EPS = 0.8
"""PyTorch-GAN writes BatchNorm2d(n, 0.8) and means momentum; the second argument is eps."""


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


def pytorch_gan_mlp(shapes: Shapes) -> Iterator[Reading]:
    yield from _pytorch_gan_mlp(shapes, None)


def pytorch_gan_cgan(shapes: Shapes) -> Iterator[Reading]:
    if shapes.rank("label_emb.weight", 2):
        yield from _pytorch_gan_mlp(shapes, shapes["label_emb.weight"])


def _pytorch_gan_mlp(shapes: Shapes, label: L.Shape | None) -> Iterator[Reading]:
    widths, first, final = (128, 256, 512, 1024), shapes["model.0.weight"], shapes["model.11.weight"]
    if len(first) != 2 or len(final) != 2:
        return
    z_dim = first[1] - (label[1] if label else 0)
    plan: Plan = [("label_emb", L.LabelEmbedding(label[0], label[1], merge="label_z"))] if label else []
    plan += [("model.0", L.Linear(first[1], widths[0])), ("", LEAKY)]
    for index, (takes, makes) in enumerate(itertools.pairwise(widths)):
        plan += [
            (f"model.{2 + 3 * index}", L.Linear(takes, makes)),
            (f"model.{3 + 3 * index}", L.BatchNorm(makes, eps=PYTORCH_GAN_EPS)),
            ("", LEAKY),
        ]
    plan += [("model.11", L.Linear(widths[-1], final[0])), ("", TANH)]
    for image in images_of(final[0]):
        yield Reading(
            [*plan, ("", L.Reshape(image))],
            z_dim=z_dim,
            image=image,
            source="eriklindernoren/PyTorch-GAN " + ("cgan" if label else "gan, wgan_gp"),
            n_classes=label[0] if label else 0,
        )


def pytorch_gan_dcgan(shapes: Shapes) -> Iterator[Reading]:
    yield from _pytorch_gan_conv(shapes, LEAKY, "eriklindernoren/PyTorch-GAN dcgan", None, "z_label")


def pytorch_gan_acgan(shapes: Shapes) -> Iterator[Reading]:
    label = shapes["label_emb.weight"]
    if len(label) == 2 and shapes["l1.0.weight"][1:] == label[1:]:
        yield from _pytorch_gan_conv(shapes, LEAKY, "eriklindernoren/PyTorch-GAN acgan", label, "multiply")


def mnist_conditional_wgan_gp(shapes: Shapes) -> Iterator[Reading]:
    label = shapes["label_emb.weight"]
    if len(label) == 2 and shapes.rank("l1.0.weight", 2) and shapes["l1.0.weight"][1] > label[1]:
        yield from _pytorch_gan_conv(shapes, RELU, "HayatoHongo/MNIST-Conditional-WGAN-gp", label, "z_label")


def _pytorch_gan_conv(
    shapes: Shapes, activation: L.Activation, source: str, label: L.Shape | None, merge: L.Merge
) -> Iterator[Reading]:
    """`l1.0` Linear to 128 x s x s, then BN, up 2, conv, BN 0.8, activation, up 2, conv, BN 0.8, activation, conv."""
    first = shapes["l1.0.weight"]
    for body in ("conv_blocks", "conv_model"):
        final = shapes[f"{body}.9.weight"]
        if len(first) != 2 or len(final) != 4:
            continue
        side = math.isqrt(first[0] // 128)
        plan: Plan = [("label_emb", L.LabelEmbedding(label[0], label[1], merge=merge))] if label else []
        plan += [
            ("l1.0", L.Linear(first[1], first[0])),
            ("", L.Reshape((128, side, side))),
            (f"{body}.0", L.BatchNorm(128, eps=FIRST_NORM_EPS)),
            ("", L.Upsample(2)),
            (f"{body}.2", L.Conv(128, 128, 3, padding=1)),
            (f"{body}.3", L.BatchNorm(128, eps=PYTORCH_GAN_EPS)),
            ("", activation),
            ("", L.Upsample(2)),
            (f"{body}.6", L.Conv(128, 64, 3, padding=1)),
            (f"{body}.7", L.BatchNorm(64, eps=PYTORCH_GAN_EPS)),
            ("", activation),
            (f"{body}.9", L.Conv(64, final[0], 3, padding=1)),
            ("", TANH),
        ]
        infogan = "z of 74 may be PyTorch-GAN's infogan: 62 of noise, a one-hot label of 10, a code of 2"
        yield Reading(
            plan,
            z_dim=first[1] - (label[1] if label and merge != "multiply" else 0),
            image=(final[0], 4 * side, 4 * side),
            source=source,
            n_classes=label[0] if label else 0,
            notes=(infogan,) if first[1] == 74 and not label else (),
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


def znxlwm_gan(shapes: Shapes) -> Iterator[Reading]:
    """`fc1` … `fc4`, LeakyReLU 0.2, tanh: also Udacity's, whose z is uniform, so that the law stays open."""
    widths = [shapes[f"fc{number}.weight"] for number in range(1, 5)]
    if any(len(width) != 2 for width in widths):
        return
    plan: Plan = []
    for number, (makes, takes) in enumerate(widths, 1):
        plan += [(f"fc{number}", L.Linear(takes, makes)), ("", LEAKY if number < 4 else TANH)]
    hidden = [width[0] for width in widths[:3]]
    doubling = hidden[1] == 2 * hidden[0] and hidden[2] == 4 * hidden[0]
    for image in images_of(widths[-1][0]) if doubling else ():
        yield Reading(
            [*plan, ("", L.Reshape(image))],
            z_dim=widths[0][1],
            image=image,
            source="znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN and Udacity's MNIST GAN",
            evidence=Evidence.WEAK,
        )


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


def yunjey_gan(shapes: Shapes) -> Iterator[Reading]:
    """`0`, `2`, `4` of a bare Sequential, 64 → 256 → 256 → 784, ReLU, tanh. Any other MLP may have these keys."""
    widths = [shapes[f"{number}.weight"] for number in (0, 2, 4)]
    if [width[:1] for width in widths] != [(256,), (256,), (784,)] or len(widths[0]) != 2:
        return
    plan: Plan = []
    for number, (makes, takes) in zip((0, 2, 4), widths, strict=True):
        plan += [(str(number), L.Linear(takes, makes)), ("", RELU if number < 4 else TANH)]
    image = (1, 28, 28)
    source = "yunjey/pytorch-tutorial generative_adversarial_network"
    yield Reading([*plan, ("", L.Reshape(image))], widths[0][1], image, source, Evidence.WEAK)


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


def deeplearning_ai_mlp(shapes: Shapes) -> Iterator[Reading]:
    """`gen.N.0` Linear, `gen.N.1` BN, ReLU, four times doubling, `gen.4` Linear, sigmoid: images in [0, 1]."""
    weights = [shapes[f"gen.{index}.0.weight"] for index in range(4)]
    final = shapes["gen.4.weight"]
    if any(len(weight) != 2 for weight in (*weights, final)):
        return
    plan: Plan = []
    for index, (makes, takes) in enumerate(weights):
        plan += [(f"gen.{index}.0", L.Linear(takes, makes)), (f"gen.{index}.1", L.BatchNorm(makes)), ("", RELU)]
    for image in images_of(final[0]):
        yield Reading(
            [*plan, ("gen.4", L.Linear(final[1], final[0])), ("", SIGMOID), ("", L.Reshape(image))],
            z_dim=weights[0][1],
            image=image,
            source="deeplearning.ai's first GAN",
            value_range=(0.0, 1.0),
        )


def ganport(shapes: Shapes) -> Iterator[Reading]:
    """gan-train's own presets: `layers.N.weight`."""
    if not all(key.startswith("layers.") for key in shapes):
        return
    label = shapes["layers.0.weight"] if shapes.rank("layers.0.weight", 2) and "layers.0.bias" not in shapes else ()
    n_classes = label[0] if label and label[0] == label[1] else 0
    weights = [shape for key, shape in shapes.items() if key.endswith("weight") and len(shape) in (2, 4)]
    weights = weights[1:] if n_classes else weights
    if len(weights) < 2:
        return
    dense = len(weights[0]) == 2
    z_dim = weights[0][1 if dense else 0] - n_classes
    for arch in ARCHITECTURES:
        for size in SIZES:
            for channels in (1, 3):
                if dense != (arch == "mlp") or z_dim < 1:
                    continue
                width = weights[0][0] // 2 if dense else weights[-1][0]
                for narrow in {width, width // 2} - {0}:
                    spec = network_spec(arch, size, channels, width=narrow, z_dim=z_dim, n_classes=n_classes)
                    plan: Plan = [(f"layers.{index}", layer) for index, layer in enumerate(spec.layers)]
                    yield Reading(plan, z_dim, spec.image, f"gan-train --arch {arch}", n_classes=n_classes)


def images_of(numbers: int) -> list[tuple[int, int, int]]:
    """The square images of 1 or 3 channels that have so many numbers."""
    found = []
    for channels in (1, 3):
        side = math.isqrt(numbers // channels)
        if side and channels * side**2 == numbers:
            found.append((channels, side, side))
    return found


FAMILIES: tuple[tuple[str, Callable[[Shapes], Iterator[Reading]]], ...] = (
    ("ganport", ganport),
    ("pytorch-examples-dcgan", pytorch_examples),
    ("pytorch-gan-mlp", pytorch_gan_mlp),
    ("pytorch-gan-cgan", pytorch_gan_cgan),
    ("pytorch-gan-dcgan", pytorch_gan_dcgan),
    ("pytorch-gan-acgan", pytorch_gan_acgan),
    ("mnist-conditional-wgan-gp", mnist_conditional_wgan_gp),
    ("znxlwm-dcgan", znxlwm_dcgan),
    ("znxlwm-gan", znxlwm_gan),
    ("yunjey-dcgan", yunjey_dcgan),
    ("yunjey-gan", yunjey_gan),
    ("wgan-arjovsky-dcgan", arjovsky_dcgan),
    ("zeleni9-wgan", zeleni9),
    ("emilien-dupont-wgan-gp", emilien_dupont),
    ("deeplearning-ai-dcgan", deeplearning_ai_dcgan),
    ("deeplearning-ai-mlp", deeplearning_ai_mlp),
)
