"""Packages of npm for tests: those that are found, or installed once a run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gan_export.publish.web import VERSION

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WANTED = {"onnxruntime-web": VERSION, "playwright-core": "1"}


def node_modules(folder: Path) -> Path:
    """A folder with `WANTED`: what GANPORT_NODE_MODULES names, or `folder`. Skips the test where there is no npm."""
    named = os.environ.get("GANPORT_NODE_MODULES")
    if named:
        return Path(named)
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    modules = folder / "npm" / "node_modules"
    if not all((modules / name / "package.json").is_file() for name in WANTED):
        modules.parent.mkdir(exist_ok=True)
        packages = [f"{name}@{version}" for name, version in WANTED.items()]
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(modules.parent)]
        done = subprocess.run([*command, *packages], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            pytest.skip(f"npm does not install {', '.join(packages)}: {done.stderr[-200:]}")
    return modules
