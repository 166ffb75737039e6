"""What a hint says to type, for each way to have installed ganport."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from gan_core import installation
from gan_core.errors import MissingPackageError
from gan_core.installation import install, pip

pytestmark = pytest.mark.skipif(os.name == "nt", reason="quotes as a POSIX shell")

RECEIPT = """
[tool]
requirements = [{ name = "ganport", extras = ["cpu", "video"], directory = "/x" }, { name = "rich" }]
"""


class Installed:
    """A distribution, of which only what is asked is known."""

    def __init__(self, origin: object = None) -> None:
        self.origin = origin
        self.requires = ["numpy>=1.26", "torch>=2.9; extra == 'train'", 'pillow ; extra == "train-more"']

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.origin is None else json.dumps(self.origin)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment whose pip is the shell's, and a working directory beside it."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "env" / "bin" / "python"))
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / "env" / "bin" / name))
    return tmp_path / "env"


@pytest.fixture
def came(environment: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """What is installed there; a test says from where."""
    del environment
    installed = Installed()
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: installed)
    return installed


def test_a_release(came: Installed) -> None:
    assert came.origin is None
    assert install("train") == "pip install 'ganport[train]'"


@pytest.mark.parametrize(("editable", "option"), [(True, "-e "), (False, "")])
def test_a_clone(came: Installed, tmp_path: Path, editable: bool, option: str) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    came.origin = {"url": clone.as_uri(), "dir_info": {"editable": editable} if editable else {}}
    assert install("train") == f"pip install {option}'{clone}[train]'"
    os.chdir(clone)
    assert install("train") == f"pip install {option}'.[train]'"
    os.chdir(tmp_path)
    assert install("train") == f"pip install {option}'./my clone[train]'"


def test_a_wheel_and_a_wheel_that_is_gone(came: Installed, tmp_path: Path) -> None:
    wheel = tmp_path / "work" / "ganport-0.1.0-py3-none-any.whl"
    came.origin = {"url": wheel.as_uri(), "archive_info": {}}
    assert install("train") == "pip install 'torch>=2.9'"
    wheel.touch()
    assert install("train") == "pip install './ganport-0.1.0-py3-none-any.whl[train]'"


def test_a_repository(came: Installed) -> None:
    came.origin = {"url": "https://host/a/ganport", "vcs_info": {"vcs": "git", "commit_id": "0"}}
    assert install("train") == "pip install 'ganport[train] @ git+https://host/a/ganport'"
    came.origin = {"url": "https://host/g", "vcs_info": {"vcs": "git", "commit_id": "0", "requested_revision": "v1"}}
    assert install("train") == "pip install 'ganport[train] @ git+https://host/g@v1'"
    came.origin = {"url": "https://host/g", "archive_info": {}}
    assert install("train") == "pip install 'ganport[train] @ https://host/g'"


def test_a_folder_on_pythons_path(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del environment

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    clone = Path(__file__).resolve().parents[2]
    assert install("train") == f"pip install -e {shlex.quote(f'{clone}[train]')}"
    monkeypatch.setattr(installation, "__file__", "/a/b/c/d.py")
    assert install("train") == "pip install 'ganport[train]'"


def test_a_tool_of_uv_keeps_its_extras(came: Installed, environment: Path, tmp_path: Path) -> None:
    (environment / "uv-receipt.toml").write_text(RECEIPT)
    came.origin = {"url": tmp_path.as_uri(), "dir_info": {}}
    assert install("train") == f"uv tool install '{tmp_path}[cpu,train,video]'"
    assert install("cuda") == f"uv tool install '{tmp_path}[cuda,video]'"


def test_a_tool_of_pipx(came: Installed, environment: Path) -> None:
    assert came.origin is None
    (environment / "pipx_metadata.json").write_text("{}")
    assert install("video") == "pipx runpip env install 'ganport[video]'"
    assert pip("uninstall x") == "pipx runpip env uninstall x"


def test_an_environment_without_pip(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert pip("install --upgrade x") == f"uv pip install --python {environment} --upgrade x"


@pytest.mark.parametrize("found", [None, "/usr/bin/pip"])
def test_another_pip_comes_first_on_the_path(
    found: str | None, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: found)
    assert pip("install x") == f"{environment}/bin/python -m pip install x"
    monkeypatch.chdir(environment)
    assert pip("install x") == "bin/python -m pip install x"


def test_the_error_says_it(came: Installed) -> None:
    assert came.origin is None
    assert MissingPackageError("torch", "train", "this").hint == install("train")
