"""What tensors are, by shapes alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from export.reading_nets import Generator, discriminator, generator, optimizer_state
from gan_export.reading import describe_role
from gan_trainer.networks.architectures import ARCHITECTURES, SIZES, network_spec
from gan_trainer.networks.build import build

R, F = nn.ReLU, nn.Flatten


def state(*layers: nn.Module) -> dict[str, Tensor]:
    return dict(nn.Sequential(*layers).state_dict())


def conv(inputs: int, outputs: int, kernel: int = 4) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel)


def transposed(inputs: int, outputs: int, kernel: int = 4) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, kernel)


def named(**layers: nn.Module) -> dict[str, Tensor]:
    return dict(nn.ModuleDict(layers).state_dict())


GENERATORS = {
    "dcgan": generator(),
    "dcgan 96": Generator().state_dict(),
    "grey dcgan": state(transposed(9, 8), transposed(8, 1)),
    "mlp": state(nn.Linear(64, 256), nn.Linear(256, 256), nn.Linear(256, 784)),
    "wide latent mlp": state(nn.Linear(128, 256), nn.Linear(256, 1024), nn.Linear(1024, 3072)),
    "one layer": state(nn.Linear(10, 784)),
    "digits 8x8": state(nn.Linear(16, 32), nn.Linear(32, 64)),
    "upsampling": state(nn.Linear(20, 128), conv(128, 128, 3), nn.BatchNorm2d(128), conv(128, 64, 3), conv(64, 1, 3)),
    "equal widths": state(nn.Linear(20, 64), conv(64, 64, 3), conv(64, 64, 3), conv(64, 1, 3)),
    "conditional": named(label_emb=nn.Embedding(10, 10), l1=nn.Linear(20, 64), last=conv(16, 3, 3)),
    "cgan": named(label_emb=nn.Embedding(10, 10), a=nn.Linear(110, 128), b=nn.Linear(128, 1024)),
}
DISCRIMINATORS = {
    "dcgan": discriminator(),
    "grey dcgan": discriminator(channels=1),
    "patch": state(conv(3, 8), conv(8, 16), conv(16, 1)),
    "conditional patch": state(conv(6, 8), conv(8, 16), conv(16, 1)),
    "grey with label": state(conv(11, 16), conv(16, 32), conv(32, 1)),
    "mlp": state(nn.Linear(784, 512), nn.Linear(512, 256), nn.Linear(256, 1)),
    "cgan": named(label_embedding=nn.Embedding(10, 10), a=nn.Linear(794, 512), b=nn.Linear(512, 1)),
    "conv and linear": state(conv(1, 16), conv(16, 32), nn.Linear(512, 1)),
    "acgan": named(c0=conv(3, 16), c1=conv(16, 32), adv_layer=nn.Linear(128, 1), aux_layer=nn.Linear(128, 10)),
}
CLASSIFIERS = {
    "lenet": state(conv(1, 6), conv(6, 16), nn.Linear(256, 120), nn.Linear(120, 10)),
    "resnet": state(conv(3, 64, 7), conv(64, 128), nn.Linear(128, 1000)),
    "mlp": state(nn.Linear(784, 128), nn.Linear(128, 10)),
    "fully convolutional": state(conv(3, 64), conv(64, 128), conv(128, 10, 1)),
}
IMAGE_TO_IMAGE = {
    "cyclegan": state(conv(3, 64, 7), conv(64, 128), transposed(128, 64), conv(64, 3, 7)),
    "grey u-net": state(conv(1, 16), conv(16, 32), transposed(32, 16), transposed(32, 1)),
    "grey end": state(conv(3, 64), conv(64, 128), conv(128, 64), conv(64, 1)),
    "autoencoder": state(nn.Linear(784, 128), nn.Linear(128, 16), nn.Linear(16, 128), nn.Linear(128, 784)),
    "super-resolution": state(conv(3, 64, 3), conv(64, 64, 3), conv(64, 3, 3)),
}
CASES = [
    *[("generator", name, tensors) for name, tensors in GENERATORS.items()],
    *[("discriminator", name, tensors) for name, tensors in DISCRIMINATORS.items()],
    *[("classifier", name, tensors) for name, tensors in CLASSIFIERS.items()],
    *[("image-to-image", name, tensors) for name, tensors in IMAGE_TO_IMAGE.items()],
]


@pytest.mark.parametrize(("role", "name", "tensors"), CASES, ids=[f"{role}: {name}" for role, name, _ in CASES])
def test_roles(role: str, name: str, tensors: dict[str, Tensor]) -> None:
    report = describe_role(tensors)
    assert report.role == role, (name, report)
    assert report.reason


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.weight_norm])
def test_norms_hide_nothing(norm: type) -> None:
    assert describe_role(state(norm(conv(3, 8)), norm(conv(8, 16)), norm(conv(16, 1)))).role == "discriminator"
    assert describe_role(state(norm(transposed(9, 8)), norm(transposed(8, 3)))).role == "generator"


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n_classes", [0, 3])
def test_all_generators_of_ours(arch: str, size: int, channels: int, n_classes: int) -> None:
    spec = network_spec(arch, size, channels, width=4, z_dim=8, n_classes=n_classes)
    report = describe_role(build(spec).state_dict())
    assert report.role == "generator"
    assert math.prod(spec.interface.image) > 0


def test_optimizers() -> None:
    report = describe_role({f"0.{name}": tensor for name, tensor in optimizer_state()["state"][0].items()})
    assert (report.role, report.reason) == ("optimizer", "holds exp_avg, an optimizer's memory")


@pytest.mark.parametrize(
    "tensors",
    [{}, {"a.bias": torch.ones(3)}, {"a.weight": torch.ones(5, 7)}, {"a.weight": torch.ones(3, 3, 3)}],
)
def test_the_rest_is_unknown(tensors: dict[str, Tensor]) -> None:
    assert describe_role(tensors).role == "unknown"
