"""Every module class of torch.nn, each in a small generator, and what becomes of it when it is read from disk."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.foreign_networks import difference, settled
from gan_core.errors import GanportError
from gan_export.answers import Answers
from gan_export.draft import Draft
from gan_export.identify import identify

CHANNELS, SIDE = 8, 4
EXAMPLES: dict[str, tuple[Any, ...]] = {
    "AdaptiveAvgPool1d": (2,), "AdaptiveAvgPool2d": (2,), "AdaptiveAvgPool3d": (2,),
    "AdaptiveLogSoftmaxWithLoss": (8, 8, [2]), "AdaptiveMaxPool1d": (2,), "AdaptiveMaxPool2d": (2,),
    "AdaptiveMaxPool3d": (2,), "AvgPool1d": (2,), "AvgPool2d": (2,), "AvgPool3d": (2,), "BatchNorm1d": (8,),
    "BatchNorm2d": (8,), "BatchNorm3d": (8,), "Bilinear": (8, 8, 8), "ChannelShuffle": (2,), "CircularPad1d": (1,),
    "CircularPad2d": (1,), "CircularPad3d": (1,), "ConstantPad1d": (1, 0.3), "ConstantPad2d": (1, 0.3),
    "ConstantPad3d": (1, 0.3), "Conv1d": (8, 8, 1), "Conv2d": (8, 8, 3), "Conv3d": (8, 8, 1),
    "ConvTranspose1d": (8, 8, 1), "ConvTranspose2d": (8, 8, 3), "ConvTranspose3d": (8, 8, 1), "CrossMapLRN2d": (3,),
    "Embedding": (8, 8), "EmbeddingBag": (8, 8), "Fold": ((4, 4), 2), "FractionalMaxPool2d": (2, 2),
    "FractionalMaxPool3d": (2, 2), "GLU": (1,), "GRU": (8, 8), "GRUCell": (8, 8), "GroupNorm": (2, 8),
    "InstanceNorm1d": (8,), "InstanceNorm2d": (8,), "InstanceNorm3d": (8,), "LPPool1d": (2, 2), "LPPool2d": (2, 2),
    "LPPool3d": (2, 2), "LSTM": (8, 8), "LSTMCell": (8, 8), "LayerNorm": ((4, 4),), "LazyConv1d": (8, 1),
    "LazyConv2d": (8, 1), "LazyConv3d": (8, 1), "LazyConvTranspose1d": (8, 1), "LazyConvTranspose2d": (8, 1),
    "LazyConvTranspose3d": (8, 1), "LazyLinear": (8,), "Linear": (8, 8), "LinearCrossEntropyLoss": (8, 8),
    "LocalResponseNorm": (3,), "LogSoftmax": (1,), "MaxPool1d": (2,), "MaxPool2d": (2,), "MaxPool3d": (2,),
    "MaxUnpool1d": (2,), "MaxUnpool2d": (2,), "MaxUnpool3d": (2,), "MultiheadAttention": (8, 2), "NLLLoss2d": (),
    "PixelShuffle": (2,), "PixelUnshuffle": (2,), "RMSNorm": ((4, 4),), "RNN": (8, 8), "RNNBase": ("GRU", 8, 8),
    "RNNCell": (8, 8), "RNNCellBase": (8, 8, True, 1), "ReflectionPad1d": (1,), "ReflectionPad2d": (1,),
    "ReflectionPad3d": (1,), "ReplicationPad1d": (1,), "ReplicationPad2d": (1,), "ReplicationPad3d": (1,),
    "Softmax": (1,), "Softmin": (1,), "SyncBatchNorm": (8,), "Threshold": (0.1, 0.3), "Transformer": (8, 2, 1, 1, 8),
    "TransformerDecoder": (nn.Identity(), 1), "TransformerDecoderLayer": (8, 2, 8),
    "TransformerEncoder": (nn.TransformerEncoderLayer(8, 2, 8), 1), "TransformerEncoderLayer": (8, 2, 8),
    "Unflatten": (1, (2, 4)), "Unfold": (2,), "Upsample": (None, 2), "UpsamplingBilinear2d": (None, 2),
    "UpsamplingNearest2d": (None, 2), "ZeroPad1d": (1,), "ZeroPad2d": (1,), "ZeroPad3d": (1,),
}  # fmt: skip
"""Arguments of the classes that need some; a class that is not here is made without any."""

OTHERWISE: list[Callable[[], nn.Module]] = [
    lambda: nn.LeakyReLU(0.37), lambda: nn.RReLU(0.2, 0.6), lambda: nn.ELU(0.7), lambda: nn.CELU(0.3),
    lambda: nn.GELU("tanh"), lambda: nn.Softplus(3.0, 0.5), lambda: nn.Hardtanh(0, 1), lambda: nn.Hardtanh(-0.2, 0.3),
    lambda: nn.Hardshrink(0.2), lambda: nn.Softshrink(0.1), lambda: nn.Threshold(-0.3, 2.0), lambda: nn.PReLU(8),
    lambda: nn.PReLU(1, 0.6), lambda: nn.BatchNorm2d(8, 0.8), lambda: nn.BatchNorm2d(8, affine=False),
    lambda: nn.BatchNorm1d(8, affine=False), lambda: nn.BatchNorm2d(8, track_running_stats=False),
    lambda: nn.BatchNorm1d(8, track_running_stats=False),
    lambda: nn.BatchNorm2d(8, affine=False, track_running_stats=False),
    lambda: nn.InstanceNorm2d(8, 0.1, affine=True), lambda: nn.InstanceNorm2d(8, track_running_stats=True),
    lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    lambda: nn.InstanceNorm1d(8, track_running_stats=True), lambda: nn.GroupNorm(4, 8, 0.5, affine=False),
    lambda: nn.LayerNorm((8, 4, 4), 0.3), lambda: nn.LayerNorm(8),
    lambda: nn.LayerNorm((8, 4, 4), elementwise_affine=False), lambda: nn.LayerNorm((8, 4, 4), bias=False),
    lambda: nn.RMSNorm((8, 4, 4), 0.3), lambda: nn.RMSNorm(8), lambda: nn.RMSNorm((4,), elementwise_affine=False),
    lambda: nn.LocalResponseNorm(2, 0.5, 0.6, 0.7), lambda: nn.Softmax(), lambda: nn.Softmax(-1),
    lambda: nn.Softmax(0), lambda: nn.LogSoftmax(-3), lambda: nn.Softmax(2), lambda: nn.GLU(), lambda: nn.GLU(-3),
    lambda: nn.GLU(2), lambda: nn.AvgPool2d(3, 1, 1), lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    lambda: nn.AvgPool2d((2, 1)), lambda: nn.AvgPool2d(3, 2, ceil_mode=True),
    lambda: nn.AvgPool2d(2, divisor_override=3), lambda: nn.MaxPool2d(2, 1, 1, 2),
    lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True), lambda: nn.MaxPool2d(2, return_indices=True),
    lambda: nn.AdaptiveAvgPool2d((None, 1)), lambda: nn.AdaptiveAvgPool2d(3), lambda: nn.AdaptiveMaxPool2d(1),
    lambda: nn.LPPool2d(2, 2), lambda: nn.ZeroPad2d((1, 0, 2, 3)), lambda: nn.ZeroPad2d((-1, 0, 0, -2)),
    lambda: nn.ReflectionPad2d((3, 0, 1, 2)), lambda: nn.ReplicationPad2d((5, 0, 1, 2)),
    lambda: nn.CircularPad2d((4, 0, 1, 2)), lambda: nn.ConstantPad2d(2, -1.5),
    lambda: nn.Upsample(scale_factor=3, mode="bicubic"),
    lambda: nn.Upsample(scale_factor=2, mode="bicubic", align_corners=True),
    lambda: nn.Upsample((7, 5), mode="nearest-exact"), lambda: nn.Upsample((7, 5)),
    lambda: nn.Upsample(6, mode="bilinear"), lambda: nn.Upsample(scale_factor=1.5, mode="bilinear"),
    lambda: nn.Upsample(scale_factor=1.5), lambda: nn.Upsample(scale_factor=0.5),
    lambda: nn.Upsample(scale_factor=(2, 3)), lambda: nn.Upsample(scale_factor=1.3, mode="bilinear"),
    lambda: nn.Upsample(scale_factor=2, mode="area"),
    lambda: nn.Upsample(scale_factor=1.5, mode="bicubic", recompute_scale_factor=True),
    lambda: nn.UpsamplingBilinear2d(5), lambda: nn.UpsamplingNearest2d((3, 9)), lambda: nn.PixelUnshuffle(4),
    lambda: nn.ChannelShuffle(4), lambda: nn.Flatten(2), lambda: nn.Flatten(0), lambda: nn.Flatten(1, 2),
    lambda: nn.Flatten(-2), lambda: nn.Unflatten(1, (-1, 2)), lambda: nn.Unflatten(1, (2, 2, 2)),
    lambda: nn.Unflatten(-1, (2, 2)), lambda: nn.Conv2d(8, 8, 3, padding="same"),
    lambda: nn.Conv2d(8, 8, 4, padding="same", padding_mode="reflect"), lambda: nn.Conv2d(8, 8, 3, padding="valid"),
    lambda: nn.Conv2d(8, 8, 3, 2, (1, 2)), lambda: nn.Conv2d(8, 8, (3, 1)), lambda: nn.Conv2d(8, 8, 3, (1, 2)),
    lambda: nn.Conv2d(8, 16, 3, dilation=1, groups=4, padding=1, bias=False),
    lambda: nn.Conv2d(8, 8, 3, padding=2, padding_mode="circular"), lambda: nn.Conv2d(8, 8, 3, padding=1, dilation=2),
    lambda: nn.ConvTranspose2d(8, 4, 3, 2, 1, 1, dilation=2, groups=2), lambda: nn.ConvTranspose2d(8, 8, 3, (2, 1)),
    lambda: nn.ConvTranspose2d(8, 8, (3, 4)), lambda: nn.Dropout2d(0.9), lambda: nn.Sequential(),
    lambda: nn.Dropout(1.0),
]  # fmt: skip
"""The same classes with other numbers."""


def classes() -> dict[str, type[nn.Module]]:
    """Every module class of torch.nn, containers apart."""
    found = {name: cls for name, cls in vars(nn).items() if inspect.isclass(cls) and issubclass(cls, nn.Module)}
    apart = (
        "Module",
        "Sequential",
        "ModuleList",
        "ModuleDict",
        "ParameterList",
        "ParameterDict",
        "Container",
        "DataParallel",
    )
    return {name: cls for name, cls in found.items() if name not in apart}


def made(name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return classes()[name](*EXAMPLES.get(name, ()))


def around(module: nn.Module, place: str) -> tuple[nn.Sequential | None, tuple[int, ...]]:
    """A small generator with `module` in it, and the shape of its z, () where torch itself cannot run it; None where it
    would not end in an image."""
    torch.default_generator.manual_seed(0)  # the CPU's alone: of the others, torch keeps where it was told so
    if place == "image":
        head: list[nn.Module] = [nn.ConvTranspose2d(6, CHANNELS, SIDE), nn.BatchNorm2d(CHANNELS)]
    elif place == "vector":
        head = [nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, CHANNELS)]
    else:
        head = [nn.ConvTranspose2d(6, CHANNELS, SIDE), nn.ReLU(), nn.Conv2d(CHANNELS, 3, 1)]
    z_shape = (6,) if place == "vector" else (6, 1, 1)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            out = nn.Sequential(*head, module).eval()(torch.randn(3, *z_shape))
            shape = tuple(out.shape[1:]) if isinstance(out, Tensor) and len(out) == 3 else ()
        except Exception:
            shape = ()
    if not shape:
        return nn.Sequential(*head, module, nn.Flatten(), nn.Linear(8, 192), nn.Unflatten(1, (3, 8, 8))), ()
    numbers = int(torch.Size(shape).numel())
    tail = [nn.Flatten(), nn.Linear(numbers, 192), nn.Tanh(), nn.Unflatten(1, (3, 8, 8))]
    if place == "end":
        if shape[0] != 3 or len(shape) != 3:
            return None, z_shape
        tail = []
    network = nn.Sequential(*head, module, *tail)
    settled(network)
    for parameter in module.parameters():
        if parameter.dim() == 1:
            with torch.no_grad():
                parameter.uniform_(0.2, 0.9)
    return network.eval(), z_shape


class Author(nn.Module):
    """An author's class around one Sequential."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.main = network

    def forward(self, z: Tensor) -> Any:
        return self.main(z)


class Halves(nn.Module):
    """An author's class around two: what happens between them is the author's code."""

    def __init__(self, network: nn.Sequential, at: int) -> None:
        super().__init__()
        self.first, self.second = network[:at], network[at:]

    def forward(self, z: Tensor) -> Any:
        return self.second(self.first(z))


def outcome(network: nn.Module, z_shape: tuple[int, ...], path: Path) -> str:
    """ "equal", or the refusal; fails for a draft that draws something else."""
    torch.save(network, path)
    try:
        draft = drafted(path)
    except GanportError as error:
        return str(error) if error.hint else "a refusal without a hint"
    if not z_shape:
        return "drafted"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in (1, 4):
            worst = difference(draft, network, z_shape, n)
            assert worst <= 2e-5, (
                f"drawn otherwise, by {worst:.2g}, as {[layer.to_json() for layer in draft.spec.layers]}"
            )
    return "equal"


def drafted(path: Path, **answers: Any) -> Draft:
    draft = identify(path, Answers(**answers), lambda _: None).draft
    assert draft is not None
    return draft
