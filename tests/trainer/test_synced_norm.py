"""SyncedBatchNorm in a job of one process is torch's BatchNorm. (Several: tests/cli/test_gan_train_distributed.py.)"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]

from gan_trainer.distributed import Peers, SyncedBatchNorm, synchronise


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def pair(norm: nn.Module) -> tuple[nn.Module, nn.Module]:
    """`norm` inside a network, and the same synchronised."""
    first = nn.Sequential(norm)
    second = copy.deepcopy(first)
    synchronise(second, Peers())
    assert isinstance(second[0], SyncedBatchNorm)
    assert first.state_dict().keys() == second.state_dict().keys()
    return first, second


def output_and_gradients(network: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """The output, its gradients, and those of the gradient's norm, as a penalty takes them."""
    x = x.clone().requires_grad_(True)
    y = network(x)
    inputs = (x, *network.parameters())
    first = torch.autograd.grad(y.sigmoid().sum(), inputs, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), inputs, allow_unused=True)
    return (y, *first, *(gradient for gradient in second if gradient is not None))


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm2d(3), (4, 3, 5, 5)),
        (nn.BatchNorm1d(3, eps=0.8), (6, 3)),
        (nn.BatchNorm2d(2, affine=False, momentum=0.3), (2, 2, 3, 1)),
    ],
)
@pytest.mark.usefixtures("group")
def test_it_is_torchs(norm: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    first, second = pair(norm)
    for _ in range(3):
        x = torch.randn(shape) * 3 + 5
        torch.testing.assert_close(
            output_and_gradients(second, x), output_and_gradients(first, x), rtol=2e-4, atol=2e-5
        )
    torch.testing.assert_close(second.state_dict(), first.state_dict(), rtol=1e-5, atol=1e-6)
    x = torch.randn(shape)
    torch.testing.assert_close(second.eval()(x), first.eval()(x))


@pytest.mark.usefixtures("group")
def test_bfloat16_comes_back_as_bfloat16_from_statistics_in_float32() -> None:
    first, second = pair(nn.BatchNorm2d(3))
    x = torch.randn(4, 3, 8, 8).bfloat16()
    y = second(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), first(x.float()), rtol=0.02, atol=0.02)


def test_a_norm_without_running_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a BatchNorm with running statistics"):
        synchronise(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), Peers())


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_shares_cover_the_batch_and_weigh_one(n: int, world: int) -> None:
    peers = [Peers(rank, world) for rank in range(world)]
    parts = [list(range(n))[peer.share(n)] for peer in peers]
    assert sum(peer.weight for peer in peers) == pytest.approx(1)
    if n < world:
        assert parts == [list(range(n))] * world
        assert {peer.copies for peer in peers} == {world}
    else:
        assert [*itertools.chain(*parts)] == list(range(n))
        assert {len(part) for part in parts} <= {n // world, n // world + 1}
        assert [peer.weight for peer in peers] == [len(part) / n for part in parts]


def test_alone_everything_is_itself() -> None:
    peers, network = Peers(), nn.Linear(2, 2)
    assert peers.wrap(network, torch.device("cpu")) is network
    assert peers.agree(True, False) == (True, False)
    assert peers.said(lambda: 3) == peers.in_turn(lambda: 3) == 3
    assert torch.equal(peers.mean(torch.ones(2)), torch.ones(2))
