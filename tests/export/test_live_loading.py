"""Running the user's code: what is found in it, and each of its errors as one line."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gan_core.errors import GanportError
from gan_core.process import quiet
from gan_export.live import loading
from gan_export.live.building import build
from gan_export.live.loading import load_code

NETWORKS = Path(__file__).with_name("live_networks.py")


def reference(name: str) -> str:
    return f"{NETWORKS}:{name}"


def written(folder: Path, text: str, name: str = "net.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "args", "made"),
    [
        ("Plain", None, "Plain"),
        ("Plain", {"nz": 3, "nc": 1}, "Plain"),
        ("Plain", [3, 8], "Plain"),
        ("make", None, "Plain"),
        ("make", {"nz": 2}, "Plain"),
        ("INSTANCE", None, "Flat"),
    ],
)
def test_class_factory_and_instance(name: str, args: Any, made: str) -> None:
    code = load_code(reference(name))
    assert type(build(code, args)).__name__ == made
    assert code.label == f"live_networks.py:{name}"
    provenance = code.provenance()
    assert provenance["module"] == f"live_networks.py:{name}"
    assert len(provenance["sha256"]) == 64


def test_wrappers_are_taken_off() -> None:
    code = load_code(reference("INSTANCE"))
    wrapped = type(code)(code.path, code.name, code.label, nn.DataParallel(code.target))
    assert type(build(wrapped, None)).__name__ == "Flat"


def test_the_code_is_announced_and_its_prints_go_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = written(tmp_path, "print('hello from the network')\nimport torch\nG = torch.nn.Linear(2, 2)\n")
    build(load_code(f"{path}:G"), None)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"`module`: running the code in {path}" in caplog.text
    assert "hello from the network" in printed.err


def test_code_that_may_never_end_is_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(loading, "LONG_S", 0.02)
    caplog.set_level("INFO")
    with loading.users_code(None, "calling net.py:G"), quiet():
        time.sleep(0.1)
    assert "calling net.py:G takes more than 0.02 seconds; Ctrl-C ends it" in caplog.text
    with pytest.raises(KeyboardInterrupt), loading.users_code(None, "calling net.py:G"), quiet():
        signal.raise_signal(signal.SIGINT)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


SCRIPT = """
import argparse
import sys
import no_such_package
from no_such_package import Base
import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--nz", type=int, default=5)
opt = parser.parse_args()
print(opt)
if torch.cuda.is_available() and opt.nz:
    device, wide = "cuda", 7
else:
    device, wide = "cpu", 3
shape = (wide, int(opt.nz) - 1)
loaded = no_such_package.load(shape)

class Data(Base):
    pass

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.start = nn.Linear(opt.nz, shape[0])

net = Net().to(device)
for epoch in range(10):
    raise SystemExit("this trains")
if __name__ == "__main__":
    sys.exit(1)
"""


@pytest.mark.parametrize("name", ["train.py", "train.ipynb"])
def test_of_a_script_or_notebook_only_the_definitions_run(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SCRIPT
    if name.endswith(".ipynb"):
        parts = SCRIPT.split("\n\n")
        cells = [{"cell_type": "code", "source": f"%matplotlib inline\n!pip list\n{part}"} for part in parts]
        text = json.dumps({"cells": [*cells, {"cell_type": "markdown", "source": "for x in y: z"}]})
    path = written(tmp_path, text, name)
    before = list(sys.argv)
    with caplog.at_level(logging.INFO):
        made = build(load_code(f"{path}:Net"), None)
    weight = made.get_parameter("start.weight")
    assert (weight.shape, capsys.readouterr().out, sys.argv) == ((3, 5), "", before)
    assert f"{name}: of a script, only imports, definitions and plain values are run" in caplog.text
    assert "No module named 'no_such_package'; it goes on without" in caplog.text
    with pytest.raises(GanportError, match="NameError: name 'Base' is not defined"):
        load_code(f"{path}:Data")
    with pytest.raises(GanportError, match="has no 'Other'"):
        load_code(f"{path}:Other")


def test_a_missing_package_that_the_network_does_not_need(tmp_path: Path) -> None:
    text = "import no_such_package\nfrom torch import nn\n\nclass Net(nn.Linear):\n    pass\n"
    needing = "\nclass Other(no_such_package.Base):\n    pass\n"
    path = written(tmp_path, text + needing)
    assert build(load_code(f"{path}:Net"), [2, 3]).get_parameter("weight").shape == (3, 2)
    path.write_text("from torch import nn\n\nclass Net(nn.Linear):\n    pass\n\nopen('no such data')\n")
    assert build(load_code(f"{path}:Net"), [2, 3]).get_parameter("weight").shape == (3, 2)
    path.write_text(text + needing)
    with pytest.raises(GanportError, match="'no_such_package'") as refused:
        load_code(f"{path}:Other")
    assert refused.value.hint


def test_neighbours_and_packages_import(tmp_path: Path) -> None:
    written(tmp_path, "WIDTH = 3\n", "live_neighbour.py")
    beside = written(tmp_path, "import torch, live_neighbour\nG = torch.nn.Linear(live_neighbour.WIDTH, 1)\n")
    before = list(sys.path)
    assert build(load_code(f"{beside}:G"), None).in_features == 3
    assert sys.path == before
    package = tmp_path / "live_package" / "nets"
    package.mkdir(parents=True)
    written(package.parent, "", "__init__.py")
    written(package, "", "__init__.py")
    written(package, "WIDTH = 4\n", "sizes.py")
    inside = written(package, "import torch\nfrom .sizes import WIDTH\nG = torch.nn.Linear(WIDTH, 1)\n", "g.py")
    assert build(load_code(f"{inside}:G"), None).in_features == 4


def test_a_dotted_name_is_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "import torch\nG = torch.nn.Linear(5, 1)\n", "live_dotted.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    code = load_code("live_dotted:G")
    assert code.label == "live_dotted:G"
    assert code.path == tmp_path / "live_dotted.py"


def test_a_file_may_be_called_torch(tmp_path: Path) -> None:
    path = written(tmp_path, "G = 3\n", "torch.py")
    assert load_code(f"{path}:G").target == 3
    assert sys.modules["torch"] is torch


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("def f(:\n", "net.py line 1: SyntaxError", "Python"),
        ("x = 1\n  y = 2\n", "line 2: IndentationError", "Python"),
        ("import no_such_package_here\n", "at net.py line 1: ModuleNotFoundError", "install 'no_such_package_here'"),
        ("from torch import NoSuchThing\n", "at net.py line 1: ImportError", "`debug`"),
        (
            "x = 1\nraise ValueError('bad config\\nsecond line')\n",
            "at net.py line 2: ValueError: bad config",
            "`debug`",
        ),
        ("import sys\nsys.exit('usage: train.py')\n", "ended the program at net.py line 2", "__main__"),
        ("import argparse\nargparse.ArgumentParser().parse_args(['--epochs'])\n", "has no 'G'", "no torch module"),
        ("1 / 0\n", "ZeroDivisionError", "`debug`"),
        ("assert False, 'needs a GPU: CUDA'\n", "AssertionError: needs a GPU", "runs on the CPU"),
        ("import torch\n", "has no 'G'", "defines no torch module"),
        ("import torch\nclass Gen(torch.nn.Module): pass\n", "has no 'G'", "it has Gen"),
        ("\0", "null bytes", "Python"),
    ],
)
def test_code_that_does_not_load(text: str, message: str, hint: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(GanportError) as raised:
        load_code(f"{path}:G")
    assert message in str(raised.value)
    assert hint in raised.value.hint
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net.py", "must be FILE.py:NAME"),
        ("net.py:", "must be FILE.py:NAME"),
        (":G", "must be FILE.py:NAME"),
        ("net.py:G()", "must be FILE.py:NAME"),
        ("missing.py:G", "no Python at missing.py"),
        ("folder/net:G", "no Python at folder/net"),
        (".:G", "names no module"),
        ("no_such_module_here:G", "there is no Python module 'no_such_module_here'"),
        ("torch.no_such_part:G", "ModuleNotFoundError"),
        ("../net:G", "no Python at"),
        ("a-b:G", "names no module"),
    ],
)
def test_what_is_not_there(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GanportError, match=message) as raised:
        load_code(text)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("name", "args", "message", "hint"),
    [
        ("Plain", {"nz": 3, "width": 4}, "unexpected keyword argument 'width'", "Plain(nz=6, ngf=4, nc=3)"),
        ("Plain", [1, 2, 3, 4, 5], "too many positional arguments", "Plain(nz=6, ngf=4, nc=3)"),
        ("Broken", None, "cannot be called without `args`: missing a required argument: 'depth'", "Broken(depth)"),
        ("Broken", [3], "failed at live_networks.py line", "`debug`"),
        ("Plain", {"nz": "six"}, "TypeError", "`debug`"),
        ("INSTANCE", {"a": 1}, "is an instance, `args` has no place", "factory"),
        ("NUMBER", None, "is an int, expected a class", "class"),
        ("make_tensor", None, "made a Tensor, expected a torch.nn.Module", "class"),
        ("Output", None, "is a class that is no torch.nn.Module", "factory"),
        ("math", None, "is a module, expected a class", "class"),
    ],
)
def test_what_cannot_be_built(name: str, args: Any, message: str, hint: str) -> None:
    code = load_code(reference(name))
    with pytest.raises(GanportError) as raised:
        build(code, args)
    assert message in str(raised.value)
    assert hint in raised.value.hint


def test_code_that_insists_on_a_gpu_is_imported_without_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = written(
        tmp_path, "import torch\nassert torch.cuda.is_available(), 'CUDA is needed'\nG = torch.nn.Linear(2, 2)\n"
    )
    really = torch.cuda.is_available
    assert build(load_code(f"{path}:G"), None).in_features == 2
    assert torch.cuda.is_available is really
    assert "insists on a GPU" in caplog.text


COMPILED = """
import torch
from torch.utils.cpp_extension import load

fast = load("fast_kernels", sources=["fast.cu"])


class G(torch.nn.Linear):
    def forward(self, z):
        return super().forward(z) if z.device.type == "cpu" else fast.run(z)


def broken():
    return fast.run(3)
"""


def test_code_that_compiles_for_a_gpu_runs_its_other_path(tmp_path: Path) -> None:
    path = written(tmp_path, COMPILED)
    assert build(load_code(f"{path}:G"), [2, 3])(torch.zeros(1, 2)).shape == (1, 3)
    with pytest.raises(
        GanportError, match="run is compiled code of the extension fast_kernels, which no graph can hold"
    ):
        build(load_code(f"{path}:broken"), None)


@pytest.mark.parametrize(
    "code",
    [
        "import torch.utils.cpp_extension\nload = torch.utils.cpp_extension.load_inline",
        "from torch.utils import cpp_extension\nassert cpp_extension.CUDA_HOME is None\nload = cpp_extension.load",
    ],
)
def test_however_the_compiler_is_imported(tmp_path: Path, code: str) -> None:
    before = sys.modules.get("torch.utils.cpp_extension"), vars(torch.utils).get("cpp_extension")
    path = written(tmp_path, f"import torch\n{code}\nload('kernels', sources=[])\nG = torch.nn.Linear(2, 2)\n")
    assert build(load_code(f"{path}:G"), None).in_features == 2
    assert before == (sys.modules.get("torch.utils.cpp_extension"), vars(torch.utils).get("cpp_extension"))
