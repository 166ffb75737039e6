"""Every tutorial's preset beside its tutorial, written out plainly: the same losses and the same weights, step by step.

The references keep the tutorials' own way: networks that end in a sigmoid, BCELoss, `.item()` every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_core.arrays import U8
from gan_trainer.batches import Batches
from gan_trainer.config import Limit
from gan_trainer.loop import Training
from gan_trainer.presets import TUTORIALS, preset
from gan_trainer.speed import PLAIN, Speed
from trainer.conftest import CPU, CPU_SPEED, StartRun, blobs

pytestmark = pytest.mark.slow

Loop = Callable[[nn.Module, nn.Module, Iterator[Tensor], float], list[tuple[float, ...]]]

STEPS = 15
WIDTH = 4
BATCH = 10


def batches(pixels_NHWC: U8) -> Iterator[Tensor]:
    """ToTensor, Normalize(0.5, 0.5), in the order that seed 0 gives."""
    shuffled = Batches(pixels_NHWC, BATCH, 0, CPU)
    for step in range(STEPS):
        epoch, index = divmod(step, shuffled.per_epoch)
        chosen = shuffled.order(epoch)[index * BATCH : (index + 1) * BATCH].numpy()
        images_NCHW = torch.from_numpy(pixels_NHWC[chosen]).permute(0, 3, 1, 2) / 255
        yield (images_NCHW - 0.5) / 0.5


def copy_weights(ours: nn.Module, reference: nn.Module) -> None:
    """Both list the same tensors in the same order, under other names."""
    values = list(ours.state_dict().values())
    names = list(reference.state_dict())
    assert len(values) == len(names)
    reference.load_state_dict(dict(zip(names, values, strict=True)))


def flat(network: nn.Module) -> Tensor:
    return torch.cat([tensor.flatten().double() for tensor in network.state_dict().values()])


def train_and_compare(training: Training, losses: list[tuple[float, ...]], G: nn.Module, D: nn.Module) -> None:
    networks = ((training.state.generator, G), (training.state.discriminator, D))
    before = [flat(mine) for mine, _ in networks]
    training.run()
    log = training.run_dir.read_log()
    ours = [tuple(line[name] for name in ("loss_d", "loss_g", "d_x", "d_g_z1", "d_g_z2")) for line in log]
    # Rounding (a sigmoid and a log on one side, logits on the other) grows with every step of so small a GAN.
    torch.testing.assert_close(torch.tensor(ours[:8]), torch.tensor(losses[:8]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(losses), rtol=0.02, atol=0.01)
    for (mine, theirs), start in zip(networks, before, strict=True):
        # Adam turns the rounding of a gradient near 0 into a whole step, so weights are compared all together.
        moved = (flat(mine) - start).norm()
        assert (flat(mine) - flat(theirs)).norm() < 0.05 * moved


def mlp() -> tuple[nn.Module, nn.Module]:
    """PyTorch-GAN's gan.py."""

    def block(before: int, after: int, normalize: bool = True) -> list[nn.Module]:
        layers: list[nn.Module] = [nn.Linear(before, after)]
        if normalize:
            layers.append(nn.BatchNorm1d(after, 0.8))
        return [*layers, nn.LeakyReLU(0.2, inplace=True)]

    w = WIDTH
    generator = nn.Sequential(
        *block(100, 2 * w, normalize=False), *block(2 * w, 4 * w), *block(4 * w, 8 * w), *block(8 * w, 16 * w),
        nn.Linear(16 * w, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28)),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 8 * w), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(8 * w, 4 * w), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(4 * w, 1), nn.Sigmoid(),
    )  # fmt: skip
    return generator, discriminator


def dcgan(nc: int, kernel: int = 4, stride: int = 2) -> tuple[nn.Module, nn.Module]:
    """PyTorch's DCGAN tutorial; `kernel` and `stride` are of the layer next to the image: 5 and 3 for 96 pixels."""
    nz, ngf, ndf = 100, WIDTH, WIDTH
    netG = nn.Sequential(
        nn.Unflatten(1, (nz, 1, 1)),
        nn.ConvTranspose2d(nz, ngf * 8, 4, 1, 0, bias=False), nn.BatchNorm2d(ngf * 8), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 8, ngf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 4), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 2), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf), nn.ReLU(True),
        nn.ConvTranspose2d(ngf, nc, kernel, stride, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    netD = nn.Sequential(
        nn.Conv2d(nc, ndf, kernel, stride, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 2), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(ndf * 2, ndf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 4), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(ndf * 4, ndf * 8, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 8), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(ndf * 8, 1, 4, 1, 0, bias=False), nn.Sigmoid(),
    )  # fmt: skip
    return netG, netD


def g_first(
    generator: nn.Module, discriminator: nn.Module, images: Iterator[Tensor], lr: float
) -> list[tuple[float, ...]]:
    """PyTorch-GAN's loop: G, then D on the mean of its two losses."""
    optimizer_G = torch.optim.Adam(generator.parameters(), lr=lr, betas=(0.5, 0.999))
    optimizer_D = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=(0.5, 0.999))
    adversarial_loss = nn.BCELoss()
    rng = torch.Generator().manual_seed(0)
    losses: list[tuple[float, ...]] = []
    for real_imgs in images:
        n = real_imgs.size(0)
        valid, fake = torch.ones(n, 1), torch.zeros(n, 1)
        optimizer_G.zero_grad()
        z = torch.randn(n, 100, generator=rng)
        gen_imgs = generator(z)
        validity = discriminator(gen_imgs).view(-1, 1)
        g_loss = adversarial_loss(validity, valid)
        g_loss.backward()
        optimizer_G.step()
        optimizer_D.zero_grad()
        real_validity = discriminator(real_imgs).view(-1, 1)
        fake_validity = discriminator(gen_imgs.detach()).view(-1, 1)
        d_loss = (adversarial_loss(real_validity, valid) + adversarial_loss(fake_validity, fake)) / 2
        d_loss.backward()
        optimizer_D.step()
        D_x, D_G_z1, D_G_z2 = (scores.mean().item() for scores in (real_validity, fake_validity, validity))
        losses.append((d_loss.item(), g_loss.item(), D_x, D_G_z1, D_G_z2))
    return losses


def d_first(netG: nn.Module, netD: nn.Module, images: Iterator[Tensor], lr: float) -> list[tuple[float, ...]]:
    """The DCGAN tutorial's loop: D on reals, D on fakes, then G on the same fakes."""
    criterion = nn.BCELoss()
    optimizerD = torch.optim.Adam(netD.parameters(), lr=lr, betas=(0.5, 0.999))
    optimizerG = torch.optim.Adam(netG.parameters(), lr=lr, betas=(0.5, 0.999))
    rng = torch.Generator().manual_seed(0)
    losses: list[tuple[float, ...]] = []
    for real in images:
        b_size = real.size(0)
        netD.zero_grad()
        label = torch.full((b_size,), 1.0)
        output = netD(real).view(-1)
        errD_real = criterion(output, label)
        errD_real.backward()
        D_x = output.mean().item()
        noise = torch.randn(b_size, 100, generator=rng)
        fake = netG(noise)
        label.fill_(0.0)
        output = netD(fake.detach()).view(-1)
        errD_fake = criterion(output, label)
        errD_fake.backward()
        D_G_z1 = output.mean().item()
        errD = errD_real + errD_fake
        optimizerD.step()
        netG.zero_grad()
        label.fill_(1.0)
        output = netD(fake).view(-1)
        errG = criterion(output, label)
        errG.backward()
        D_G_z2 = output.mean().item()
        optimizerG.step()
        losses.append((errD.item(), errG.item(), D_x, D_G_z1, D_G_z2))
    return losses


REFERENCES: dict[str, tuple[int, int, Callable[[], tuple[nn.Module, nn.Module]], Loop, float]] = {
    # preset: size, channels, networks, loop, learning rate
    "gan-basic": (64, 1, lambda: dcgan(1), g_first, 2e-4),
    "mlp-mnist": (28, 1, mlp, g_first, 2e-4),
    "dcgan64": (64, 3, lambda: dcgan(3), d_first, 2e-4),
    "dcgan64-facades": (64, 3, lambda: dcgan(3), d_first, 2e-4),
    "dcgan96": (96, 3, lambda: dcgan(3, 5, 3), d_first, 1e-4),
}


TRAINED: dict[tuple[Any, ...], tuple[list[tuple[float, ...]], nn.Module, nn.Module]] = {}
"""What each reference has come to, its losses and networks."""


def test_every_tutorial_has_a_reference() -> None:
    assert set(REFERENCES) == set(TUTORIALS)


@pytest.mark.parametrize("speed", [PLAIN, CPU_SPEED], ids=["plain", "auto"])
@pytest.mark.parametrize("name", REFERENCES)
def test_preset(name: str, speed: Speed, start_run: StartRun) -> None:
    """As it is computed plainly, and as gan-train computes it here by itself."""
    size, channels, networks, loop, lr = REFERENCES[name]
    pixels_NHWC = blobs(45, size, channels)
    training = start_run(
        preset(name).override(size=size, channels=channels), Limit("steps", STEPS), pixels_NHWC=pixels_NHWC,
        width=WIDTH, batch_size=BATCH, report_every=1, sample_every=1000, speed=speed,
    )  # fmt: skip
    assert len({len(batch) for batch in batches(pixels_NHWC)}) == 2, "the last batch of an epoch is smaller"
    key = (size, channels, loop, lr)  # the seed gives all of them the same weights
    if key not in TRAINED:
        generator, discriminator = networks()
        copy_weights(training.state.generator, generator)
        copy_weights(training.state.discriminator, discriminator)
        TRAINED[key] = loop(generator, discriminator, batches(pixels_NHWC), lr), generator, discriminator
    train_and_compare(training, *TRAINED[key])


@pytest.mark.parametrize("change", [{"order": "g_first"}, {"d_loss": "mean"}, {"lr": 1e-3}])
def test_every_part_of_the_recipe_counts(change: dict[str, object], start_run: StartRun) -> None:
    """What the references above could not tell apart would be tested by nothing. (Adam does not see a loss's scale.)"""
    changes = {"lr_g": 1e-3, "lr_d": 1e-3} if "lr" in change else change
    tiny = {"width": WIDTH, "batch_size": BATCH, "report_every": 1}
    runs = [
        start_run(preset("dcgan64"), Limit("steps", 4), name, **tiny, **more)
        for name, more in (("a", {}), ("b", changes))
    ]
    for training in runs:
        training.run()
    losses = torch.tensor([[(line["loss_d"], line["loss_g"]) for line in run.run_dir.read_log()] for run in runs])
    assert (losses[0] - losses[1]).abs().max() > 0.01
