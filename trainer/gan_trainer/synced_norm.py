"""BatchNorm over a batch that several processes share: the statistics of the whole batch, not of each share.

torch.nn.SyncBatchNorm takes CUDA tensors only; this one takes any, so that what runs on GPUs is tested on CPUs.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Share(Protocol):
    """What a process must know of its share of the batch at hand: `weight`, the part of the whole batch's mean that
    comes from it (the weights of all sum up to 1), and `copies`, how many processes hold each image.
    """

    weight: float
    copies: int


class SyncedBatchNorm(_BatchNorm):
    """A BatchNorm1d or BatchNorm2d, in training mode with the mean and variance over all processes' shares.

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
