"""The families of eriklindernoren/PyTorch-GAN, and what grew out of its code.

pytorch-gan-mlp            gan, wgan_gp and others: four Linears with BN eps 0.8 and LeakyReLU 0.2
pytorch-gan-cgan           the same after cat((label_emb(labels), noise)): the label first
pytorch-gan-dcgan          Linear to 128 x s x s, BN, then twice up 2, conv, BN eps 0.8, LeakyReLU 0.2
pytorch-gan-acgan          the same after label_emb(labels) * noise
mnist-conditional-wgan-gp  HayatoHongo/MNIST-Conditional-WGAN-gp: the same with ReLU, after cat((noise, label_emb))
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from gan_core.spec import layers as L
from gan_export.understanding.families import Plan, Reading, Shapes, images_of

RELU = L.Activation("relu")
LEAKY = L.Activation("leaky_relu", slope=0.2)
TANH = L.Activation("tanh")

FIRST_NORM_EPS = 1e-5
PYTORCH_GAN_EPS = 0.8
"""The code writes BatchNorm2d(n, 0.8) and means momentum; the second argument is eps."""


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
