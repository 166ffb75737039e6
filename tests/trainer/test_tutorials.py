"""Two presets beside their tutorials, written out plainly: the same losses and the same weights, step by step.

The references keep the tutorials' own way: networks that end in a sigmoid, BCELoss, `.item()` every step.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from gan_serve.images import U8
from gan_trainer.batches import Batches
from gan_trainer.config import Limit
from gan_trainer.loop import Training
from gan_trainer.presets import preset
from trainer.conftest import CPU, StartRun, blobs

STEPS = 20
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


def test_mlp_mnist(start_run: StartRun) -> None:
    pixels_NHWC = blobs(45, 28, 1)
    training = start_run(
        preset("mlp-mnist"),
        Limit("steps", STEPS),
        pixels_NHWC=pixels_NHWC,
        width=WIDTH,
        batch_size=BATCH,
        report_every=1,
    )
    assert len({len(batch) for batch in batches(pixels_NHWC)}) == 2, "the last batch of an epoch is smaller"

    def block(before: int, after: int, normalize: bool = True) -> list[nn.Module]:
        layers: list[nn.Module] = [nn.Linear(before, after)]
        if normalize:
            layers.append(nn.BatchNorm1d(after, 0.8))
        return [*layers, nn.LeakyReLU(0.2, inplace=True)]

    w = WIDTH
    generator = nn.Sequential(
        *block(100, 2 * w, normalize=False), *block(2 * w, 4 * w), *block(4 * w, 8 * w), *block(8 * w, 16 * w),
        nn.Linear(16 * w, 784), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Linear(784, 8 * w), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(8 * w, 4 * w), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(4 * w, 1), nn.Sigmoid(),
    )  # fmt: skip
    copy_weights(training.state.generator, generator)
    copy_weights(training.state.discriminator, discriminator)
    optimizer_G = torch.optim.Adam(generator.parameters(), lr=0.0002, betas=(0.5, 0.999))
    optimizer_D = torch.optim.Adam(discriminator.parameters(), lr=0.0002, betas=(0.5, 0.999))
    adversarial_loss = nn.BCELoss()
    rng = torch.Generator().manual_seed(0)
    losses = []
    for imgs in batches(pixels_NHWC):
        valid, fake = torch.ones(imgs.size(0), 1), torch.zeros(imgs.size(0), 1)
        real_imgs = imgs.view(imgs.size(0), -1)
        optimizer_G.zero_grad()
        z = torch.randn(imgs.size(0), 100, generator=rng)
        gen_imgs = generator(z)
        validity = discriminator(gen_imgs)
        g_loss = adversarial_loss(validity, valid)
        g_loss.backward()
        optimizer_G.step()
        optimizer_D.zero_grad()
        real_validity = discriminator(real_imgs)
        fake_validity = discriminator(gen_imgs.detach())
        d_loss = (adversarial_loss(real_validity, valid) + adversarial_loss(fake_validity, fake)) / 2
        d_loss.backward()
        optimizer_D.step()
        D_x, D_G_z1, D_G_z2 = (scores.mean().item() for scores in (real_validity, fake_validity, validity))
        losses.append((d_loss.item(), g_loss.item(), D_x, D_G_z1, D_G_z2))

    train_and_compare(training, losses, generator, discriminator)


def test_dcgan64(start_run: StartRun) -> None:
    pixels_NHWC = blobs(45, 64, 3)
    training = start_run(
        preset("dcgan64"), Limit("steps", STEPS), pixels_NHWC=pixels_NHWC, width=WIDTH, batch_size=BATCH, report_every=1
    )
    nz, nc, ngf, ndf = 100, 3, WIDTH, WIDTH
    netG = nn.Sequential(
        nn.ConvTranspose2d(nz, ngf * 8, 4, 1, 0, bias=False), nn.BatchNorm2d(ngf * 8), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 8, ngf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 4), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 2), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf), nn.ReLU(True),
        nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    netD = nn.Sequential(
        nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 2), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(ndf * 2, ndf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 4), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(ndf * 4, ndf * 8, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 8), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(ndf * 8, 1, 4, 1, 0, bias=False), nn.Sigmoid(),
    )  # fmt: skip
    copy_weights(training.state.generator, netG)
    copy_weights(training.state.discriminator, netD)
    criterion = nn.BCELoss()
    optimizerD = torch.optim.Adam(netD.parameters(), lr=0.0002, betas=(0.5, 0.999))
    optimizerG = torch.optim.Adam(netG.parameters(), lr=0.0002, betas=(0.5, 0.999))
    rng = torch.Generator().manual_seed(0)
    losses = []
    for real in batches(pixels_NHWC):
        b_size = real.size(0)
        netD.zero_grad()
        label = torch.full((b_size,), 1.0)
        output = netD(real).view(-1)
        errD_real = criterion(output, label)
        errD_real.backward()
        D_x = output.mean().item()
        noise = torch.randn(b_size, nz, generator=rng).view(b_size, nz, 1, 1)
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

    train_and_compare(training, losses, netG, netD)


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
