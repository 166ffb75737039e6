"""What tensors are, by shapes alone."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from export.reading_nets import Generator, discriminator, generator, optimizer_state
from gan_core.errors import GanportError
from gan_export.answers import Answers
from gan_export.identify import identify
from gan_export.reading import describe_role
from gan_export.reading.kinds import WHAT
from gan_trainer.networks.architectures import ARCHITECTURES, SIZES, network_spec
from gan_trainer.networks.generator import build

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
    "wide kernel": state(transposed(128, 64, 7), transposed(64, 32), transposed(32, 1)),
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
    "image and label": state(conv(8, 64, 7), conv(64, 128), transposed(128, 64), conv(64, 3, 7)),
    "attention's heads first": state(nn.Linear(128, 1), conv(3, 32, 7), conv(32, 64), conv(64, 32, 3), conv(32, 3, 7)),
    "grey u-net": state(conv(1, 16), conv(16, 32), transposed(32, 16), transposed(32, 1)),
    "grey end": state(conv(3, 64), conv(64, 128), conv(128, 64), conv(64, 1)),
    "autoencoder": state(nn.Linear(784, 128), nn.Linear(128, 16), nn.Linear(16, 128), nn.Linear(128, 784)),
}
C1, C3 = nn.Conv1d, nn.Conv3d


def vision(name: str, **settings: int) -> dict[str, Tensor]:
    return dict(getattr(torchvision.models, name)(**settings).state_dict())


def vae_encoder() -> dict[str, Tensor]:
    """As authors register them: the two last layers before those that run ahead of them."""
    return named(lin1=nn.Linear(784, 256), mu=nn.Linear(64, 2), logsigma=nn.Linear(64, 2), lin2=nn.Linear(256, 64))


def dense_blocks(width: int = 16) -> dict[str, Tensor]:
    """ESRGAN's: each convolution takes all that the ones before it made."""
    grown = [conv(width * n, width, 3) for n in (1, 2, 3)]
    return named(
        first=conv(3, width, 3), **dict(zip("abc", grown, strict=True)), up=conv(width, width), z=conv(width, 3)
    )


def diffusion() -> dict[str, Tensor]:
    return named(time_mlp=nn.Linear(8, 8), down=conv(3, 8, 3), mid=conv(8, 16, 3), up=conv(24, 8, 3), out=conv(8, 3, 1))


OTHERS: dict[str, dict[str, dict[str, Tensor]]] = {
    "encoder": {
        "vae": vae_encoder(),
        "convolutions": state(conv(1, 8), conv(8, 16), nn.Linear(64, 4), nn.Linear(64, 4)),
        "features": state(conv(1, 64, 3), conv(64, 64, 3), conv(64, 64, 3)),
    },
    "super-resolver": {
        "srcnn": state(conv(1, 64, 9), conv(64, 32, 1), conv(32, 1, 5)),
        "espcn": state(conv(3, 64, 5), conv(64, 32, 3), conv(32, 48, 3)),
        "compact": state(conv(3, 8, 3), nn.PReLU(8), conv(8, 8, 3), nn.PReLU(8), conv(8, 48, 3)),
        "edsr": state(conv(3, 64, 3), conv(64, 64, 3), conv(64, 256, 3), nn.PixelShuffle(2), conv(64, 3, 3)),
        "dense blocks": dense_blocks(),
    },
    "classifier": {
        "resnet18": vision("resnet18"),
        "squeezenet": vision("squeezenet1_1", num_classes=10),
        "mobilenet": vision("mobilenet_v3_small"),
        "vit": dict(torchvision.models.VisionTransformer(16, 8, 1, 2, 16, 32).state_dict()),
    },
    "image-to-image": {"segmentation": state(conv(3, 8), conv(8, 32), conv(40, 8, 3), conv(8, 5, 1))},
    "diffusion": {"u-net": diffusion()},
    "table": {
        "columns": state(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.Linear(128, 30)),
        "with a label": named(label_emb=nn.Embedding(10, 8), a=nn.Linear(40, 64), b=nn.Linear(64, 7)),
        "curves": state(nn.Linear(100, 50), nn.Linear(50, 5), nn.Linear(5, 50), nn.Linear(50, 100)),
    },
    "points": {
        "in a plane": state(nn.Linear(16, 64), nn.Linear(64, 2)),
        "pointnet": state(C1(3, 64, 1), nn.BatchNorm1d(64), C1(64, 128, 1), nn.Linear(128, 64), nn.Linear(64, 6144)),
    },
    "signal": {
        "wavegan": state(nn.Linear(100, 512), nn.ConvTranspose1d(32, 16, 25), nn.ConvTranspose1d(16, 1, 25)),
        "judge": state(C1(1, 16, 25), C1(16, 32, 25), nn.Linear(512, 1)),
    },
    "volume": {
        "voxels": state(nn.ConvTranspose3d(64, 32, 4), nn.BatchNorm3d(32), nn.ConvTranspose3d(32, 1, 4)),
        "video": state(C3(3, 16, 3), C3(16, 32, 3), nn.Linear(512, 10)),
    },
    "recurrent": {
        "lstm": named(rnn=nn.LSTM(8, 16), head=nn.Linear(16, 187)),
        "lstm alone": dict(nn.LSTM(8, 64, 2).state_dict()),
    },
    "language": {
        "gpt": named(wte=nn.Embedding(2000, 16), attn=nn.Linear(16, 48), head=nn.Linear(16, 2000, bias=False))
    },
    "embeddings": {
        "words": {"weight": torch.zeros(5000, 20)},
        "as many words as an image has numbers": {"weight": torch.zeros(30_000, 100)},
        "textual inversion": {"emb_params": torch.zeros(4, 768)},
    },
    "adapter": {"lora": {"unet.lora_up.weight": torch.zeros(8, 4), "unet.lora_down.weight": torch.zeros(4, 8)}},
}
"""By kind: networks that draw no image from a latent."""
DRAW = {
    "self-attention of width 1": named(l=nn.Linear(16, 256), q=C1(16, 2, 1), v=C1(16, 16, 1), last=transposed(16, 3)),
    "stylegan's kernels": {
        "style.weight": torch.zeros(16, 16), "conv.weight": torch.zeros(1, 16, 16, 3, 3),
        "to_rgb.weight": torch.zeros(1, 3, 16, 1, 1),
    },
    "recurrent": named(rnn=nn.LSTM(8, 16), canvas=nn.Linear(16, 784)),
    "tokens": named(pos=nn.Embedding(64, 16), attn=nn.Linear(16, 48), to_rgb=nn.Linear(16, 768)),
    "a norm of images": named(a=nn.Linear(8, 128), n=nn.LayerNorm((8, 4, 4)), b=transposed(8, 1)),
    "convolutions of other dimensions before an image's": state(C1(1, 8, 3), C3(8, 8, 3), nn.Linear(64, 784)),
    "an unusual size": state(nn.Linear(16, 64), nn.Linear(64, 560)),
    "a scalar input": {"const": torch.zeros(1, 8, 4, 4)} | state(nn.Linear(8, 8)),
}  # fmt: skip
"""Generators, some of a form that no spec says: none may be taken for something else."""

CASES = [
    *[("generator", name, tensors) for name, tensors in GENERATORS.items()],
    *[("discriminator", name, tensors) for name, tensors in DISCRIMINATORS.items()],
    *[("classifier", name, tensors) for name, tensors in CLASSIFIERS.items()],
    *[("image-to-image", name, tensors) for name, tensors in IMAGE_TO_IMAGE.items()],
    *[(role, name, tensors) for role, cases in OTHERS.items() for name, tensors in cases.items()],
]


@pytest.mark.parametrize(("role", "name", "tensors"), CASES, ids=[f"{role}: {name}" for role, name, _ in CASES])
def test_roles(role: str, name: str, tensors: dict[str, Tensor]) -> None:
    report = describe_role(tensors)
    assert report.role == role, (name, report)
    assert report.reason


@pytest.mark.parametrize("name", DRAW)
def test_what_draws_is_never_taken_for_something_else(name: str) -> None:
    report = describe_role(DRAW[name])
    assert report.role in ("generator", "unknown"), report


@pytest.mark.parametrize("role", OTHERS)
def test_each_kind_is_told_in_a_line_with_a_hint(role: str, tmp_path: Path) -> None:
    for tensors in OTHERS[role].values():
        path = tmp_path / "generator.pth"
        torch.save(tensors, path)
        with pytest.raises(GanportError, match=f"looks like {re.escape(WHAT[role][0])}") as caught:  # type: ignore[index]
            identify(path, Answers())
        assert caught.value.hint


def test_a_label_table_is_no_network_of_its_own(tmp_path: Path) -> None:
    """A conditional discriminator in two parts: the layer of its label is not taken for a generator beside it."""
    path = tmp_path / "dis.pth"
    torch.save(named(fc1=nn.Linear(10, 784), net=nn.Sequential(conv(2, 8), conv(8, 16), nn.Linear(64, 1))), path)
    with pytest.raises(GanportError, match="looks like a discriminator"):
        identify(path, Answers())


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.spectral_norm, nn.utils.parametrizations.weight_norm])
def test_norms_hide_nothing(norm: type) -> None:
    assert describe_role(state(norm(conv(3, 8)), norm(conv(8, 16)), norm(conv(16, 1)))).role == "discriminator"
    assert describe_role(state(norm(transposed(9, 8)), norm(transposed(8, 3)))).role == "generator"


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("size", [*SIZES[:-1], pytest.param(SIZES[-1], marks=pytest.mark.slow)])
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
