"""What the author's code says of a checkpoint that lies beside it; it is read, and never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_core.errors import GanportError
from gan_export.answers import Answers
from gan_export.draft import Draft, Evidence
from gan_export.identify import check_possible, identify
from gan_export.options import export_answers
from gan_export.reading.authors_code import MOST_FILES, facts_of
from gan_export.reading.authors_words import Fact

CODE = """import torch
from torch import nn
raise SystemExit("this code is never run")

class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(20, 64),
            nn.LeakyReLU(0.05),
            nn.Linear(64, 64),
            nn.BatchNorm1d(64, 0.8),
            nn.LeakyReLU(0.05),
            nn.Linear(64, 784), nn.Sigmoid())

class Discriminator(nn.Module):
    def __init__(self):
        self.main = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())

z = torch.randn(16, 20)
"""
SAID = {
    "activation": ({"name": "leaky_relu", "slope": 0.05}, "generator.py line 10: nn.LeakyReLU(0.05)"),
    "output": ({"name": "sigmoid", "slope": None, "value_range": [0.0, 1.0]}, "generator.py line 14: nn.Sigmoid()"),
    "eps": (0.8, "generator.py line 12: nn.BatchNorm1d(64, 0.8)"),
    "latent": ("normal", "generator.py line 20: torch.randn(16, 20)"),
}


def network(norm: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    middle: list[nn.Module] = [nn.BatchNorm1d(64, 0.8)] if norm else []
    slope = nn.LeakyReLU(0.05)
    return nn.Sequential(nn.Linear(20, 64), slope, nn.Linear(64, 64), *middle, slope, nn.Linear(64, 784), nn.Sigmoid())


def tensors(norm: bool = True) -> dict[str, Tensor]:
    return {f"main.{name}": tensor for name, tensor in network(norm).state_dict().items()}


def facts(folder: Path, code: str, name: str = "generator.py") -> dict[str, Fact]:
    (folder / name).write_text(code)
    return {fact.field: fact for fact in facts_of(tensors(), folder / "netG.pth")[0]}


def test_a_class_of_the_same_names_and_sizes_speaks(tmp_path: Path) -> None:
    found = facts(tmp_path, CODE)
    assert {field: (fact.value, fact.where) for field, fact in found.items()} == SAID


def test_a_notebook_speaks_without_its_magics_and_broken_cells(tmp_path: Path) -> None:
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "source": "class Generator: no code"},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "!pip install torch\n", "import torch\n"]},
        {"cell_type": "code", "source": "this does not parse ("},
        {"cell_type": "code", "source": CODE.splitlines(keepends=True)},
    ]
    found = facts(tmp_path, json.dumps({"cells": cells}), "train.ipynb")
    assert found["activation"].where == "train.ipynb cell 4 line 10: nn.LeakyReLU(0.05)"


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("class Generator", "class Critic", {*SAID}),
        ("self.main", "self.model", {*SAID}),
        ("nn.Linear(20, 64)", "nn.Linear(21, 64)", {*SAID}),
        ("0.05),\n            nn.Linear(64, 64)", "0.1), nn.Linear(64, 64)", {"activation"}),
        ("0.05", "slope", {"activation"}),
        ("(64, 0.8)", "(64, eps=EPS)", {"eps"}),
        ("torch.randn(16, 20)", "2 * torch.rand(16, 20) - 1", {"latent"}),
        ("torch.randn(16, 20)", "torch.randn(16, 20) + torch.rand(1)", {"latent"}),
    ],
)  # fmt: skip
def test_what_it_does_not_say_throughout_is_not_heard(tmp_path: Path, old: str, new: str, missing: set[str]) -> None:
    assert old in CODE
    assert {*SAID} - {*facts(tmp_path, CODE.replace(old, new))} == missing


@pytest.mark.parametrize(("size", "heard"), [("64, 64", {*SAID}), ("64, 65", set())])
def test_layers_in_a_function_that_the_class_calls_are_heard(tmp_path: Path, size: str, heard: set[str]) -> None:
    before, rest = CODE.split("        self.main = nn.Sequential(\n", 1)
    layers, behind = rest.split("nn.Sigmoid())\n", 1)
    function = f"def layers():\n    return nn.Sequential(\n{layers}nn.Sigmoid())\n\n"
    code = before.replace("class Gen", f"{function}class Gen") + "        self.main = layers()\n" + behind
    found = facts(tmp_path, code.replace("nn.Linear(64, 64)", f"nn.Linear({size})"))
    assert {field: fact.value for field, fact in found.items()} == {field: SAID[field][0] for field in heard}


def test_functions_in_forward_are_heard(tmp_path: Path) -> None:
    code = CODE.replace("nn.LeakyReLU(0.05)", "nn.Identity()").replace(
        "class Discriminator",
        "    def forward(self, x):\n        return F.leaky_relu(x, negative_slope=0.05)\nclass Discriminator",
    )
    assert facts(tmp_path, code)["activation"].value == SAID["activation"][0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("nn.Linear(20, 64),", "nn.Flatten(), nn.Linear(20, 64),"),
        ("nn.Linear(64, 784), nn.Sigmoid()", "nn.Linear(64, 784), nn.Sigmoid(), nn.Linear(784, 784)"),
        ("nn.Linear(64, 64),", "nn.Linear(64, 64), nn.Linear(64, 64),"),
        ("nn.BatchNorm1d(64, 0.8)", "nn.BatchNorm1d(W // 2, 0.8)"),
    ],
)
def test_a_class_that_has_its_layers_elsewhere_is_not_heard(tmp_path: Path, old: str, new: str) -> None:
    assert old in CODE
    assert facts(tmp_path, "W = 4 * 8\n" + CODE.replace(old, new)) == {}


LIST = """hidden, image = 64, 784
size = 64
G = nn.Sequential(
    nn.Linear(LATENT, size), nn.LeakyReLU(0.05), nn.Linear(size, size), nn.BatchNorm1d(size, 0.8), nn.LeakyReLU(0.05),
    nn.Linear(size, 28 * 28), nn.Sigmoid())
D = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 784))
small = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 1))
"""


def test_a_class_that_only_holds_the_network_does_not_count(tmp_path: Path) -> None:
    trainer = "class Trainer:\n    def __init__(self, main):\n        self.main = main\n"
    assert {*facts(tmp_path, CODE + trainer)} == {*SAID}


@pytest.mark.parametrize("where", ["G", "decoder", "self.decoder"])
def test_a_list_of_layers_speaks_for_a_file_that_has_numbers_alone(tmp_path: Path, where: str) -> None:
    (tmp_path / "train.py").write_text(LIST.replace("G =", f"{where} ="))
    found, note = facts_of(network().state_dict(), tmp_path / "G.ckpt")
    assert {fact.field: fact.value for fact in found} == {
        "activation": {"name": "leaky_relu", "slope": 0.05},
        "output": {"name": "sigmoid", "slope": None, "value_range": [0.0, 1.0]},
        "eps": 0.8,
    }
    assert note == ""
    assert facts_of(tensors(), tmp_path / "G.ckpt") == ([], "")


def test_the_rest_of_the_repository_is_read_where_nothing_beside_speaks(tmp_path: Path) -> None:
    models, code = tmp_path / "models", tmp_path / "src" / "net"
    models.mkdir()
    code.mkdir(parents=True)
    (models / "plot.py").write_text("x = 1")
    assert facts(code, CODE) != {}
    assert facts_of(tensors(), models / "netG.pth") == ([], "")
    (tmp_path / ".git").mkdir()
    found, _ = facts_of(tensors(), models / "netG.pth")
    assert {fact.field: fact.where for fact in found} == {
        field: f"src/net/{where}" for field, (_, where) in SAID.items()
    }
    (tmp_path / "venv").mkdir()
    (code / "generator.py").rename(tmp_path / "venv" / "generator.py")
    assert facts_of(tensors(), models / "netG.pth") == ([], "")


def test_a_learned_slope_leaves_the_output(tmp_path: Path) -> None:
    code = CODE.replace("nn.LeakyReLU(0.05)", "nn.PReLU()")
    weights = {f"main.{i}.weight": torch.ones(1) for i in (1, 4)} | tensors()
    (tmp_path / "generator.py").write_text(code)
    found, _ = facts_of(weights, tmp_path / "netG.pth")
    assert {fact.field for fact in found} == {"output", "eps", "latent"}


@pytest.mark.parametrize(
    ("joined", "field", "value"),
    [
        ("torch.cat((z, self.emb(y)), 1)", "merge", "z_label"),
        ("torch.cat([labels, z], dim=1)", "merge", "label_z"),
        ("torch.cat([labels, z], 1), torch.cat([z, labels], 1)", "merge", None),
        ("torch.cat([z, x], 1)", "merge", None),
        ("torch.cat(parts, 1)", "merge", None),
        ("z * self.emb(y)", "merge", "multiply"),
        ("torch.mul(self.label_emb(y), z)", "merge", "multiply"),
        ("z + label_emb.view(-1, 20)", "merge", "add"),
        ("z.add(self.embed(y))", "merge", "add"),
        ("(z + self.emb(y)) * self.emb(y)", "merge", None),
        ("z * (2 + self.n_classes)", "merge", None),
        ("self.fc(z) + self.emb(y)", "merge", None),
        ("z[:, :, :28, :28]", "crop", 28),
        ("z[..., 1:31, 1:31]", "crop", 30),
        ("z[:, :, 1:-1, 1:-1]", "crop", None),
        ("z[:, :, :28, :28] if z.size(2) else z[:, :, :30, :30]", "crop", None),
        ("torch.cat((z, c, s), 1)", "beyond", "joins 3 inputs"),
        ("torch.cat((z, F.relu(self.label_fc(c))), 1)", "beyond", "has an activation behind its label"),
    ],
)
def test_how_z_and_label_are_joined_is_heard(tmp_path: Path, joined: str, field: str, value: str | int | None) -> None:
    code = CODE.replace("class Disc", f"    def forward(self, z, y):\n        return self.main({joined})\nclass Disc")
    found = facts(tmp_path, code)
    assert (found[field].value if field in found else None) == value


def test_code_without_an_end_is_heard_as_such(tmp_path: Path) -> None:
    code = CODE.replace("nn.Linear(64, 784), nn.Sigmoid()", "nn.Linear(64, 784)")
    code = code.replace("class Disc", "    def forward(self, x):\n        return self.main(x)\nclass Disc")
    found = facts(tmp_path, code)["output"].value
    assert found == {"name": "identity", "slope": None, "value_range": None}


def test_classes_that_disagree_are_not_heard(tmp_path: Path) -> None:
    facts(tmp_path, CODE)
    found = facts(tmp_path, CODE.replace("0.05", "0.2").replace("Sigmoid", "Tanh"), "other.py")
    assert "activation" not in found
    assert "output" not in found
    assert found["eps"].value == 0.8


def test_what_lies_about_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "loop.py").symlink_to(tmp_path / "loop.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "binary.py").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "deep.py").write_text("(" * 5000)
    (tmp_path / "large.py").write_text("x = 1\n" * 900_000)
    (tmp_path / "broken.ipynb").write_text('{"cells": [1, {"cell_type": "code"}, null]}')
    (tmp_path / "list.ipynb").write_text("[]")
    for number in range(3 * MOST_FILES):
        (tmp_path / f"z{number}.py").write_text("x = 1")
    assert {*facts(tmp_path, CODE, "a.py")} == {*SAID}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.py", None, "none.py"),
        ("text.py", b"this is no Python", "is no Python that can be read"),
        ("empty.ipynb", b"", "is no Python that can be read"),
        ("large.py", b"x = 1\n" * 900_000, "over 4,194,304 bytes"),
    ],
)
def test_a_named_file_has_to_be_code(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(GanportError, match=words) as error:
        facts_of(tensors(), tmp_path / "netG.pth", tmp_path / name)
    assert error.value.hint


def test_a_named_file_that_says_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("x = 1")
    found, note = facts_of(tensors(), tmp_path / "netG.pth", tmp_path / "other.py")
    assert found == []
    assert note == "nothing in other.py has the names and sizes of this checkpoint's parts"


def test_beside_code_that_is_run_it_has_no_place() -> None:
    with pytest.raises(GanportError, match="--source has no place beside --module"):
        export_answers(source=Path("net.py"), module="net.py:G")


def identified(folder: Path, norm: bool) -> Draft:
    torch.save(tensors(norm), folder / "netG.pth")
    draft = identify(folder / "netG.pth", Answers(), lambda _: None).draft
    assert draft is not None
    return draft


@pytest.mark.slow
def test_what_the_code_says_decides_what_nothing_else_shows(tmp_path: Path) -> None:
    (tmp_path / "generator.py").write_text(CODE.replace("            nn.BatchNorm1d(64, 0.8),\n", ""))
    draft = identified(tmp_path, norm=False)
    chosen = {choice.field: choice for choice in draft.choices if choice.field in SAID}
    assert {field: choice.value for field, choice in chosen.items()} == {
        field: value for field, (value, _) in SAID.items() if field != "eps"
    }
    assert all("generator.py line" in choice.reason for choice in chosen.values())
    assert chosen["activation"].evidence is Evidence.STRONG


@pytest.mark.slow
def test_two_labels_are_refused_and_named(tmp_path: Path) -> None:
    code = CODE.replace("            nn.BatchNorm1d(64, 0.8),\n", "")
    joined = "    def forward(self, z, c, s):\n        return self.main(torch.cat((z, c, s), 1))\nclass Disc"
    (tmp_path / "generator.py").write_text(code.replace("class Disc", joined))
    torch.save(tensors(norm=False), tmp_path / "netG.pth")
    with pytest.raises(GanportError, match=r"joins 3 inputs, which no list of layers says: generator.py line 16"):
        check_possible(identify(tmp_path / "netG.pth", Answers(), lambda _: None))


@pytest.mark.slow
def test_layers_that_run_in_another_order_are_refused(tmp_path: Path) -> None:
    sizes = {"fc1": (64, 20), "fc2": (64, 64), "fc3": (64, 64), "fc4": (784, 64)}
    layers = [f"        self.{name} = nn.Linear({i}, {o})" for name, (o, i) in sizes.items()]
    run = "self.fc4(torch.relu(self.fc2(torch.relu(self.fc3(torch.relu(self.fc1(z)))))))"
    head = ["class G(nn.Module):", "    def __init__(self):", *layers, "    def forward(self, z):"]
    (tmp_path / "net.py").write_text("\n".join([*head, f"        return torch.tanh({run})"]))
    torch.save({f"{n}.weight": torch.randn(size) for n, size in sizes.items()}, tmp_path / "G.pth")
    with pytest.raises(GanportError, match=r"code runs fc1, fc3, fc2, fc4 in this order: net\.py line 3"):
        check_possible(identify(tmp_path / "G.pth", Answers(), lambda _: None))


@pytest.mark.slow
def test_a_layer_without_activation_does_not_contradict_the_code(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 64), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64))
    net.extend([nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 784), nn.Tanh()])
    with torch.no_grad():
        for _ in range(100):
            net.train()(torch.randn(64, 20))
    listed = ", ".join(f"nn.{layer}" for layer in net)
    (tmp_path / "train.py").write_text(f"G = nn.Sequential({listed})\nz = torch.randn(8, 20)")
    torch.save(net.state_dict(), tmp_path / "netG.pth")
    found = identify(tmp_path / "netG.pth", Answers(), lambda _: None)
    assert found.draft is not None
    assert not any("otherwise" in note for note in found.draft.notes)
    assert not found.unanswered
    values = [c.value["name"] for c in found.draft.choices if c.field == "activation"]
    assert values == ["identity", "relu", "relu"]


@pytest.mark.slow
def test_the_statistics_overrule_the_code(tmp_path: Path) -> None:
    net = network().train()
    with torch.no_grad():
        for _ in range(100):
            net(torch.randn(64, 20))
    (tmp_path / "generator.py").write_text(CODE.replace("0.05", "0.3"))
    torch.save({f"main.{name}": tensor for name, tensor in net.state_dict().items()}, tmp_path / "netG.pth")
    draft = identify(tmp_path / "netG.pth", Answers(), lambda _: None).draft
    assert draft is not None
    first = next(choice for choice in draft.choices if choice.field == "activation")
    assert first.value == {"name": "leaky_relu", "slope": 0.05}
    assert any("the author's code says otherwise: generator.py line 10" in note for note in draft.notes)
