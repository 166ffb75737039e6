"""Several processes that train one GAN, started by torchrun: torch.distributed and DistributedDataParallel.

The batch stays one: every process draws the whole batch's order and latents from the same streams and takes its slice
(`Peers.share`), BatchNorm sees the whole batch (`SyncedBatchNorm`), and DDP averages the gradients, each
weighted by its share. So the losses are those of one process, up to the rounding of sums. Process 0 writes every file.

    gradients, statistics, losses   gloo on CPUs, NCCL on GPUs
    decisions (stop, go on), state  gloo, on the CPU: nothing waits for a GPU
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import GradBucket, PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from gan_core.errors import GanportError, JobError

TIMEOUT = timedelta(hours=1)
"""How long a process waits for another that neither answers nor ends: longer than it takes to decode the data."""

MEETING = timedelta(minutes=5)
"""How long it may take until all have started."""

RUN_KEY = "ganport/run"
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
T = TypeVar("T")


@dataclass(frozen=True)
class Launch:
    """A process of a job: its number, how many there are, its number on its host, and where they meet."""

    rank: int
    world: int
    local_rank: int
    address: str
    port: int
    restarts: int = 0
    agent: bool = False
    """Whether torchrun keeps the meeting place; otherwise process 0 does."""


def read_launch() -> Launch:
    """The job that the environment tells of. Raises `GanportError` when it is incomplete or wrong."""
    hint = "start it with torchrun, which sets them all, or unset RANK and WORLD_SIZE to train in one process"
    missing = [name for name in NAMES if not os.environ.get(name)]
    if missing:
        raise GanportError(f"expected the environment of torchrun: {', '.join(NAMES)}; {missing[0]} is not set", hint)
    numbers = {}
    for name in (*NAMES[:3], NAMES[4], "TORCHELASTIC_RESTART_COUNT"):
        text = os.environ.get(name, "0")
        if not text.isdecimal():
            raise GanportError(f"{name} must be a whole number from 0, got {text!r}", hint)
        numbers[name] = int(text)
    rank, world, local_rank, port, restarts = numbers.values()
    if not rank < world:
        raise GanportError(f"RANK must lie below WORLD_SIZE, got {rank} and {world}", hint)
    if not local_rank <= rank:
        raise GanportError(f"LOCAL_RANK cannot exceed RANK, got {local_rank} and {rank}", hint)
    if not 0 < port < 1 << 16:
        raise GanportError(f"MASTER_PORT must be a port from 1 to 65535, got {port}", hint)
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Launch(rank, world, local_rank, os.environ["MASTER_ADDR"], port, restarts, agent)


def open_store(launch: Launch, timeout: timedelta, *, host: bool) -> TCPStore:
    """The job's meeting place, made anew (`host`) or visited. Raises RuntimeError when nobody is there."""
    return TCPStore(launch.address, launch.port, is_master=host, timeout=timeout, wait_for_workers=False)


@dataclass
class Peers:
    """The processes of a job as one of them sees it. `Peers()` is a process alone: everything below is then free.

    rank, world, local_rank   as torchrun counts them
    joined                    whether there is a process group
    weight, copies            of the batch at hand, see `gan_trainer.distributed.Share`; set by `share`
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    joined: bool = False
    weight: float = 1.0
    copies: int = 1
    restarted_run: Path | None = None
    _store: Any = None

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Which of the `n` images of the next batch are this process's.

        The shares differ by one image at most. A batch of fewer images than processes is computed by each as a whole.
        """
        if n < self.world:
            self.weight, self.copies = 1 / self.world, self.world
            return slice(0, n)
        start, stop = n * self.rank // self.world, n * (self.rank + 1) // self.world
        self.weight, self.copies = (stop - start) / n, 1
        return slice(start, stop)

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """`network` with synchronised BatchNorm in DistributedDataParallel; `network` itself when alone."""
        if not self.joined:
            return network
        synchronise(network, self)
        replica = _Replica(network, device_ids=None if device.type == "cpu" else [device.index])
        # Buffers follow from weights and the whole batch's statistics: the same everywhere, and in use when D is called
        # twice before one backward pass. (Set here: the argument's name depends on torch's version.)
        replica.broadcast_buffers = False
        # A lambda: DDP wants the hook's annotations as objects, not as the text that they are here.
        replica.register_comm_hook(self, lambda peers, bucket: _weighted_mean(peers, bucket))
        return replica

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the whole batch of `values`, this process's means over its share, in place."""
        if self.joined:
            dist.all_reduce(values.mul_(self.weight))
        return values

    def agree(self, stop: bool, reached: bool) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and whether process 0 has reached the limit."""
        if not self.joined:
            return stop, reached
        flags = torch.tensor([stop, reached and self.leads], dtype=torch.int32)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags[0]), bool(flags[1])

    def said(self, make: Callable[[], T]) -> T:
        """What `make()` returns on process 0, on all of them."""
        if not self.joined:
            return make()
        box = [make() if self.leads else None]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        value: T = box[0]  # type: ignore[assignment]
        return value

    def in_turn(self, make: Callable[[], T]) -> T:
        """`make()` on each process, on the first of each host before the others: what it caches is made once."""
        first = make() if self.local_rank == 0 else None
        self.meet()
        return make() if first is None else first

    def meet(self) -> None:
        """Waits for all."""
        self.agree(False, False)

    def remember(self, run: Path) -> None:
        """Keeps the run's folder for when torchrun restarts the job after a failure (--max-restarts)."""
        if self._store is not None and self.leads:
            self._store.set(RUN_KEY, str(run))


@contextlib.contextmanager
def join(launch: Launch | None, device: torch.device) -> Iterator[Peers]:
    """Joins the job's process group, and leaves it when all have come to the end of the context.

    Raises `JobError` when another process is lost. After any error the group is left as it is: taking it down may
    wait for processes that are gone.
    """
    if launch is None:
        yield Peers()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    peers = Peers(launch.rank, launch.world, launch.local_rank, joined=True)
    try:
        peers._store = store = open_store(launch, MEETING, host=launch.rank == 0 and not launch.agent)
        if launch.restarts and store.check([RUN_KEY]):
            peers.restarted_run = Path(store.get(RUN_KEY).decode())
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore(f"ganport/{launch.restarts}", store), rank=launch.rank, world_size=launch.world,
            timeout=TIMEOUT,
        )  # fmt: skip
        yield peers
        peers.meet()
    except RuntimeError as error:
        if not _lost(error):
            raise
        raise JobError(
            f"another process of the job is gone ({_cause(error)})",
            hint="torchrun reports which one and how it ended; what was saved goes on with `resume=True`, "
            "on as many processes as you like",
        ) from error
    dist.destroy_process_group()


class _Replica(DistributedDataParallel):
    """DDP that steps aside where no weight learns: G's step passes through D without asking for D's gradients.

    Several backward passes before a step of the optimiser need no no_sync: what was averaged before is the same in all
    processes, and stays itself in the next average.
    """

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if not any(weight.requires_grad for weight in self.module.parameters()):
            return self.module(*inputs, **named)
        return super().forward(*inputs, **named)  # type: ignore[no-untyped-call]


def _weighted_mean(peers: Peers, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """DDP's communication hook: Σ weight · gradient."""
    work = dist.all_reduce(bucket.buffer().mul_(peers.weight), async_op=True)
    assert work is not None
    future: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future


def _lost(error: RuntimeError) -> bool:
    """Whether torch.distributed could not reach the others."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(sign in text for sign in ("gloo", "nccl", "connection", "socket"))


def _cause(error: RuntimeError) -> str:
    """The few words of torch's message that say what happened."""
    found = re.search(r"connection \w+ by peer|broken pipe|timed out|timeout", str(error), re.IGNORECASE)
    return found[0].lower() if found else str(error).splitlines()[0]


class Share(Protocol):
    """What a process must know of its share of the batch at hand: `weight`, the part of the whole batch's mean that
    comes from it (the weights of all sum up to 1), and `copies`, how many processes hold each image.
    """

    weight: float
    copies: int


class SyncedBatchNorm(_BatchNorm):
    """A BatchNorm1d or BatchNorm2d, in training mode with the mean and variance over all processes' shares. Unlike
    torch.nn.SyncBatchNorm it takes any tensor, not only CUDA's, so that what runs on GPUs is tested on CPUs.

    Every process must call it equally often. Gradients flow through the statistics, so that the mean of all processes'
    gradients, weighted by their shares, is the gradient of one process that has the whole batch.
    """

    def __init__(self, norm: _BatchNorm, share: Share) -> None:
        if norm.momentum is None or norm.running_mean is None:
            raise ValueError(f"expected a BatchNorm with running statistics and a momentum, got {norm}")
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=False)
        self.affine = norm.affine
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.share = share
        self.train(norm.training)

    @torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
    def forward(self, x: Tensor) -> Tensor:
        """x (N, C) or (N, C, H, W) → the same shape and dtype; the statistics are taken in float32."""
        mean, var = self.running_mean, self.running_var
        assert mean is not None and var is not None and self.momentum is not None  # noqa: PT018
        if not self.training:
            return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        dims, wide = (0, *range(2, x.dim())), (1, -1, *[1] * (x.dim() - 2))
        # About the running mean, for precision: it is the same everywhere, and constant.
        centre = mean.clone()
        centred = x.float() - centre.view(wide)
        count = centred.new_full((1,), centred.numel() / len(mean))
        local = torch.cat((centred.sum(dims), centred.square().sum(dims), count))
        total: Tensor = _Sum.apply(local, 1.0, 1.0, self.share.weight)
        n = total[-1]
        offset, square = (total[:-1] / n).chunk(2)
        batch_var = (square - offset.square()).clamp_min(0)
        with torch.no_grad():
            n = n / self.share.copies
            mean.lerp_(centre + offset, self.momentum)
            var.lerp_(batch_var * (n / (n - 1)), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        y = (centred - offset.view(wide)) * (batch_var + self.eps).rsqrt().view(wide)
        if self.weight is not None:
            y = y * self.weight.view(wide)
        if self.bias is not None:
            y = y + self.bias.view(wide)
        return y.to(x.dtype)


def synchronise(network: nn.Module, share: Share) -> None:
    """Replaces every BatchNorm inside `network`; parameters and buffers stay the same tensors under the same names."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
                setattr(parent, name, SyncedBatchNorm(child, share))


class _Sum(torch.autograd.Function):
    """post · Σ over the processes of pre · x.

    Its gradient is that of the job's loss, Σ weight_r · loss_r, where every process r differentiates its own loss_r
    and weights what comes out: γ_r(x) = pre_r / weight_r · Σ_s weight_s · post_s · γ_s(y).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, pre: float, post: float, weight: float) -> Tensor:
        ctx.factors = pre, post, weight
        total = (x * pre).contiguous()
        dist.all_reduce(total)
        return total * post

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        pre, post, weight = ctx.factors
        return _Sum.apply(grads[0], weight * post, pre / weight, weight), None, None, None
