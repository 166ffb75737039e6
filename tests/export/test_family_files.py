"""Files of known generators that are damaged, changed, or saved in another way: the same images, or one line that says
what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from export import face_networks
from export import image_networks as own
from export.style_networks import Rosinality
from export.test_lightweight import Generator as Lightweight
from export.upscale_networks import EsrGan
from gan_core.errors import GanportError
from gan_export.answers import Answers
from gan_export.draft import Draft
from gan_export.families import Family, Shapes
from gan_export.families.registry import families, near_miss
from gan_export.identify import identify, module_of

Saved = dict[str, Any]
Tensors = dict[str, Tensor]


def settled(build: Callable[[], nn.Module]) -> Callable[[], Tensors]:
    return lambda: own.settled(build()).state_dict()


class File(NamedTuple):
    """A family's file: its tensors, and what they are saved in."""

    tensors: Callable[[], Tensors]
    wrap: Callable[[Tensors], Saved]


FILES = {
    "stylegan2-rosinality": File(lambda: dict(Rosinality().held), lambda s: {"g_ema": s, "latent_avg": torch.zeros(6)}),
    "lightweight-gan": File(
        settled(lambda: Lightweight((3, 2))), lambda s: {"GAN": {f"GE.{key}": tensor for key, tensor in s.items()}}
    ),
    "esrgan": File(settled(lambda: EsrGan(6, 3, 2, 4)), lambda s: {"params_ema": s}),
    "cyclegan-resnet": File(settled(lambda: own.CycleGan(3, 1, 4, 2, nn.InstanceNorm2d)), dict),
    "gfpgan-clean": File(settled(lambda: face_networks.Restorer((3, 2, 4))), lambda s: {"params_ema": s}),
}


def drafted(saved: Any, path: Path) -> Draft:
    torch.save(saved, path)
    draft = identify(path, Answers()).draft
    assert draft is not None
    return draft


@torch.no_grad()
def image_of(draft: Draft) -> Tensor:
    taken = draft.spec.interface.input
    shape = (3, 16, 16) if taken is not None else draft.spec.interface.input_shape
    given = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    image: Tensor = module_of(draft)(given)
    return image


def cast(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    return {key: each.to(dtype) if each.is_floating_point() else each for key, each in tensors.items()}


SAVES: dict[str, Callable[[Tensors, Callable[[Tensors], Saved]], Saved]] = {
    "of several GPUs": lambda s, wrap: wrap({f"module.{key}": tensor for key, tensor in s.items()}),
    "compiled": lambda s, wrap: wrap({f"_orig_mod.{key}": tensor for key, tensor in s.items()}),
    "with an optimizer": lambda s, _: {
        "netG": s,
        "optimizer": {"state": {0: {"exp_avg": torch.randn(7)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    },
    "averaged beside": lambda s, _: {
        "netG": {key: tensor + 1 if tensor.is_floating_point() else tensor for key, tensor in s.items()},
        "netG_ema": s,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_however_it_was_saved_it_makes_the_same_images(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors, wrap = FILES[name].tensors(), FILES[name].wrap
    first = drafted(wrap(tensors), tmp_path / "file.pth")
    assert first.family == name
    expected = image_of(first)
    for words, save in SAVES.items():
        if name == "stylegan2-rosinality" and words in ("with an optimizer", "averaged beside"):
            continue  # the mean of w lies beside the generator
        draft = drafted(save(tensors, wrap), tmp_path / "file.pth")
        assert draft.family == name, words
        torch.testing.assert_close(image_of(draft), expected, msg=words)
    for dtype in (torch.float16, torch.bfloat16):
        halved = cast(cast(tensors, dtype), torch.float32)
        low, same = (drafted(wrap(each), tmp_path / "file.pth") for each in (cast(tensors, dtype), halved))
        torch.testing.assert_close(image_of(low), image_of(same))


def another_shape(tensors: Tensors) -> Tensors:
    key = list(tensors)[-1]
    return tensors | {key: torch.randn(tensors[key].shape[0] + 1, *tensors[key].shape[1:])}


FAULTS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "another shape": (another_shape, "tensors as in .* is .*, expected "),
    "missing": (lambda s: {key: s[key] for key in list(s)[:-1]}, "tensors as in .* is missing"),
    "more": (lambda s: s | {"extra.weight": torch.randn(3, 3)}, "tensors as in .* extra.weight is unexpected"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", FAULTS)
def test_another_tensor_is_named(name: str, fault: str, tmp_path: Path) -> None:
    change, hint = FAULTS[fault]
    with pytest.raises(GanportError) as caught:
        drafted(FILES[name].wrap(change(FILES[name].tensors())), tmp_path / "file.pth")
    assert "\n" not in str(caught.value)
    assert re.search(hint, caught.value.hint), caught.value.hint


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_refused(name: str, tmp_path: Path) -> None:
    tensors, path = FILES[name].tensors(), tmp_path / "file.pth"
    torch.save(FILES[name].wrap(tensors), path)
    data = path.read_bytes()
    for part in (0.3, 0.9, 0.999):
        path.write_bytes(data[: int(part * len(data))])
        with pytest.raises(GanportError, match="cut short or damaged"):
            identify(path, Answers())
    key = next(key for key, tensor in tensors.items() if tensor.ndim == 4)
    spoilt = tensors[key].clone()
    spoilt.view(-1)[0] = float("nan")
    with pytest.raises(GanportError, match=f"{key} .*holds 1 NaN"):
        drafted(FILES[name].wrap(tensors | {key: spoilt}), path)


@pytest.mark.slow
@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
def test_a_file_that_is_nearly_of_a_family_is_told(family: Family[Any]) -> None:
    """With one tensor too many, and without one: but for those that its sizes are read from."""
    if family.name == "ganport":
        pytest.skip("what gan-train writes says itself what it is")
    shapes = family.network(family.sample(Random(3))).shapes
    more = near_miss(Shapes(shapes | {"extra.weight": (3, 3)}))
    assert more is not None
    assert f"{len(shapes)} of {len(shapes) + 1} tensors as in" in str(more)
    assert "extra.weight is unexpected" in str(more)
    told = [near_miss(Shapes({key: s for key, s in shapes.items() if key != left})) for left in shapes]
    named = [key for key, near in zip(shapes, told, strict=True) if f"; {key} is missing" in str(near)]
    assert len(named) >= 0.4 * len(shapes)
