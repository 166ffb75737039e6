"""The pictures that README and docs/models.md show are what the commands beside them draw."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.conftest import Gen

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SHOWN = {
    "default-walk.webp": ("README.md", "gan-gen --walk 3 --frames 72 --by-class --cols 5 --labels"),
    "default-grid.png": ("docs/models.md", "gan-gen"),
    "default-model.png": ("docs/models.md", "gan-gen --by-class --labels"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWN)
def test_it_is_what_the_command_draws(gen: Gen, name: str) -> None:
    page, command = SHOWN[name]
    text = (IMAGES.parents[1] / page).read_text("utf-8")
    assert f"`{command}`" in text
    assert f"images/{name}" in text
    assert gen(*shlex.split(command)[1:], "--out", name)[0] == 0
    with Image.open(name) as drawn, Image.open(IMAGES / name) as kept:
        assert getattr(drawn, "n_frames", 1) == getattr(kept, "n_frames", 1)
        for frame in range(getattr(kept, "n_frames", 1)):
            drawn.seek(frame)
            kept.seek(frame)
            now, before = (np.asarray(each.convert("L")).astype(int) for each in (drawn, kept))
            assert np.abs(now - before).max() <= 2, f"draw it again: {command} --out docs/images/{name}"
