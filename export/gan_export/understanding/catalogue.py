"""All families, and the plain ones: MLPs with few signs of their own, and gan-train's presets.

znxlwm-gan           znxlwm/pytorch-MNIST-CelebA-GAN-DCGAN, Udacity's MNIST GAN: fc1 … fc4
yunjey-gan           yunjey/pytorch-tutorial 03-advanced/generative_adversarial_network
deeplearning-ai-mlp  the GAN specialisation's first notebook
ganport-*            gan-train's presets, when the spec was lost
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from gan_core.spec import layers as L
from gan_core.spec.layers import SpecError
from gan_export.draft import Draft, Evidence
from gan_export.understanding import family_dcgan as dcgan
from gan_export.understanding import family_pytorch_gan as pytorch_gan
from gan_export.understanding.families import Plan, Reading, Shapes, draft_reading, images_of, matches, shapes_of
from gan_trainer.networks.architectures import ARCHITECTURES, SIZES, network_spec

RELU = L.Activation("relu")
LEAKY = L.Activation("leaky_relu", slope=0.2)
TANH = L.Activation("tanh")
SIGMOID = L.Activation("sigmoid")


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
                    yield Reading(plan, z_dim, spec.interface.image, f"gan-train --arch {arch}", n_classes=n_classes)


FAMILIES: tuple[tuple[str, Callable[[Shapes], Iterator[Reading]]], ...] = (
    ("ganport", ganport),
    ("pytorch-examples-dcgan", dcgan.pytorch_examples),
    ("pytorch-gan-mlp", pytorch_gan.pytorch_gan_mlp),
    ("pytorch-gan-cgan", pytorch_gan.pytorch_gan_cgan),
    ("pytorch-gan-dcgan", pytorch_gan.pytorch_gan_dcgan),
    ("pytorch-gan-acgan", pytorch_gan.pytorch_gan_acgan),
    ("mnist-conditional-wgan-gp", pytorch_gan.mnist_conditional_wgan_gp),
    ("znxlwm-dcgan", dcgan.znxlwm_dcgan),
    ("znxlwm-gan", znxlwm_gan),
    ("yunjey-dcgan", dcgan.yunjey_dcgan),
    ("yunjey-gan", yunjey_gan),
    ("wgan-arjovsky-dcgan", dcgan.arjovsky_dcgan),
    ("zeleni9-wgan", dcgan.zeleni9),
    ("emilien-dupont-wgan-gp", dcgan.emilien_dupont),
    ("deeplearning-ai-dcgan", dcgan.deeplearning_ai_dcgan),
    ("deeplearning-ai-mlp", deeplearning_ai_mlp),
)


def family_drafts(tensors: Mapping[str, Tensor]) -> list[Draft]:
    """The drafts of every family that the file matches, the surest first; mostly none or one."""
    shapes = shapes_of(tensors)
    drafts: list[Draft] = []
    for family, read in FAMILIES:
        for reading in read(shapes):
            try:
                if matches(reading, shapes):
                    drafts.append(draft_reading(family, reading, tensors))
            except SpecError:
                continue
    return sorted(drafts, key=lambda draft: not draft.choices[0].evidence.settled)
