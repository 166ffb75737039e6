"""A decoder's encoder is read from its weights, finds latents in images again, and shows those of the training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.forensics_nets import ENOUGH
from gan_export.answers import Answers
from gan_export.draft import Draft
from gan_export.forensics.statistics import FITS
from gan_export.hypotheses.encoder import Encoder, noise, read_encoders
from gan_export.identify import identify, module_of
from gan_export.reading import read_checkpoint

pytestmark = pytest.mark.slow

LATENT = 4


def pooled() -> nn.ModuleDict:
    """Convolutions with BatchNorm and poolings, which only the numbers of the layers behind them show."""
    first = nn.Sequential(nn.Conv2d(1, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
    second = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, 1, 1), nn.BatchNorm2d(12), nn.ReLU())
    third = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(12, 16, 2, 1, 0), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten())
    return nn.ModuleDict({"c1": first, "c2": second, "c3": third})


class Vae(nn.Module):
    """Any encoder, and a decoder of convolutions with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = pooled()
        self.fc_mean, self.fc_var = nn.Linear(16 * 36, LATENT), nn.Linear(16 * 36, LATENT)
        self.decode = nn.Sequential(
            nn.Linear(LATENT, 8 * 49), nn.Unflatten(1, (8, 7, 7)),
            nn.ConvTranspose2d(8, 12, 4, 2, 1), nn.BatchNorm2d(12), nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(12, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Sigmoid(),
        )  # fmt: skip

    def encoded(self, image: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.encode.values():
            image = block(image)
        return self.fc_mean(image), self.fc_var(image)

    def forward(self, image: Tensor) -> Tensor:
        mean, log_variance = self.encoded(image)
        made: Tensor = self.decode(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
        return made


def discs(n: int) -> Tensor:
    """White discs on black, (n, 1, 28, 28) in [0, 1]."""
    place, size = torch.rand(n, 2) - 0.5, 0.2 + 0.2 * torch.rand(n, 1, 1)
    grid = torch.linspace(-1.0, 1.0, 28)
    far = (grid[None, :, None] - place[:, :1, None]) ** 2 + (grid[None, None, :] - place[:, 1:, None]) ** 2
    return ((size - far.sqrt()) * 10.0).clamp(0.0, 1.0)[:, None]


@pytest.fixture(scope="module")
def vae() -> Vae:
    """One whose BatchNorms have seen discs, and what the encoder makes of them."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        made = Vae().train()
        for part in made.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.bias, -0.5, 0.5)
        with torch.no_grad():
            made.fc_mean.weight.mul_(8.0)
            for _ in range(ENOUGH):
                made(discs(64))
    return made.eval()


@pytest.fixture(scope="module")
def checkpoint(vae: Vae, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vae") / "vae.pth"
    torch.save(vae.state_dict(), path)
    return path


def read(checkpoint: Path) -> list[Encoder]:
    return read_encoders(read_checkpoint(checkpoint).encoder, (1, 28, 28), 0, LATENT)


def test_it_makes_what_its_module_makes(vae: Vae, checkpoint: Path) -> None:
    first = next(one for one in read(checkpoint) if one.slope == 0.0)  # with every pooling in its place
    x = torch.rand(6, 1, 28, 28)
    with torch.inference_mode():
        torch.testing.assert_close(first.outputs(x)[0], torch.cat(vae.encoded(x), dim=1))
    assert first.norms == 3


def test_its_latents_lie_where_those_of_the_training_lay(vae: Vae, checkpoint: Path) -> None:
    first = read(checkpoint)[0]
    with torch.inference_mode():
        torch.manual_seed(1)
        mean, log_variance = vae.encoded(discs(2000))
        shown = first.latents(2000, 0)
    assert shown.shape == (2000, LATENT)
    assert torch.equal(shown, first.latents(2000, 0))
    assert not torch.equal(shown, first.latents(2000, 1))
    seen = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
    assert float((shown.mean(dim=0) - seen.mean(dim=0)).abs().max()) < 0.5 * float(seen.std())
    assert float(seen.mean(dim=0).abs().max()) > 1.0  # which those of N(0, 1) miss by far
    assert bool(((shown.std(dim=0) / seen.std(dim=0)).log().abs() < 0.7).all())


@pytest.mark.long
def test_the_statistics_are_asked_with_such_latents(vae: Vae, checkpoint: Path) -> None:
    notes: list[str] = []
    draft = identify(checkpoint, Answers(output="sigmoid"), notes.append).draft
    assert draft is not None
    assert any("latents as the encoder makes them" in note for note in notes)
    assert callable(draft.trained)
    assert max(draft.fits) < 4 * FITS
    z = torch.randn(8, LATENT)  # what it generates from is N(0, 1) all the same
    torch.testing.assert_close(module_of(draft)(z), vae.decode(z))


def test_noise_is_alike_from_pixel_to_pixel_and_from_channel_to_channel() -> None:
    made = noise(64, (3, 16, 24), 0)
    assert made.shape == (64, 3, 16, 24)
    assert torch.equal(made, noise(64, (3, 16, 24), 0))
    flat = made - made.mean()
    assert float((flat[..., 1:] * flat[..., :-1]).mean() / flat.square().mean()) > 0.8
    assert float((flat[:, 0] * flat[:, 1]).mean() / flat.square().mean()) > 0.6
    assert 0.4 < float(made.mean()) < 0.6


def test_a_damaged_encoder_does_not_matter(vae: Vae, tmp_path: Path) -> None:
    held = vae.state_dict() | {"encode.c1.0.weight": torch.full((8, 1, 3, 3), torch.nan)}
    torch.save(held, tmp_path / "vae.pth")
    reading = read_checkpoint(tmp_path / "vae.pth")
    assert reading.encoder == {}
    assert reading.decoder is not None


def trained() -> nn.ModuleDict:
    """A VAE without BatchNorm, taught discs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.ModuleDict({
            "fc1": nn.Linear(784, 64), "fc21": nn.Linear(64, LATENT), "fc22": nn.Linear(64, LATENT),
            "fc3": nn.Linear(LATENT, 64), "fc4": nn.Linear(64, 784),
        })  # fmt: skip
        optimiser = torch.optim.Adam(net.parameters(), 2e-3)
        for _ in range(600):
            image = discs(64).flatten(1)
            hidden = F.relu(net["fc1"](image))
            mean, log_variance = net["fc21"](hidden), net["fc22"](hidden)
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            fit = F.binary_cross_entropy_with_logits(net["fc4"](F.relu(net["fc3"](z))), image, reduction="sum")
            loss = (fit - 0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()) / 64
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval()


def test_it_knows_the_images_of_the_right_decoder(tmp_path: Path) -> None:
    net = trained()

    def said(held: dict[str, Tensor], name: str) -> Draft:
        torch.save(held, tmp_path / name)
        draft = identify(tmp_path / name, Answers(), lambda _: None).draft
        assert draft is not None
        return draft

    whole = said(net.state_dict(), "vae.pth")
    alone = said({key: tensor for key, tensor in net.state_dict().items() if key[2] in "34"}, "decoder.pth")
    z = torch.randn(8, LATENT)
    drawn = torch.sigmoid(net["fc4"](F.relu(net["fc3"](z)))).reshape(8, 1, 28, 28)
    torch.testing.assert_close(module_of(whole)(z), drawn)
    assert whole.odds is not None
    assert alone.odds is not None
    assert whole.odds > 3.0 * alone.odds
    assert any("the encoder" in choice.reason for choice in whole.choices)
    assert not any("the encoder" in choice.reason for choice in alone.choices)
