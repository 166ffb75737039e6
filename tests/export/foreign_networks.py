"""Generators as strangers write them, tiny where their code leaves a width free: what drafts are compared with."""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gan_core.spec.generator_spec import flat
from gan_export.draft import Draft
from gan_trainer.networks.generator import build


def settled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that keep signals near 1, and BatchNorms that remember something: every choice changes the image."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            fan = part.weight[0].numel() if not isinstance(part, nn.ConvTranspose2d) else part.weight[:, 0].numel() / 4
            with torch.no_grad():
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator) / math.sqrt(max(fan, 1.0)))
                if part.bias is not None:
                    part.bias.copy_(0.3 * torch.randn(part.bias.shape, generator=generator))
        elif isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)) and part.running_mean is not None:
            with torch.no_grad():
                part.running_mean.copy_(0.3 * torch.randn(part.num_features, generator=generator))
                part.running_var.copy_(0.2 + torch.rand(part.num_features, generator=generator))  # type: ignore[union-attr]
                if part.affine:
                    part.weight.copy_(0.5 + torch.rand(part.num_features, generator=generator))
                    part.bias.copy_(0.3 * torch.randn(part.num_features, generator=generator))
    return module.eval()


class _LastNormError(Exception):
    """The last BatchNorm has seen its batch: nothing behind it remembers."""


def feed(module: nn.Module, batches: Iterable[tuple[Tensor | None, ...]]) -> None:
    """Runs `batches` through `module` in train mode, all but the first no further than its last BatchNorm."""
    count, last = 0, 0

    def seen(*_: object) -> None:
        nonlocal count
        count += 1
        if count == last:
            raise _LastNormError

    norms = [part for part in module.train().modules() if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d))]
    hooks = [norm.register_forward_hook(seen) for norm in norms]
    with torch.no_grad():
        for batch in batches:
            count = 0
            with contextlib.suppress(_LastNormError):
                module(*batch)
            last = count
    for hook in hooks:
        hook.remove()


def fed(module: nn.Module, *z_shape: int, batches: int = 100, batch: int = 64, seed: int = 0) -> nn.Module:
    """`module` after `batches` of N(0, 1) latents in train mode: its BatchNorms remember what its own weights make."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        feed(module, ((torch.randn(batch, *z_shape),) for _ in range(batches)))
    return module.eval()


def difference(draft: Draft, module: nn.Module, z_shape: tuple[int, ...] = (), n: int = 3) -> float:
    """max |Δ| between a draft and the module it was drafted from, on the same latents (and all labels)."""
    spec = draft.spec
    drafted = build(spec).eval()
    found = drafted.load_state_dict(flat(draft.weights), strict=False)
    assert not found.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in found.missing_keys)
    z = torch.randn(n, spec.interface.z_dim, generator=torch.Generator().manual_seed(7))
    labels = (torch.arange(n) % spec.interface.n_classes,) if spec.interface.n_classes else ()
    with torch.no_grad():
        images = module(z.reshape(n, *z_shape) if z_shape else z, *labels).reshape(n, *spec.interface.image)
        return float((drafted(z, *labels) - images).abs().max())


def sequential(*layers: nn.Module, prefix: str = "main") -> nn.Module:
    """Layers as `prefix.0`, `prefix.1` …"""
    return nn.Sequential(OrderedDict([(prefix, nn.Sequential(*layers))]))


def examples_dcgan(
    size: int = 64, nz: int = 5, nc: int = 3, *, kernel: int = 4, prefix: str = "main", bias: bool = False
) -> nn.Module:
    """pytorch/examples dcgan; `kernel` of the last layer 4, 5 (s3 p1) or 1 (p2)."""
    steps = int(math.log2({5: size // 3, 1: size + 4}.get(kernel, size // 2))) - 2
    width, layers = 2 * 2**steps, list[nn.Module]()
    layers += [nn.ConvTranspose2d(nz, width, 4, 1, 0, bias=bias), nn.BatchNorm2d(width), nn.ReLU(True)]
    for _ in range(steps):
        layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=bias), nn.BatchNorm2d(width // 2), nn.ReLU(True)]
        width //= 2
    stride, padding = {5: (3, 1), 1: (1, 2)}.get(kernel, (2, 1))
    layers += [nn.ConvTranspose2d(width, nc, kernel, stride, padding, bias=bias), nn.Tanh()]
    return sequential(*layers, prefix=prefix)


class GanMlp(nn.Module):
    """PyTorch-GAN gan and cgan: the embedding first, then z."""

    def __init__(self, z_dim: int = 6, image: tuple[int, int, int] = (1, 8, 8), n_classes: int = 0) -> None:
        super().__init__()
        self.conditional = n_classes > 0
        if n_classes:
            self.label_emb = nn.Embedding(n_classes, n_classes)
        layers: list[nn.Module] = [nn.Linear(z_dim + n_classes, 128), nn.LeakyReLU(0.2)]
        for takes, makes in ((128, 256), (256, 512), (512, 1024)):
            layers += [nn.Linear(takes, makes), nn.BatchNorm1d(makes, 0.8), nn.LeakyReLU(0.2)]
        self.model = nn.Sequential(*layers, nn.Linear(1024, math.prod(image)), nn.Tanh())

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        x = torch.cat((self.label_emb(labels), z), -1) if labels is not None else z
        image: Tensor = self.model(x)
        return image


class GanConv(nn.Module):
    """PyTorch-GAN dcgan and acgan, and MNIST-Conditional-WGAN-gp."""

    def __init__(
        self, z_dim: int = 6, side: int = 7, nc: int = 1, *, join: str = "", activation: nn.Module | None = None,
        body: str = "conv_blocks",
    ) -> None:  # fmt: skip
        super().__init__()
        self.side, self.join, self.body = side, join, body
        if join:
            self.label_emb = nn.Embedding(10, z_dim if join == "multiply" else 10)
        act = activation or nn.LeakyReLU(0.2)
        self.l1 = nn.Sequential(nn.Linear(z_dim + (10 if join == "concatenate" else 0), 128 * side**2))
        layers = (
            nn.BatchNorm2d(128), nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 128, 3, padding=1), nn.BatchNorm2d(128, 0.8), act, nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 64, 3, padding=1), nn.BatchNorm2d(64, 0.8), act,
            nn.Conv2d(64, nc, 3, padding=1), nn.Tanh(),
        )  # fmt: skip
        setattr(self, body, nn.Sequential(*layers))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.join == "multiply":
            z = self.label_emb(labels) * z
        elif self.join:
            z = torch.cat((z, self.label_emb(labels)), -1)
        image: Tensor = getattr(self, self.body)(self.l1(z).reshape(len(z), 128, self.side, self.side))
        return image


class Znxlwm(nn.Module):
    """deconvN and deconvN_bn with functional ReLU."""

    def __init__(self, z_dim: int = 9, d: int = 2, nc: int = 1) -> None:
        super().__init__()
        widths = (z_dim, 8 * d, 4 * d, 2 * d, d, nc)
        for n in range(1, 6):
            stride, padding = (1, 0) if n == 1 else (2, 1)
            setattr(self, f"deconv{n}", nn.ConvTranspose2d(widths[n - 1], widths[n], 4, stride, padding))
            if n < 5:
                setattr(self, f"deconv{n}_bn", nn.BatchNorm2d(widths[n]))

    def forward(self, z: Tensor) -> Tensor:
        for n in range(1, 5):
            z = torch.relu(getattr(self, f"deconv{n}_bn")(getattr(self, f"deconv{n}")(z)))
        return torch.tanh(self.deconv5(z))  # type: ignore[operator]


class YunjeyDcgan(nn.Module):
    """fc without norm or activation, LeakyReLU 0.05."""

    def __init__(self, z_dim: int = 6, image_size: int = 32, d: int = 2) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.ConvTranspose2d(z_dim, 8 * d, image_size // 16, 1, 0))
        self.deconv1 = nn.Sequential(nn.ConvTranspose2d(8 * d, 4 * d, 4, 2, 1), nn.BatchNorm2d(4 * d))
        self.deconv2 = nn.Sequential(nn.ConvTranspose2d(4 * d, 2 * d, 4, 2, 1), nn.BatchNorm2d(2 * d))
        self.deconv3 = nn.Sequential(nn.ConvTranspose2d(2 * d, d, 4, 2, 1), nn.BatchNorm2d(d))
        self.deconv4 = nn.Sequential(nn.ConvTranspose2d(d, 3, 4, 2, 1))

    def forward(self, z: Tensor) -> Tensor:
        x = self.fc(z.reshape(*z.shape, 1, 1))
        for block in (self.deconv1, self.deconv2, self.deconv3):
            x = nn.functional.leaky_relu(block(x), 0.05)
        return torch.tanh(self.deconv4(x))


class EmilienDupont(nn.Module):
    """ReLU before each BatchNorm, sigmoid at the end."""

    def __init__(self, z_dim: int = 6, d: int = 2, side: int = 2) -> None:
        super().__init__()
        self.shape = (8 * d, side, side)
        self.latent_to_features = nn.Sequential(nn.Linear(z_dim, 8 * d * side**2), nn.ReLU())
        self.features_to_image = nn.Sequential(
            nn.ConvTranspose2d(8 * d, 4 * d, 4, 2, 1), nn.ReLU(), nn.BatchNorm2d(4 * d),
            nn.ConvTranspose2d(4 * d, 2 * d, 4, 2, 1), nn.ReLU(), nn.BatchNorm2d(2 * d),
            nn.ConvTranspose2d(2 * d, d, 4, 2, 1), nn.ReLU(), nn.BatchNorm2d(d),
            nn.ConvTranspose2d(d, 1, 4, 2, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.features_to_image(self.latent_to_features(z).reshape(len(z), *self.shape))
        return image


class DeepLearningAi(nn.Module):
    """gen.N.0 and gen.N.1, kernels 3, 4, 3, 4, no padding; conditional: z and a one-hot label."""

    def __init__(self, z_dim: int = 64, n_classes: int = 0, d: int = 2) -> None:
        super().__init__()
        self.n_classes = n_classes
        widths, steps = (z_dim + n_classes, 4 * d, 2 * d, d, 1), ((3, 2), (4, 1), (3, 2), (4, 2))
        blocks = []
        for n, (kernel, stride) in enumerate(steps):
            convolution = nn.ConvTranspose2d(widths[n], widths[n + 1], kernel, stride)
            rest = (nn.BatchNorm2d(widths[n + 1]), nn.ReLU()) if n < 3 else (nn.Tanh(),)
            blocks.append(nn.Sequential(convolution, *rest))
        self.gen = nn.Sequential(*blocks)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None:
            z = torch.cat((z, nn.functional.one_hot(labels, self.n_classes).float()), 1)
        image: Tensor = self.gen(z.reshape(*z.shape, 1, 1))
        return image
