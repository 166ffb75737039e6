"""What a person is shown when a draft rests on assumptions, and how an inspected file is laid out."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.foreign_networks import examples_dcgan, fed, sequential, settled
from gan_core.errors import GanportError
from gan_export import asking, inspection
from gan_export.answers import Answers
from gan_export.asking import MARGIN, MIN_WIDTH, contact_sheet
from gan_export.assumptions import describe, describe_value
from gan_export.identify import Identified, NotUnderstoodError, identify
from gan_export.inspection import advise
from gan_export.understanding.understand import draft_candidates
from gan_serve.terminal.layout import WIDEST
from gan_trainer.networks.generator import SpecGenerator

pytestmark = pytest.mark.slow


def without_norms() -> nn.Module:
    """No BatchNorm, so shapes alone have to say how large its images are, and allow more than one size."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(6, 16, 4, 1, 0), nn.ReLU()]
    for width in (16, 8):
        layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1), nn.ReLU()]
    return settled(sequential(*layers, nn.ConvTranspose2d(4, 3, 5, 3, 1), nn.Tanh(), prefix="layer"))


def silent(_: str) -> None:
    """Takes a note and drops it."""


def identified(tmp_path: Path, content: object, **answers: object) -> Identified:
    torch.save(content, tmp_path / "g.pth")
    return identify(tmp_path / "g.pth", Answers(**answers), silent)  # type: ignore[arg-type]


@pytest.mark.parametrize("row", [pytest.param(0, marks=pytest.mark.long), -1])
def test_the_likeliest_generators_are_shown_numbered_and_can_be_picked(row: int, tmp_path: Path) -> None:
    found = identified(tmp_path, without_norms().state_dict())
    draft = found.draft
    assert draft is not None
    rows = [(one.label, one.pixels) for one in asking.candidates_of(found)]
    numbers = [int(label.split()[0]) for label, _ in rows]
    assert numbers[0] == 1
    assert numbers == sorted(numbers)
    likelihoods = [one.likelihood for one in draft.ranked]
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert sum(likelihoods) == pytest.approx(1.0)
    assert len({pixels.tobytes() for _, pixels in rows}) == len(rows)
    sizes = {pixels.shape[1:] for _, pixels in rows}
    assert len(sizes) > 1
    label, pixels = rows[row]
    picked = identified(tmp_path, without_norms().state_dict(), pick=int(label.split()[0]))
    assert picked.draft is not None
    assert np.array_equal(asking.draw(picked.draft), pixels)
    assert not picked.unanswered
    assert not picked.doubts
    error = asking.ask(found, tmp_path / "g.onnx")
    size = "x".join(map(str, draft.spec.interface.image))
    assert error.hint.startswith(f"give --image CxHxW if you know it, the weights allow images of {size}, ")


def test_a_row_that_is_not_there_is_refused(tmp_path: Path) -> None:
    net = settled(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh()))
    draft = identified(tmp_path, net.state_dict()).draft
    assert draft is not None
    with pytest.raises(GanportError, match=f"`pick` names row 1000, expected one of 1 to {len(draft.ranked)}"):
        identified(tmp_path, net.state_dict(), pick=1000)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"latent": "uniform"}, "activation relu, output tanh in [-1, 1]"),
        ({"output": "sigmoid"}, "activation relu, latent distribution normal"),
        ({"activation": {"name": "leaky_relu", "slope": 0.2}}, "output tanh in [-1, 1], latent distribution normal"),
        (
            {"n_classes": 2},
            "activation relu, output tanh in [-1, 1], order of z and label z_label, latent distribution normal",
        ),
    ],
)
def test_what_the_user_says_is_no_question(tmp_path: Path, answers: dict[str, object], words: str) -> None:
    net = settled(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh()))
    draft = identified(tmp_path, net.state_dict(), **answers).draft
    assert draft is not None
    aspects = {part.rpartition(" ")[0].partition(" ")[0] for part in draft.ranked[0].words.split(", ")}
    assert aspects == {part.rpartition(" ")[0].partition(" ")[0] for part in words.split(", ")}
    assert draft.spec.interface.n_classes == answers.get("n_classes", 0)


def test_long_labels_are_wrapped_and_widen_nothing() -> None:
    pixels = np.zeros((2, 8, 8, 1), np.uint8)
    short, long = contact_sheet([("a", pixels)]), contact_sheet([("one → two " * 40, pixels)])
    assert short.width == long.width == MIN_WIDTH + 2 * MARGIN
    assert long.height > short.height + 4 * 15


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("normal", "normal"),
        (0.8, "0.8"),
        ({"name": "leaky_relu", "slope": 0.2}, "leaky_relu 0.2"),
        ({"mode": "bilinear", "align_corners": True}, "bilinear (align_corners)"),
        ({"name": "tanh", "slope": None, "value_range": [-1.0, 1.0]}, "tanh in [-1, 1]"),
        ({"kind": "instance_norm", "features": 4, "eps": 1e-5, "affine": True}, "instance_norm"),
        ({"kind": "group_norm", "groups": 8, "features": 64, "eps": 1e-5, "affine": True}, "group_norm of 8 groups"),
    ],
)
def test_values_in_words(value: object, text: str) -> None:
    assert describe_value(value) == text


def test_a_settled_file_s_page_fits_a_terminal_and_its_sheet_shows_no_other_structure(tmp_path: Path) -> None:
    net = fed(settled(examples_dcgan(32)), 5, 1, 1)
    content = {"netG": {f"module.{name}": tensor for name, tensor in net.state_dict().items()}, "netD": {}}
    content["g_ema"] = [parameter.detach() for parameter in net.parameters()]  # type: ignore[assignment]
    found = identified(tmp_path, content)
    page = inspection.render(found, advise(found))
    lines = page.splitlines()
    assert lines[-1] == f"next: gan-export {tmp_path / 'g.pth'}"
    assert max(map(len, lines[2:-1])) <= WIDEST  # but for the lines with the file's own name
    assert any(line.endswith(" main.0") and "conv_transpose 5 → 8" in line for line in lines)
    assert any(line.endswith(" main.9") for line in lines)
    assert [describe(choice) for choice in found.unanswered] == []
    assert found.draft is not None
    assert not any(one.words.startswith("structure") for one in asking.candidates_of(found))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: [p.detach() for p in net.parameters()], "10 tensors without names, and no network with the same"),
        (lambda _: settled(examples_dcgan(32, nc=5)).state_dict(), "it generates images of 5 channels, expected 1"),
        (
            lambda net: {k: v for k, v in net.state_dict().items() if k != "main.4.running_var"},
            "main.4.running_var is missing",
        ),
        (lambda net: {"block.c_sc.weight": torch.ones(8, 8, 1, 1)} | net.state_dict(), "but a residual network"),
    ],
)
def test_what_is_not_understood_names_the_file(make: object, message: str, tmp_path: Path) -> None:
    assert callable(make)
    with pytest.raises(NotUnderstoodError, match=message) as caught:
        identified(tmp_path, make(settled(examples_dcgan(32))))
    error = caught.value
    assert isinstance(error, GanportError)
    assert str(error).startswith(f"{tmp_path / 'g.pth'}: ")
    assert re.search(r"`\w+`|--\w+", error.hint)
    assert error.reading.tensors
    page = inspection.render_unknown(error.reading)
    assert page.startswith("file ")
    for name, shape in inspection.reading_json(error.reading)["tensors"].items():
        assert any(line.split()[:1] == [name] for line in page.splitlines()[4:]), name
        assert "x".join(map(str, shape)) in page


def test_large_images_are_drawn_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    draft = draft_candidates(examples_dcgan(32, prefix="net").state_dict())[0]
    whole = asking.draw(draft, 5)
    sizes: list[int] = []
    forward = SpecGenerator.forward

    def counted(self: SpecGenerator, z: torch.Tensor) -> torch.Tensor:
        sizes.append(len(z))
        return forward(self, z)

    monkeypatch.setattr(SpecGenerator, "forward", counted)
    monkeypatch.setattr(asking, "ELEMENTS", 2 * max(map(math.prod, draft.spec.shapes)))
    assert (asking.draw(draft, 5) == whole).all()
    assert sizes == [2, 2, 1]
