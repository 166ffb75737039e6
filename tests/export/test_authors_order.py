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


BLOCK = """
class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.conv = nn.Conv2d(size, size, 3, padding=1)
    def forward(self, x):
        return x + F.relu(self.conv(x))
class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(20, 392)
        self.block = Block(8)
        self.last = nn.ConvTranspose2d(8, 1, 4, 2, 1)
    def forward(self, z):
        x = F.relu(self.fc(z)).view(-1, 8, 7, 7)
        x = self.block(x)
        return torch.tanh(self.last(x))
"""
COMPUTES = "computes with what its layers make"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("x + F.relu", "F.relu", None),
        ("return x + F.relu(self.conv(x))", "x += F.relu(self.conv(x))\n        return x", COMPUTES),
        ("import", "from blocks import Block", COMPUTES),
        ("", "", COMPUTES),
        ("x + F.relu(self.conv(x))", "torch.cat((x, self.conv(x)), 1)", "joins what its layers make"),
        ("x + F.relu", "2 * F.relu", COMPUTES),
        ("x + F.relu(self.conv(x))", "F.normalize(self.conv(x))", "computes normalize of what its layers make"),
        ("x + F.relu(self.conv(x))", "self.conv(self.conv(x))", "runs block.conv 2 times"),
        ("        x = self.block(x)\n", "", "does not run block.conv"),
        ("x + F.relu(self.conv(x))", "elsewhere(x)", None),
        ("x = F.relu(self.fc(z))", "x = F.relu(self.fc(z / 2))", COMPUTES),
        (
            "x + F.relu(self.conv(x))",
            "self.more(x)\n    def more(self, x):\n        for _ in range(3): x = self.conv(x)\n        return x",
            "runs a layer in a loop",
        ),
        ("torch.tanh(self.last(x))", "(torch.tanh(self.last(x)) + 1) / 2", COMPUTES),
        ("x + F.relu(self.conv(x))", "F.relu(self.conv(x))\n        if self.skip:\n            x = x + y", None),
    ],
)
def test_what_no_list_of_layers_does_is_said(tmp_path: Path, old: str, new: str, says: str | None) -> None:
    code = BLOCK
    if old == "import":  # the block stands in another file
        at = BLOCK.index("class Generator")
        (tmp_path / "blocks.py").write_text(BLOCK[:at])
        code = f"{new}\n{BLOCK[at:]}"
    shapes = {"fc": (392, 20), "block.conv": (8, 8, 3, 3), "last": (8, 1, 4, 4)}
    (tmp_path / "net.py").write_text(code if old == "import" else code.replace(old, new, 1))
    found, _ = facts_of({f"{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "G.pth")
    assert {fact.value for fact in found if fact.field == "beyond"} == ({says} if says else set())


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
