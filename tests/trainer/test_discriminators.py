"""Discriminators mirror their generators; losses are the tutorials'."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from gan_core.errors import GanportError
from gan_trainer.discriminators import Discriminator, initialise
from gan_trainer.losses import LOSSES, fake_loss, real_loss, score
from gan_trainer.networks.architectures import ARCHITECTURES, SIZES, network_spec
from gan_trainer.networks.generator import build
from gan_trainer.recipes import Loss


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_one_logit_per_image(arch: str, size: int, channels: int) -> None:
    logits = Discriminator(arch, (channels, size, size), width=2)(torch.randn(3, channels, size, size))
    assert logits.shape == (3,)
    assert not isinstance(list(Discriminator(arch, (channels, size, size), 2).modules())[-1], nn.Sigmoid)


@pytest.mark.parametrize("size", SIZES)
def test_dcgan_is_the_generator_backwards(size: int) -> None:
    """Same kernels, strides and paddings; channels the other way round, except at the two ends."""
    generator = build(network_spec("dcgan", size, 3, width=4, z_dim=10))
    discriminator = Discriminator("dcgan", (3, size, size), width=4)
    up = [m for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    down = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
    geometry = [(m.kernel_size, m.stride, m.padding, m.in_channels) for m in down[:-1]]
    assert geometry == [(m.kernel_size, m.stride, m.padding, m.out_channels) for m in reversed(up[1:])]
    assert (down[-1].kernel_size, down[-1].out_channels) == (up[0].kernel_size, 1)
    assert all(m.bias is None for m in down)


def test_dcgan64_is_the_tutorials() -> None:
    """PyTorch's DCGAN tutorial, layer for layer, at ndf 64: 2,765,568 weights."""
    layers = list(Discriminator("dcgan", (3, 64, 64), width=64).layers)
    kinds = [type(layer).__name__ for layer in layers]
    block = ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert kinds == ["Conv2d", "LeakyReLU", *block, *block, *block, "Conv2d"]
    assert sum(weight.numel() for weight in nn.Sequential(*layers).parameters()) == 2_765_568
    assert all(layer.negative_slope == 0.2 for layer in layers if isinstance(layer, nn.LeakyReLU))


def test_dcgan96_starts_with_kernel_5_stride_3() -> None:
    first = Discriminator("dcgan", (3, 96, 96), width=64).layers[0]
    assert isinstance(first, nn.Conv2d)
    assert (first.kernel_size, first.stride, first.padding) == ((5, 5), (3, 3), (1, 1))


def test_mlp_is_the_tutorials() -> None:
    linear = [m for m in Discriminator("mlp", (1, 28, 28), width=64).modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(784, 512), (512, 256), (256, 1)]


def test_unknown_architecture() -> None:
    with pytest.raises(GanportError, match="unknown architecture 'vit'"):
        Discriminator("vit", (1, 28, 28), 4)


def test_dcgan_initialisation() -> None:
    torch.manual_seed(0)
    network = build(network_spec("dcgan", 64, 3, width=32))
    initialise(network, "dcgan")
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert abs(module.weight.mean().item()) < 1e-3
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1.0, abs=0.02)
            assert 0.005 < module.weight.std().item() < 0.04
            assert module.bias.count_nonzero() == 0


@pytest.mark.parametrize("size", [64, 96])
def test_bilinear_initialisation_leaves_no_checkerboard(size: int) -> None:
    torch.manual_seed(0)
    network = build(network_spec("dcgan", size, 3, width=16))
    initialise(network, "bilinear")
    layers = [module for module in network.modules() if isinstance(module, nn.ConvTranspose2d)]
    assert layers[0].weight[:, :, 0, 0].ne(layers[0].weight[:, :, 1, 1]).all(), "stride 1: as DCGAN has it"
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.2)
    for layer in layers[1:]:
        flat = layer(torch.rand(1, layer.in_channels, 1, 1).expand(-1, -1, 4, 4))[:, :, 4:-4, 4:-4]
        torch.testing.assert_close(flat, flat[:, :, :1, :1].expand_as(flat))


def test_torchs_own_initialisation_is_left_alone() -> None:
    network = Discriminator("dcgan", (1, 28, 28), 4)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    initialise(network, "torch")
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_losses_are_sigmoid_and_bce() -> None:
    logits = torch.linspace(-6, 6, 25, requires_grad=True)
    bce, ones, zeros = nn.BCELoss(), torch.ones(25), torch.zeros(25)
    pairs = ((real_loss(logits), bce(logits.sigmoid(), ones)), (fake_loss(logits), bce(logits.sigmoid(), zeros)))
    for ours, tutorials in pairs:
        torch.testing.assert_close(ours, tutorials)
        torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, tutorials)))


def test_losses_stay_finite_and_steep_where_the_sigmoid_is_flat() -> None:
    logits = torch.tensor([-200.0, 200.0], requires_grad=True)
    loss = real_loss(logits) + fake_loss(logits)
    assert loss.item() == pytest.approx(200.0)
    gradient = torch.autograd.grad(loss, logits)[0]
    torch.testing.assert_close(gradient, torch.tensor([-0.5, 0.5]))


@pytest.mark.parametrize("loss", get_args(Loss))
def test_a_score_is_a_probability_where_the_loss_fixes_zero(loss: Loss) -> None:
    logits = torch.linspace(-6, 9, 25)
    moves = "wasserstein", "relativistic"
    torch.testing.assert_close(score(logits, loss), (logits if loss in moves else logits.sigmoid()).mean())
    gan = LOSSES[loss]
    moved = gan.d_of(logits + 3, logits.flip(0) + 3).allclose(gan.d_of(logits, logits.flip(0)))
    assert moved == (loss in moves)


@pytest.mark.parametrize("loss", ["hinge", "wasserstein"])
def test_scores_carry_no_gradient(loss: Loss) -> None:
    assert not score(torch.zeros(3, requires_grad=True), loss).requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_spectral_norm_bounds_every_layer_and_replaces_batch_norm(arch: str) -> None:
    torch.manual_seed(0)
    network = Discriminator(arch, (1, 28, 28), width=4, norm="spectral")
    initialise(network, "dcgan")
    for _ in range(100):  # one power iteration a pass
        network(torch.randn(2, 1, 28, 28))
    weighted = [m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert all(m.bias is not None for m in weighted)
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for module in weighted:
        assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.02)


def test_initialisation_reaches_the_weights_under_spectral_norm() -> None:
    torch.manual_seed(0)
    network = Discriminator("dcgan", (1, 64, 64), width=16, norm="spectral")
    initialise(network, "dcgan")
    originals = [p for name, p in network.named_parameters() if name.endswith("original") and p.numel() > 5000]
    assert originals
    for weight in originals:
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_hinge_is_its_equation() -> None:
    logits = torch.tensor([-2.0, 0.5, 3.0])
    hinge = LOSSES["hinge"]
    assert hinge.d_real(logits).item() == pytest.approx((3 + 0.5 + 0) / 3)
    assert hinge.d_fake(logits).item() == pytest.approx((0 + 1.5 + 4) / 3)
    assert hinge.g(logits).item() == pytest.approx(-0.5)
