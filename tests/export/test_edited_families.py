"""Code of a known family that was edited: what statistics say in one place counts where nothing else speaks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export.foreign_networks import fed
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import Activation, Layer
from gan_export.answers import Answers
from gan_export.families import Network
from gan_export.families.plain import Conv, PytorchGanDcgan
from gan_export.identify import identify
from gan_trainer.networks.generator import build


def edited(network: Network, last: int) -> tuple[Layer, ...]:
    """Its layers, with ReLU in the place of LeakyReLU 0.2 up to the activation `last`."""
    layers = [layer for _, layer in network.layers]
    hidden = [index for index, layer in enumerate(layers) if isinstance(layer, Activation) and layer.slope == 0.2]
    for index in hidden[:last]:
        layers[index] = Activation("relu")
    return tuple(layers)


@torch.no_grad()
def saved(network: Network, layers: tuple[Layer, ...], path: Path) -> None:
    torch.manual_seed(0)
    module = build(GeneratorSpec(network.interface, layers))
    for parameter in module.parameters():
        parameter.normal_(std=2 / parameter[0].numel() ** 0.5) if parameter.ndim > 1 else None
    fed(module, network.interface.z_dim, batch=32)
    own = [part for part in module.layers if list(part.state_dict())]
    places = [where for where, layer in network.layers if layer.tensors()]
    named = [(where, part.state_dict()) for where, part in zip(places, own, strict=True)]
    names = {f"{where}.{key}": value for where, held in named for key, value in held.items()}
    torch.save(names, path)


@pytest.mark.parametrize(("last", "expected"), [(0, "leaky_relu"), (2, "relu")])
def test_the_last_activation_is_as_the_others_are(last: int, expected: str, tmp_path: Path) -> None:
    """No BatchNorm stands behind it: a family's word would draw wrong images unasked."""
    network = PytorchGanDcgan().network(Conv(20, 2, 1, "conv_blocks"))
    saved(network, edited(network, last), tmp_path / "g.pth")
    found = identify(tmp_path / "g.pth", Answers())
    assert found.draft is not None
    assert found.draft.family == "pytorch-gan-dcgan"
    names = [choice.value["name"] for choice in found.draft.choices if choice.field == "activation"]
    assert names == [expected] * 2
