"""BatchNorm folding on the torch side, for TorchScript (ONNX graphs have `gan_export.passes.fold_norms`)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import fusion

from gan_trainer.networks.build import SpecGenerator


def fold_modules(generator: nn.Module) -> int:
    """Folds each BatchNorm of a `SpecGenerator` in eval mode into the linear or (transposed) convolution before it.

    Changes the module in place and returns how many were folded. Other modules are left alone: only a spec says
    which layer follows which. So are grouped transposed convolutions, whose channels lie otherwise.
    """
    if not isinstance(generator, SpecGenerator):
        return 0
    folded = 0
    layers = generator.layers
    with torch.no_grad():
        for index in range(1, len(layers)):
            if generator.spec.layers[index - 1].as_:
                continue  # what the norm gets is used elsewhere, too
            fused = _fused(layers[index - 1], layers[index])
            if fused is not None:
                layers[index - 1], layers[index] = fused, nn.Identity()
                folded += 1
    return folded


def _fused(before: nn.Module, norm: nn.Module) -> nn.Module | None:
    if not isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)) or norm.training or norm.running_mean is None:
        return None
    if isinstance(before, nn.Linear):
        return fusion.fuse_linear_bn_eval(before, norm)
    if isinstance(before, nn.ConvTranspose2d) and before.groups == 1:
        return fusion.fuse_conv_bn_eval(before, norm, transpose=True)
    if isinstance(before, nn.Conv2d):
        return fusion.fuse_conv_bn_eval(before, norm)
    return None
