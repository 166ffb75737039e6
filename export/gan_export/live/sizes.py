"""How wide a latent may be and how many classes there may be: from a module's attributes and its layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from gan_export.live.signature import says_label
from gan_export.reading.words import words

Z_NAMES = words(
    "z_dim nz latent_dim dim_z style_dim noise_dim latent_size z_size noise_size dim_latent encoding_dims code_dim "
    "latent_channels num_z_units n_z zdim input_dim in_dim z_channels latent noise"
)
CLASS_NAMES = words("n_classes num_classes nclasses n_class num_class label_dim c_dim n_labels num_labels label_nc")
_CONFIGS = ("config", "cfg", "opt", "opts", "args", "hparams", "params")
MOST_LAYERS = 8
MOST_WIDE = 1 << 20


def latent_widths(module: nn.Module, n_classes: int) -> list[int]:
    """Candidates for z_dim, the likelier first: attributes, then what the first layers take, less room for a label.

    A label may have a layer of its own: its width comes last, and what it makes is room in the layers behind it.
    """
    embedded = [part.embedding_dim for part in module.modules() if isinstance(part, nn.Embedding)]
    found = list(_attributes(module, Z_NAMES))
    layers = list(_layer_inputs(module))[:MOST_LAYERS]
    own = [
        part.out_features for part in module.modules() if isinstance(part, nn.Linear) and part.in_features == n_classes
    ]
    for width in layers:
        found += [width - taken for taken in (n_classes, *embedded, *own) if n_classes and taken]
        found.append(width)
    return sorted(_distinct(found), key=lambda width: n_classes > 0 and width == n_classes)  # stable: only that moves


def counts_taken(module: nn.Module) -> list[int]:
    """What the first layers take, as numbers of classes of a one-hot label that has a layer of its own; at least two.

    Layers that a label's name stands for come first.
    """
    first = [
        (name, part.in_features if isinstance(part, nn.Linear) else part.in_channels)
        for name, part in module.named_modules()
        if isinstance(part, (nn.Linear, nn.ConvTranspose2d))
    ][:MOST_LAYERS]
    if len(first) < 2:
        return []
    named = [width for name, width in first if says_label(name)]
    return [n for n in _distinct([*named, *(width for _, width in first)]) if n > 1]


def class_counts(module: nn.Module) -> list[int]:
    """Candidates for the number of classes: attributes, then embeddings."""
    tables = [part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding)]
    return [n for n in _distinct([*_attributes(module, CLASS_NAMES), *tables]) if n > 1]


def counts_beside(module: nn.Module, z_dim: int | None) -> list[int]:
    """What the first layers take beyond a latent of `z_dim`, or of what attributes say: room for a one-hot label."""
    widths = [z_dim] if z_dim is not None else list(_attributes(module, Z_NAMES))
    beyond = [taken - width for taken in list(_layer_inputs(module))[:MOST_LAYERS] for width in widths]
    return [n for n in _distinct(beyond) if n > 1]


def _attributes(module: nn.Module, names: frozenset[str]) -> Iterator[int]:
    """Whole numbers of these names: the module's, its configuration's, its direct parts'."""
    holders: list[Any] = [module, *(getattr(module, name, None) for name in _CONFIGS), *module.children()]
    for holder in holders:
        values = holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})
        for name, value in values.items():
            if name in names and isinstance(value, int) and not isinstance(value, bool):
                yield value


def _layer_inputs(module: nn.Module) -> Iterator[int]:
    for part in module.modules():
        if isinstance(part, nn.Linear):
            yield part.in_features
        elif isinstance(part, (nn.ConvTranspose2d, nn.Conv2d)):
            yield part.in_channels
        elif type(part) not in _KNOWN and not list(part.children()):
            for name, parameter in part.named_parameters(recurse=False):  # layers of the author's, such as EqualLinear
                if name.endswith("weight") and parameter.dim() in (2, 4):
                    yield int(parameter.shape[1])
                    yield int(parameter.shape[0])


_KNOWN = {nn.Embedding, nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.PReLU}


def _distinct(values: list[int]) -> list[int]:
    return list(dict.fromkeys(value for value in values if 0 < value <= MOST_WIDE))
