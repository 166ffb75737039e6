"""What is remembered of a training: averaged weights, and the losses of every step."""

from __future__ import annotations

import pytest
import torch

from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import build
from gan_trainer.state import Ema, History


def test_decay_ramps_up_to_beta() -> None:
    ema = Ema(build(network_spec("mlp", 28, 1, width=1, z_dim=2)), 0.99)
    assert ema.decay(0) == pytest.approx(0.1)
    assert ema.decay(90) == pytest.approx(0.91)
    assert ema.decay(10**6) == 0.99
    decays = [ema.decay(t) for t in range(2000)]
    assert decays == sorted(decays)


def test_average_by_hand_weights_and_buffers() -> None:
    generator = build(network_spec("dcgan", 28, 1, width=1, z_dim=2))
    ema = Ema(generator, 0.5)
    expected = {name: tensor.clone().double() for name, tensor in generator.state_dict().items()}
    for step in range(5):
        generator(torch.randn(4, 2))  # moves the running statistics
        with torch.no_grad():
            for weight in generator.parameters():
                weight.add_(torch.randn_like(weight))
        ema.update(generator, step)
        beta = min(0.5, (1 + step) / (10 + step))
        for name, tensor in generator.state_dict().items():
            floats = tensor.is_floating_point()
            expected[name] = beta * expected[name] + (1 - beta) * tensor if floats else tensor.double()
    for name, tensor in ema.module.state_dict().items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert any("running_var" in name for name in expected)
    assert ema.module.state_dict()["layers.2.num_batches_tracked"] == 5


def test_average_is_its_own_module_in_eval_mode() -> None:
    generator = build(network_spec("dcgan", 28, 1, width=1, z_dim=2))
    ema = Ema(generator, 0.9)
    assert not ema.module.training
    assert not any(weight.requires_grad for weight in ema.module.parameters())
    before = ema.module.state_dict()["layers.1.weight"].clone()
    with torch.no_grad():
        next(generator.parameters()).zero_()
    assert torch.equal(ema.module.state_dict()["layers.1.weight"], before)


def steps(n: int, start: int = 0) -> torch.Tensor:
    return torch.arange(start, start + n).float()[:, None].expand(-1, 5).clone()


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_history_keeps_means_when_it_grows_long(chunk: int) -> None:
    history = History(limit=16)
    for start in range(0, 100, chunk):
        history.extend(steps(min(chunk, 100 - start), start))
    assert len(history.values) < 16
    rows = len(history.values)
    assert rows * history.stride + len(history.pending) == 100
    wanted = steps(rows * history.stride).reshape(rows, history.stride, 5).mean(1)
    torch.testing.assert_close(history.values, wanted)


def test_short_history_is_exact() -> None:
    history = History()
    history.extend(steps(10))
    assert history.stride == 1
    assert torch.equal(history.values, steps(10))


def test_history_resumes() -> None:
    straight, first = History(limit=16), History(limit=16)
    straight.extend(steps(60))
    first.extend(steps(37))
    second = History(limit=16)
    second.load_state_dict(first.state_dict())
    second.extend(steps(23, 37))
    assert second.stride == straight.stride
    torch.testing.assert_close(second.values, straight.values)
