"""Running statistics anew: what every BatchNorm of a generator would remember of N latents.

Who trains and draws without ever calling `eval()` normalises each batch by its own moments and never uses the running
ones, which may be anything. What such an author saw is drawn again when they are replaced by the moments that many
latents bring: layer after layer, each normalised with the new moments of those before it.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan_core.errors import GanportError
from gan_core.interface import Interface
from gan_export.answers import Answers
from gan_export.forensics.statistics import ELEMENTS, Moments, label_batch, latent_batch, moments

MOST, LEAST = 4096, 256
"""Latents that statistics are recomputed from, where nothing else is said: `MOST` up to 32 pixels a side, fewer for
larger images, whose places count as well, and never fewer than `LEAST`."""
FEWEST = 16
"""The least that may be asked for."""
PIXELS = 32 * 32
AT_ONCE = 256


class _Reached(BaseException):
    """Ends a forward where the BatchNorm that is asked was reached. No `Exception`, which a module's code may catch."""


def latents_for(interface: Interface) -> int:
    """How many latents are enough for the running statistics of a generator of such images."""
    _, height, width = interface.image
    return max(LEAST, min(MOST, MOST * PIXELS // (height * width)))


RECOMPUTED = "recomputed_statistics"
"""Where a source's provenance keeps how many latents its running statistics were computed again from."""


def latents_said(answers: Answers, interface: Interface) -> int:
    """How many latents the user wants the running statistics computed again from; 0 where the file's are to stay."""
    return (answers.stats_latents or latents_for(interface)) if answers.recompute_stats else 0


def recomputed_from(n: int) -> dict[str, Any]:
    """What a source's provenance says of it."""
    return {RECOMPUTED: n} if n else {}


def recomputed_words(n: int) -> tuple[str, ...]:
    """What a source's answers say of it."""
    return (f"running statistics recomputed from {n} latents",) if n else ()


def recompute(generator: nn.Module, interface: Interface, n: int) -> None:
    """Replaces running mean and variance of every BatchNorm in `generator` by those that the latents of the seeds 0 …
    `n` - 1 bring, every class in turn. The same latents give the same statistics.

    generator  eval mode; forward(z (N, z_dim)) or forward(z, label (N,)); changed in place

    Raises `GanportError` when it runs no BatchNorm that has running statistics.
    """
    with torch.no_grad():
        sizes = _reached(generator, interface)
        at_once = max(1, min(AT_ONCE, ELEMENTS // max(size for _, _, size in sizes)))
        for norm, times, _ in sizes:
            found = _arriving(generator, interface, norm, times, n, at_once)
            norm.running_mean.copy_(found.mean)
            norm.running_var.copy_(found.var)


def nothing_to_recompute() -> GanportError:
    """The error for a generator without running statistics."""
    return GanportError(
        "it has no BatchNorm with running statistics, so there are none to recompute",
        hint="leave out `recompute_stats`",
    )


def _reached(generator: nn.Module, interface: Interface) -> list[tuple[Any, int, int]]:
    """The BatchNorms that a forward runs, in order: (module, how often it runs, the most numbers of a sample there)."""
    seen: dict[nn.Module, tuple[int, int]] = {}

    def met(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        times, size = seen.get(norm, (0, 1))
        seen[norm] = times + 1, max(size, inputs[0][0].numel())

    norms = [part for part in generator.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]
    hooks = [norm.register_forward_pre_hook(met) for norm in norms]
    try:
        _run(generator, interface, 0, 2)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise nothing_to_recompute()
    return [(norm, times, size) for norm, (times, size) in seen.items()]


def _arriving(generator: nn.Module, interface: Interface, norm: nn.Module, times: int, n: int, at_once: int) -> Moments:
    """Mean and unbiased variance of what reaches `norm`, per channel, of `n` latents: float64."""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    calls = 0

    def take(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal count, mean, squares, calls
        x = inputs[0]
        here, more = moments(x, correction=0), x.numel() // x.shape[1]
        gap, total = here.mean - mean, count + more
        mean = mean + gap * (more / total)
        squares = squares + here.var * more + gap.square() * (count * more / total)
        count, calls = total, calls + 1
        if calls == times:
            raise _Reached

    hook = norm.register_forward_pre_hook(take)
    try:
        for start in range(0, n, at_once):
            calls = 0
            with contextlib.suppress(_Reached):
                _run(generator, interface, start, min(at_once, n - start))
    finally:
        hook.remove()
    return Moments(mean, squares / max(1, count - 1))


def _run(generator: nn.Module, interface: Interface, start: int, rows: int) -> None:
    z = latent_batch(interface.z_dim, interface.latent, rows, start)
    label = label_batch(interface.n_classes, start + rows)
    generator(z) if label is None else generator(z, label[start:])
