"""What each layer of an author's code says, where the order in which it runs can be followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gan_export.reading.authors_code import facts_of

PLACED = """import torch.nn as nn
SIZE = 7
class Decoder(nn.Module):
    def __init__(self, z_dim, act=nn.ELU, end=None):
        super().__init__()
        self.emb = nn.Linear(10, 6)
        self.fc = nn.Linear(z_dim, 8 * SIZE * SIZE)
        self.norm = nn.LayerNorm(392)
        self.drop = nn.Dropout(0.3)
        self.act = act()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"))
        self.last = nn.ConvTranspose2d(8, 1, (4, 4), stride=2, padding=SIZE // 7)

    def forward(self, z, y):
        z = torch.cat([z, F.relu(self.emb(y.float()))], dim=1)
        x = self.norm(self.drop(self.act(self.fc(z)))).view(-1, 8, SIZE, SIZE)
        if x.shape[1] != 8:
            raise ValueError("no")
        return torch.clamp(self.last(torch.tanh(self.up(x))), 0.0, 1.0)
"""
ORDER = {
    ("activation", "emb"): "relu", ("activation", "fc"): "elu", ("activation", "norm"): "identity",
    ("activation", "up.1"): "tanh", ("output", "last"): "hardtanh", ("rule", "up.1"): (1, 1, 2, "reflect"),
    ("rule", "last"): (2, 1, 1, "zeros"), ("beyond", "emb"): "has an activation behind its label",
}  # fmt: skip


def placed(folder: Path, code: str) -> dict[tuple[str, str], Any]:
    shapes = {"emb": (6, 10), "fc": (392, 26), "norm": (392,), "up.1": (8, 8, 3, 3), "last": (8, 1, 4, 4)}
    (folder / "net.py").write_text(code)
    found, _ = facts_of({f"{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}, folder / "vae.pth")
    values = {(fact.field, fact.place): fact.value for fact in found if fact.place}
    for key, value in values.items():
        if isinstance(value, dict):
            sized = [value.get(field) for field in ("stride", "padding", "upsample", "padding_mode")]
            values[key] = tuple(sized) if key[0] == "rule" else value["name"]
    return values


def test_each_layer_of_code_that_can_be_followed_speaks_for_itself(tmp_path: Path) -> None:
    assert placed(tmp_path, PLACED) == ORDER


@pytest.mark.parametrize(
    ("old", "new", "activation"),
    [
        ("z_dim, act=nn.ELU", "z_dim, act=nn.SiLU", "silu"),
        ("import torch", "G = Decoder(20, act=nn.GELU)\nimport torch", "gelu"),
        ("import torch", "G = Decoder(20, nn.GELU), Decoder(20, act=nn.Tanh)\nimport torch", "elu"),
        ("def forward", "def call(self, z, y):\n        return self.forward(z, y)\n    def forward", "elu"),
        ("self.up(x)", "self.up(x + 1)", None),
        ("self.up(x)", "self.up(x) + x", None),
        ("self.up(x)", "self.up(x).mul(0.5)", None),
        ("self.up(x)", "self.up(self.up(x))", None),
        ("self.up(x)", "own(x)", None),
        ("act=nn.ELU", "act=None", None),
        ("self.act(self.fc(z))", "self.act(torch.relu(self.fc(z)))", None),
        ("x = self.norm", "for _ in range(2): x = self.norm", None),
        ("nn.Upsample(scale_factor=2)", "Own()", None),
    ],
)
def test_code_that_cannot_be_followed_says_nothing_of_places(
    tmp_path: Path, old: str, new: str, activation: str | None
) -> None:
    assert old in PLACED
    assert placed(tmp_path, PLACED.replace(old, new, 1)).get(("activation", "fc")) == activation


@pytest.mark.parametrize(
    ("joined", "followed"),
    [
        ("z * self.emb(y)", True),
        ("torch.mul(self.emb(y), z)", True),
        ("self.emb(y) + z", True),
        ("2 * z * self.emb(y)", False),
        ("self.emb(y) * z * 0.5", False),
        ("z - self.emb(y)", False),
    ],
)
def test_a_label_that_is_multiplied_or_added_first_is_followed(tmp_path: Path, joined: str, followed: bool) -> None:
    code = PLACED.replace("nn.Linear(10, 6)", "nn.Embedding(6, 10)")
    code = code.replace("torch.cat([z, F.relu(self.emb(y.float()))], dim=1)", joined)
    assert (("rule", "last") in placed(tmp_path, code)) == followed
