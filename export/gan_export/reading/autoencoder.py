"""The decoder in a variational autoencoder's weights: everything behind the two layers that make mean and variance.

Two layers of one shape side by side, from the same numbers to a few, are a VAE's bottleneck, whatever they are called
(`fc_mu` and `fc_logvar`, `fc21` and `fc22`, `linear_means` …); so is one layer that makes twice as many numbers as the
next one takes. The numbers it makes are the latent. What the decoder takes beyond them, and the encoder beyond an
image, is the label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gan_export.reading.kinds import HasShape
from gan_export.reading.roles import tokens

LABEL = re.compile(r"emb|label|class|cond", re.IGNORECASE)
DECODER = frozenset({"decoder", "decode", "dec"})
MOST_CLASSES = 1000


@dataclass(frozen=True)
class Autoencoder:
    """What the encoder shows of its decoder.

    prefix   of the names of the decoder's tensors, with its last dot; empty where its layers stand beside the encoder's
    names    of the decoder's tensors
    latent   numbers that the bottleneck makes
    beside   numbers that the decoder takes beside them
    classes  of a one-hot label that the encoder takes beside a flat image; 0 where it does not show one
    reason   one sentence for people
    encoder  names of the encoder's tensors, the last of which make the mean of the latent, or mean and variance
    variance the layer that makes the variance alone, "" where there is none
    """

    prefix: str
    names: tuple[str, ...]
    latent: int
    beside: int
    classes: int
    reason: str
    encoder: tuple[str, ...] = ()
    variance: str = ""


def find_decoder(tensors: Mapping[str, HasShape]) -> Autoencoder | None:
    """The decoder in a state_dict, in its order; None where it is no autoencoder with a bottleneck."""
    layers = [(name.rpartition(".")[0], tuple(t.shape)) for name, t in tensors.items() if len(t.shape) in (2, 4)]
    body = [(stem, shape) for stem, shape in layers if not LABEL.search(stem.rpartition(".")[2])]
    for at in range(1, len(body) - 1):
        before, here = body[at - 1], body[at]
        if before[1] == here[1] and not _transposed(body, at):
            found = _cut(tensors, body, at, here[1][0], f"{before[0]} and {here[0]}")
        elif len(here[1]) == 2 and len(body[at + 1][1]) == 2 and here[1][0] == 2 * body[at + 1][1][1] < here[1][1] * 2:
            found = _cut(tensors, body, at, here[1][0] // 2, here[0])
        else:
            continue
        if found is not None:
            return found
    return _named(tensors, body)


def _named(tensors: Mapping[str, HasShape], body: list[tuple[str, tuple[int, ...]]]) -> Autoencoder | None:
    """The part called decoder, where mean and variance are registered last."""
    if len(body) < 4 or body[-1][1] != body[-2][1] or not _mean_and_variance(body, len(body) - 1):
        return None
    prefix = next((stem.partition(".")[0] for stem, _ in body if {*tokens(stem.partition(".")[0])} & DECODER), "")
    own = [layer for layer in body if layer[0].startswith(f"{prefix}.")]
    names, latent = [name for name in tensors if name.startswith(f"{prefix}.")], body[-1][1][0]
    if not prefix or not own or len(own[0][1]) != 2 or not 0 <= own[0][1][1] - latent <= MOST_CLASSES:
        return None
    reason = f"{body[-2][0]} and {body[-1][0]} make a latent of {latent}"
    others = [name for name in tensors if name not in names]
    ends = _encoder(others, body[-2][0], body[-1][0])
    return Autoencoder(f"{prefix}.", tuple(names), latent, own[0][1][1] - latent, 0, reason, *ends)


def _transposed(body: list[tuple[str, tuple[int, ...]]], at: int) -> bool:
    """Whether the layers at `at` - 1 and `at` come one after the other and not side by side."""
    makes, takes = body[at][1][:2]
    return len(body[at][1]) == 4 or (makes == takes and len(body) > at + 1 and not _mean_and_variance(body, at))


def _mean_and_variance(body: list[tuple[str, tuple[int, ...]]], at: int) -> bool:
    mean, variance = (body[i][0].rpartition(".")[2] for i in (at - 1, at))
    return bool(re.search(r"mu|mean", mean, re.IGNORECASE) and re.search(r"var|sig|std", variance, re.IGNORECASE))


def _cut(
    tensors: Mapping[str, HasShape], body: list[tuple[str, tuple[int, ...]]], at: int, latent: int, where: str
) -> Autoencoder | None:
    first, last, following = body[0][1], body[-1][1], body[at + 1]
    if len(following[1]) != 2 or latent < 2 or not _begins_with_image(first):
        return None
    beside = following[1][1] - latent
    order = list(tensors)
    behind = max(i for i, name in enumerate(order) if name.rpartition(".")[0] == body[at][0])
    names = order[behind + 1 :]
    if beside < 0 or beside > MOST_CLASSES or not names or (len(last) == 2 and last[0] <= following[1][1]):
        return None
    pixels = last[0] if len(last) == 2 else 0
    classes = first[1] - pixels if len(first) == 2 and pixels and first[1] > pixels else 0
    if len(first) == 2 and pixels and first[1] < pixels:
        return None
    prefix = _own_prefix(names, order[: behind + 1])
    table = _label_table(tensors, order[: behind + 1], beside)
    if table:
        prefix, names, classes = "", [table, *names], 0
    label = f" beside a label of {classes} classes" if classes else ""
    return Autoencoder(
        prefix,
        tuple(names),
        latent,
        beside,
        classes,
        f"{where} make{'s' * (' and ' not in where)} a latent of {latent}{label}",
        *_encoder(order[: behind + 1], *where.split(" and ")),
    )


def _encoder(names: list[str], mean: str, variance: str = "") -> tuple[tuple[str, ...], str]:
    """(the encoder's tensors out of `names`, those of the layers `mean` and `variance` last, in this order; which of
    the two makes the variance)."""
    if variance and re.search(r"var|sig|std", mean.rpartition(".")[2], re.IGNORECASE):
        mean, variance = variance, mean
    rank = {mean: 1, variance: 2}
    return tuple(sorted(names, key=lambda name: rank.get(name.rpartition(".")[0], 0))), variance


def _label_table(tensors: Mapping[str, HasShape], outside: list[str], beside: int) -> str:
    """The name, among those `outside` the decoder, of a class embedding as wide as what the decoder takes beside the
    latent; "" where there is none."""
    for name in outside:
        stem, _, last = name.rpartition(".")
        shape = tuple(tensors[name].shape)
        alone = last == "weight" and f"{stem}.bias" not in tensors
        if alone and LABEL.search(stem) and len(shape) == 2 and shape[1] == beside and shape[0] > 1:
            return name
    return ""


def _begins_with_image(shape: tuple[int, ...]) -> bool:
    if len(shape) == 4:
        return shape[1] <= 4 or shape[0] > shape[1]
    return shape[1] >= 256 and shape[0] < shape[1]


def _own_prefix(names: list[str], others: list[str]) -> str:
    """The first part of all of `names`, where none of `others` has it."""
    prefix = f"{names[0].partition('.')[0]}."
    alone = all(name.startswith(prefix) for name in names) and not any(name.startswith(prefix) for name in others)
    return prefix if alone and "." in names[0].partition(".")[2] else ""
