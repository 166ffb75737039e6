"""Known families: recognised by all keys and shapes, and drafted as their code runs them."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import nn

from export.foreign_networks import (
    DeepLearningAi,
    EmilienDupont,
    GanConv,
    GanMlp,
    YunjeyDcgan,
    Znxlwm,
    difference,
    examples_dcgan,
    sequential,
    settled,
)
from gan_export.draft import Evidence
from gan_export.understanding.understand import draft_candidates
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import build

EXACT = 1e-5


def fc_gan() -> nn.Module:
    layers = [nn.Linear(6, 8), nn.Linear(8, 16), nn.Linear(16, 32), nn.Linear(32, 784)]
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for n, layer in enumerate(layers, 1):
        parts[f"fc{n}"] = layer
        parts[f"act{n}"] = nn.LeakyReLU(0.2) if n < 4 else nn.Tanh()
    return nn.Sequential(parts)


def deeplearning_mlp() -> nn.Module:
    blocks = [
        nn.Sequential(nn.Linear(takes, makes), nn.BatchNorm1d(makes), nn.ReLU())
        for takes, makes in ((10, 4), (4, 8), (8, 16), (16, 32))
    ]
    return sequential(*blocks, nn.Linear(32, 784), nn.Sigmoid(), prefix="gen")


def arjovsky() -> nn.Module:
    parts: list[tuple[str, nn.Module]] = [
        ("initial:5-8:convt", nn.ConvTranspose2d(5, 8, 4, 1, 0, bias=False)),
        ("initial:8:batchnorm", nn.BatchNorm2d(8)),
        ("initial:8:relu", nn.ReLU()),
        ("pyramid:8-4:convt", nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False)),
        ("pyramid:4:batchnorm", nn.BatchNorm2d(4)),
        ("pyramid:4:relu", nn.ReLU()),
        ("extra-layers-0:4:conv", nn.Conv2d(4, 4, 3, 1, 1, bias=False)),
        ("extra-layers-0:4:batchnorm", nn.BatchNorm2d(4)),
        ("extra-layers-0:4:relu", nn.ReLU()),
        ("final:4-3:convt", nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False)),
        ("final:3:tanh", nn.Tanh()),
    ]
    return nn.Sequential(OrderedDict([("main", nn.Sequential(OrderedDict(parts)))]))


def yunjey_gan() -> nn.Module:
    widths = (64, 256, 256, 784)
    layers: list[nn.Module] = []
    for takes, makes in itertools.pairwise(widths):
        layers += [nn.Linear(takes, makes), nn.ReLU()]
    return nn.Sequential(*layers[:-1], nn.Tanh())


SURE: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, int, int], tuple[int, ...]]] = {
    "dcgan 32": (lambda: examples_dcgan(32), "pytorch-examples-dcgan", (3, 32, 32), (5, 1, 1)),
    "dcgan 64": (lambda: examples_dcgan(64, nz=9), "pytorch-examples-dcgan", (3, 64, 64), (9, 1, 1)),
    "dcgan 128": (lambda: examples_dcgan(128, nc=1), "pytorch-examples-dcgan", (1, 128, 128), (5, 1, 1)),
    "anime 96": (lambda: examples_dcgan(96, kernel=5), "pytorch-examples-dcgan", (3, 96, 96), (5, 1, 1)),
    "zeleni9": (
        lambda: examples_dcgan(32, prefix="main_module", bias=True), "zeleni9-wgan", (3, 32, 32), (5, 1, 1)
    ),
    "gan": (GanMlp, "pytorch-gan-mlp", (1, 8, 8), ()),
    "gan colour": (lambda: GanMlp(image=(3, 8, 8)), "pytorch-gan-mlp", (3, 8, 8), ()),
    "cgan": (lambda: GanMlp(n_classes=10), "pytorch-gan-cgan", (1, 8, 8), ()),
    "conv gan": (GanConv, "pytorch-gan-dcgan", (1, 28, 28), ()),
    "conv gan, old name": (lambda: GanConv(body="conv_model", side=8, nc=3), "pytorch-gan-dcgan", (3, 32, 32), ()),
    "acgan": (lambda: GanConv(join="multiply", side=8), "pytorch-gan-acgan", (1, 32, 32), ()),
    "conditional": (
        lambda: GanConv(join="concatenate", activation=nn.ReLU()), "mnist-conditional-wgan-gp", (1, 28, 28), ()
    ),
    "znxlwm": (Znxlwm, "znxlwm-dcgan", (1, 64, 64), (9, 1, 1)),
    "yunjey dcgan": (YunjeyDcgan, "yunjey-dcgan", (3, 32, 32), ()),
    "arjovsky": (arjovsky, "wgan-arjovsky-dcgan", (3, 16, 16), (5, 1, 1)),
    "emilien dupont": (EmilienDupont, "emilien-dupont-wgan-gp", (1, 32, 32), ()),
    "deeplearning.ai": (DeepLearningAi, "deeplearning-ai-dcgan", (1, 28, 28), ()),
    "deeplearning.ai conditional": (lambda: DeepLearningAi(n_classes=10), "deeplearning-ai-cgan", (1, 28, 28), ()),
    "deeplearning.ai mlp": (deeplearning_mlp, "deeplearning-ai-mlp", (1, 28, 28), ()),
}  # fmt: skip
UNSURE: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, int, int], tuple[int, ...]]] = {
    "fc1 to fc4": (fc_gan, "znxlwm-gan", (1, 28, 28), ()),
    "yunjey gan": (yunjey_gan, "yunjey-gan", (1, 28, 28), ()),
    "dcgan 28, k1 p2": (
        lambda: examples_dcgan(28, nc=1, kernel=1), "pytorch-examples-dcgan", (1, 28, 28), (5, 1, 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SURE)
def test_family_is_recognised_and_drafted_exactly(name: str) -> None:
    make, family, image, z_shape = SURE[name]
    module = settled(make())
    drafts = draft_candidates(module.state_dict())
    assert [draft.family for draft in drafts] == [family]
    draft = drafts[0]
    assert draft.spec.interface.image == image
    assert draft.open_choices == ()
    assert difference(draft, module, z_shape) <= EXACT


@pytest.mark.parametrize("name", UNSURE)
def test_keys_that_others_use_too_are_drafted_as_an_assumption(name: str) -> None:
    make, family, image, z_shape = UNSURE[name]
    module = settled(make())
    draft = draft_candidates(module.state_dict())[0]
    assert (draft.family, draft.spec.interface.image) == (family, image)
    assert draft.open_choices
    assert difference(draft, module, z_shape) <= EXACT


@pytest.mark.parametrize("arch", ["mlp", "dcgan", "resize"])
@pytest.mark.parametrize("n_classes", [0, 10])
def test_our_own_presets_without_their_spec(arch: str, n_classes: int) -> None:
    spec = network_spec(arch, 28, 1, width=8, z_dim=5, n_classes=n_classes)
    module = settled(build(spec))
    draft = draft_candidates(module.state_dict())[0]
    assert draft.family == "ganport"
    assert draft.spec.layers == spec.layers
    assert difference(draft, module) <= EXACT


def test_the_order_of_keys_does_not_matter() -> None:
    """safetensors sorts its keys."""
    module = settled(GanConv(join="multiply"))
    tensors = module.state_dict()
    draft = draft_candidates({key: tensors[key] for key in sorted(tensors)})[0]
    assert draft.family == "pytorch-gan-acgan"
    assert difference(draft, module) <= EXACT


@pytest.mark.parametrize("change", ["bias", "extra", "missing", "width"])
def test_one_tensor_that_differs_is_no_family(change: str) -> None:
    tensors = dict(settled(examples_dcgan(32)).state_dict())
    match change:
        case "bias":
            tensors["main.0.bias"] = torch.zeros(8)
        case "extra":
            tensors["main.13.weight"] = torch.zeros(3)
            tensors["main.13.bias"] = torch.zeros(3)
        case "missing":
            tensors = {key: value for key, value in tensors.items() if not key.startswith("main.4")}
        case "width":
            tensors["main.9.weight"] = tensors["main.9.weight"][:, :, :3, :3]
    drafts = draft_candidates(tensors)
    assert drafts
    assert all(draft.family == "chain" for draft in drafts)


def test_a_family_says_on_what_it_rests() -> None:
    draft = draft_candidates(settled(GanMlp()).state_dict())[0]
    eps = [choice for choice in draft.choices if choice.field == "eps"]
    assert [choice.value for choice in eps] == [0.8] * 3
    assert {choice.evidence for choice in eps} == {Evidence.STRONG}
    assert all(1e-5 in choice.alternatives and "PyTorch-GAN" in choice.reason for choice in eps)


def test_the_last_kernel_of_1_has_two_readings() -> None:
    drafts = draft_candidates(examples_dcgan(28, nc=1, kernel=1).state_dict())
    assert [draft.spec.interface.image for draft in drafts[:2]] == [(1, 28, 28), (1, 32, 32)]
    assert [draft.choices[0].evidence for draft in drafts[:2]] == [Evidence.WEAK] * 2


def test_given_the_image_only_that_reading_is_left() -> None:
    drafts = draft_candidates(examples_dcgan(28, nc=1, kernel=1).state_dict(), image=(1, 32, 32))
    assert {draft.spec.interface.image for draft in drafts} == {(1, 32, 32)}
    assert drafts[0].family == "pytorch-examples-dcgan"
