"""What docs/serve.md shows works as it stands, and the page has the parts that its script looks for."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gan_serve
from cli.documents import blocks
from gan_serve.server.app import PAGE
from server.running import Site, running

DOCUMENT = Path(__file__).parents[2] / "docs" / "serve.md"


@pytest.fixture(scope="module")
def default_site() -> Iterator[Site]:
    with running(("fashion-mnist", gan_serve.load(provider="cpu", threads=1))) as site:
        yield site


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_lines_with_curl(default_site: Site, tmp_path: Path) -> None:
    code = "".join(block.code for block in blocks(DOCUMENT) if block.language == "sh" and "curl" in block.code)
    code = code.replace("localhost:8000", f"127.0.0.1:{default_site.port}").replace("curl ", "curl --fail -sS ")
    subprocess.run(["bash", "-e"], input=code, cwd=tmp_path, text=True, check=True)
    sizes = {}
    for path in tmp_path.iterdir():
        if path.suffix in (".png", ".webp"):
            with Image.open(path) as picture:
                sizes[path.name] = picture.size
    assert (sizes["7.png"], sizes["between.png"], sizes["sneaker.png"]) == ((32, 32), (32, 32), (256, 256))
    assert {"images.json", "images.zip", "reply.json"} <= {path.name for path in tmp_path.iterdir()}


def test_the_python(default_site: Site) -> None:
    names: dict[str, Any] = {}
    for block in blocks(DOCUMENT):
        if block.language == "python":
            exec(block.code.replace("localhost:8000", f"127.0.0.1:{default_site.port}"), names)
    names["client"].close()
    assert (names["pixels"].shape, names["pixels"].dtype) == ((2, 32, 32, 1), np.uint8)


def test_every_metric_is_in_the_table(default_site: Site) -> None:
    shown = re.findall(r"^# TYPE gan_(\w+) ", default_site.get("/metrics").body.decode(), re.MULTILINE)
    listed = re.findall(r"^\| `(\w+)` \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert {name for name in shown if not name.endswith("_created")} == set(listed)


def test_the_page_has_what_its_script_looks_for() -> None:
    html, script = (PAGE / "page.html").read_text("utf-8"), (PAGE / "page.js").read_text("utf-8")
    looked_for = set(re.findall(r'part\("([\w-]+)"\)', script))
    assert len(looked_for) > 20
    assert looked_for <= set(re.findall(r'\bid="([\w-]+)"', html))
    assert "innerHTML" not in script
    assert re.findall(r'(?:src|href)="(page/[\w.]+)"', html) == ["page/page.css", "page/page.js"]
