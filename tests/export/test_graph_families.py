"""Files of generators with branches, in their authors' formats: read, and drafted as their code runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from export.foreign_graphs import Brock, MimicryNet, Progressive, rattled
from export.foreign_networks import difference
from gan_export.draft import Draft
from gan_export.families.family import RefusedError
from gan_export.reading import read_checkpoint
from gan_export.understanding.understand import draft_candidates

EXACT = 5e-5


class BaseConfig:
    """Like the class of the same name in pytorch_GAN_zoo: an empty one, with attributes."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def zoo(state: Any, **config: Any) -> dict[str, Any]:
    said = BaseConfig(**{"alpha": 0, "leakyReluLeak": 0.2, "lossCriterion": "WGANGP", **config})
    return {"config": said, "netG": {key: 0 * tensor for key, tensor in state.items()}, "avgG": state}


def read(tmp_path: Path, tree: Any) -> list[Draft]:
    path = tmp_path / "file.pt"
    torch.save(tree, path)
    reading = read_checkpoint(path)
    return draft_candidates(reading.tensors, modules=reading.modules, settings=reading.settings)


FILES: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], Any], str, tuple[int, int, int]]] = {
    "pggan": (Progressive, zoo, "pytorch-gan-zoo-pgan", (3, 16, 16)),
    "pggan, another slope": (
        lambda: Progressive(slope=0.1), lambda state: zoo(state, leakyReluLeak=0.1), "pytorch-gan-zoo-pgan", (3, 16, 16)
    ),
    "sngan": (
        MimicryNet, lambda state: {"model_state_dict": state, "global_step": 9}, "mimicry", (3, 32, 32)
    ),
    "sagan": (lambda: MimicryNet(4), lambda state: {"model_state_dict": state}, "mimicry", (3, 32, 32)),
    "biggan": (Brock, dict, "biggan", (3, 16, 16)),
    "biggan, norms with tables": (lambda: Brock(tables=True), dict, "biggan", (3, 16, 16)),
    "biggan, standing statistics": (lambda: Brock(standing=True), dict, "biggan", (3, 16, 16)),
    "biggan-deep": (lambda: Brock(deep=True), dict, "biggan-deep", (3, 16, 16)),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_drafted_as_its_code_runs_it(name: str, tmp_path: Path) -> None:
    make, wrap, family, image = FILES[name]
    torch.manual_seed(0)
    module = rattled(make())
    drafts = read(tmp_path, wrap(module.state_dict()))
    assert [draft.family for draft in drafts] == [family]
    assert drafts[0].spec.interface.image == image
    assert drafts[0].open_choices == ()
    assert difference(drafts[0], module) <= EXACT


def test_one_attribute_is_a_class(tmp_path: Path) -> None:
    module = rattled(Progressive())
    attributes = {"Main": {"order": 0, "values": ["cat", "dog"]}}
    config = {"attribKeysOrder": attributes, "categoryVectorDim": 2}
    (draft,) = read(tmp_path, zoo(module.state_dict(), **config))
    assert (draft.spec.interface.z_dim, draft.spec.interface.n_classes) == (4, 2)
    assert difference(draft, module) <= EXACT
    attributes["Other"] = {"order": 1, "values": ["a", "b"]}
    with pytest.raises(RefusedError, match="takes 2 attributes"):
        read(tmp_path, zoo(module.state_dict(), attribKeysOrder=attributes, categoryVectorDim=4))


def test_a_progressive_gan_that_is_fading_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"its alpha is 0\.3: the training was still fading in 16 pixels") as caught:
        read(tmp_path, zoo(Progressive().state_dict(), alpha=0.3))
    assert "end of a resolution" in caught.value.hint


@pytest.mark.parametrize("alpha", [None, "half", True, [1.0], 1e300])
def test_a_configuration_of_nonsense_is_passed_over(alpha: object, tmp_path: Path) -> None:
    config = {"leakyReluLeak": alpha, "alpha": alpha, "categoryVectorDim": alpha, "attribKeysOrder": alpha}
    (draft,) = read(tmp_path, zoo(Progressive().state_dict(), **config))
    assert draft.family == "pytorch-gan-zoo-pgan"
