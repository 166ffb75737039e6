"""How this ganport was installed, so that a hint can name the command that adds to it.

A clone, a wheel and a repository are installed again from where they came, with the extra; a tool of uv or pipx by its
tool. What is imported here is cheap, and only a hint calls it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import Distribution

NAME = "ganport"


def pip(arguments: str) -> str:
    """`pip ARGUMENTS` as it is typed to reach the environment that runs this: "install x", "uninstall x"."""
    environment = Path(sys.prefix)
    if (environment / "pipx_metadata.json").is_file():
        return f"pipx runpip {environment.name} {arguments}"
    if importlib.util.find_spec("pip") is None:
        verb, _, rest = arguments.partition(" ")
        return f"uv pip {verb} --python {_typed(environment)} {rest}"
    found = shutil.which("pip")
    if found is not None and Path(found).parent == Path(sys.executable).parent:
        return f"pip {arguments}"
    return f"{_typed(Path(sys.executable))} -m pip {arguments}"


def install(extra: str) -> str:
    """The command that adds `extra` ("cpu", "train", …) to this installation."""
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        found = distribution(NAME)
    except PackageNotFoundError:  # a folder on Python's path
        clone = Path(__file__).resolve().parents[2]
        return pip(f"install {_from(clone if (clone / 'pyproject.toml').is_file() else None, [extra], editable=True)}")
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    url, vcs = str(origin.get("url", "")), origin.get("vcs_info", {})
    receipt = Path(sys.prefix) / "uv-receipt.toml"
    is_uv_tool = receipt.is_file()
    extras = sorted({extra, *(_held(receipt) if is_uv_tool else ())} - ({"cpu"} if extra == "cuda" else set()))
    source: Path | str | None = None
    if url.startswith("file:"):
        source = Path(url2pathname(urlsplit(url).path))
        if not source.exists():
            return pip(f"install {_packages(found, extra)}")
    elif url:
        revision = f"@{vcs['requested_revision']}" if "requested_revision" in vcs else ""
        source = f"{vcs['vcs']}+{url}{revision}" if vcs else url
    requirement = _from(source, extras, editable=origin.get("dir_info", {}).get("editable", False))
    return f"uv tool install {requirement}" if is_uv_tool else pip(f"install {requirement}")


def _from(source: Path | str | None, extras: list[str], editable: bool = False) -> str:
    """What pip installs: a folder or wheel, an address, or the released package, with its extras."""
    names = f"[{','.join(extras)}]"
    if isinstance(source, Path):
        return f"{'-e ' if editable else ''}{_typed(source, names)}"
    return _quoted(f"{NAME}{names}{'' if source is None else f' @ {source}'}")


def _held(receipt: Path) -> list[str]:
    """The extras that uv installed its tool with."""
    import tomllib

    requirements = tomllib.loads(receipt.read_text("utf-8")).get("tool", {}).get("requirements", [])
    return [extra for each in requirements if each.get("name") == NAME for extra in each.get("extras", [])]


def _packages(found: Distribution, extra: str) -> str:
    """What an extra stands for, where nothing is left to install it from."""
    parts = [requirement.partition(";") for requirement in found.requires or []]
    return " ".join(
        _quoted(what.strip()) for what, _, marker in parts if re.search(f"extra == (['\"]){extra}\\1", marker)
    )


def _typed(path: Path, ending: str = "") -> str:
    """A path as it is typed from the working directory, quoted where a shell needs it."""
    here = Path.cwd()
    if path == here or here in path.parents:
        path = path.relative_to(here)
        if ending and path != Path():  # a bare name would be a package's
            return _quoted(f".{os.sep}{path}{ending}")
    return _quoted(f"{path}{ending}")


def _quoted(text: str) -> str:
    if os.name != "nt":
        return shlex.quote(text)
    return text if re.fullmatch(r"[\w.:\\/-]+", text) else f'"{text}"'
