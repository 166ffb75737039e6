"""Files of generators with branches, in their authors' formats: read, and drafted as their code runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.foreign_biggan import Brock, Converted
from export.foreign_fastgan import FastNet, ProjectedPickled
from export.foreign_graphs import MimicryNet, Progressive, R3Net, R3Pickled, rattled
from export.foreign_networks import difference
from gan_core.latents import latents
from gan_core.spec import layers as L
from gan_export.answers import Answers
from gan_export.draft import Draft
from gan_export.families import RefusedError
from gan_export.families.fastgan import FastGan, Numbers
from gan_export.identify import identify
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
    "r3gan": (R3Net, dict, "r3gan", (3, 16, 16)),
    "r3gan with classes": (lambda: R3Net(4), dict, "r3gan", (3, 16, 16)),
    "projected-gan": (
        lambda: FastNet(128, projected=True, twice=True), dict, "projected-gan", (3, 128, 128)
    ),
    "biggan-deep": (lambda: Brock(deep=True), dict, "biggan-deep", (3, 16, 16)),
    "biggan-deep, converted": (Converted, dict, "biggan-deep-huggingface", (3, 16, 16)),
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


@pytest.mark.parametrize("classes", [0, 3])
def test_a_pickle_of_r3gan(classes: int, tmp_path: Path) -> None:
    module = rattled(R3Pickled(classes))
    (draft,) = read(tmp_path, {"G": rattled(R3Pickled(classes), 1), "G_ema": module, "cur_nimg": 9})
    assert (draft.family, draft.open_choices) == ("r3gan", ())
    assert any("1 of 3 stages run in half precision" in note for note in draft.notes)
    assert difference(draft, module) <= EXACT


@pytest.mark.parametrize("options", [{"twice": False}, {"classes": 3, "twice": True}], ids=str)
def test_a_pickle_of_projected_gan(options: dict[str, Any], tmp_path: Path) -> None:
    module = rattled(ProjectedPickled(**options))
    (draft,) = read(tmp_path, {"G_ema": module})
    assert (draft.family, draft.open_choices) == ("projected-gan", ())
    assert draft.spec.interface.image == (3, 128, 128)
    assert any("noise" in note for note in draft.notes) == options["twice"]
    assert difference(draft, module) <= EXACT


def test_a_file_of_fastgan_asks_for_the_end(tmp_path: Path) -> None:
    """Its averaged weights are a list without names, and the names of the others stand behind `module.`."""
    module = rattled(FastNet())
    state = {f"module.{key}": tensor.clone() for key, tensor in module.state_dict().items()}
    tree = {
        "g": state,
        "d": {"module.down.weight": torch.rand(4, 3, 4, 4)},
        "g_ema": [p.data for p in module.parameters()],
    }
    draft = read(tmp_path, tree)[0]
    assert (draft.family, draft.spec.interface.image) == ("fastgan", (3, 256, 256))
    assert [choice.field for choice in draft.open_choices] == ["output"]
    assert difference(draft, module) <= EXACT


@pytest.mark.parametrize(("scale", "settled"), [(1.3, True), (6.0, False), (0.1, False)])
@torch.no_grad()
def test_the_images_show_whether_fastgan_ends_in_tanh(tmp_path: Path, scale: float, settled: bool) -> None:
    """Its values within the range and up to its ends, far beyond, or nowhere near."""
    torch.manual_seed(0)
    module = rattled(FastNet())
    image: Tensor = module(torch.from_numpy(latents(range(8), 6)))
    module.get_submodule("to_big").get_buffer("weight_u").mul_(image.abs().flatten()[::4].quantile(0.999) / scale)
    (draft,) = read(tmp_path, {"g": module.state_dict()})
    (choice,) = (choice for choice in draft.choices if choice.field == "output")
    assert choice.evidence.settled is settled, choice.reason
    assert "beyond 1.3" in choice.reason


def test_fastgan_ends_in_tanh_at_1024_pixels() -> None:
    network = FastGan().network(Numbers("", 6, (4,) * 9, (8,), 1024, 3))
    assert network.layers[-1][1] == L.Activation("tanh")
    assert network.questions == ()


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pggan", "sagan", "biggan-deep", "r3gan"])
def test_a_file_alone_settles_everything(name: str, tmp_path: Path) -> None:
    """Its statistics, which nothing has made, are noted; its output activation is that of the code."""
    make, wrap, family, _ = FILES[name]
    torch.save(wrap(rattled(make()).state_dict()), tmp_path / "file.pt")
    found = identify(tmp_path / "file.pt", Answers())
    assert found.draft is not None
    assert (found.draft.family, found.unanswered, found.doubts) == (family, (), ())
    norms = any(isinstance(layer, L.BatchNorm) for layer in found.draft.spec.layers)
    assert any("does not fit" in note for note in found.draft.notes) == norms


def test_what_a_configuration_says_is_proved(tmp_path: Path) -> None:
    state = Progressive().state_dict()
    (draft,) = read(tmp_path, zoo(state, lossCriterion="MSE"))
    assert draft.spec.layers[-1] == L.Activation("tanh")
    found = {choice.field: choice.evidence for choice in draft.choices}
    assert (found["output"], found["activation"], found["latent"]) == ("proved", "proved", "strong")
    (draft,) = read(tmp_path, {"avgG": state})
    assert {choice.field: choice.evidence for choice in draft.choices}["output"] == "strong"


def test_a_progressive_gan_that_is_fading_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"its alpha is 0\.3: the training was still fading in 16 pixels") as caught:
        read(tmp_path, zoo(Progressive().state_dict(), alpha=0.3))
    assert "end of a resolution" in caught.value.hint


@pytest.mark.parametrize("alpha", [None, "half", True, [1.0], 1e300])
def test_a_configuration_of_nonsense_is_passed_over(alpha: object, tmp_path: Path) -> None:
    config = {"leakyReluLeak": alpha, "alpha": alpha, "categoryVectorDim": alpha, "attribKeysOrder": alpha}
    (draft,) = read(tmp_path, zoo(Progressive().state_dict(), **config))
    assert draft.family == "pytorch-gan-zoo-pgan"
