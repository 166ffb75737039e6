"""The OpenAPI document names what is served, and no request that follows from it makes the server fail."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from server.running import Site


def test_it_lists_every_address(site: Site) -> None:
    document = site.get("/openapi.json").json
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    served = {
        (method, route.path) for route in site.server.routes for method in route.methods or () if method != "HEAD"
    }
    own = {("GET", path) for path in ("/", "/docs", "/openapi.json")}
    assert served - listed == own | {pair for pair in served if pair[1].startswith("/page/")}
    assert listed <= served
    assert not re.search(r'"\$ref": "(?!#/components/schemas/(Error|Infer)")', site.get("/openapi.json").body.decode())
    page = site.get("/docs").body.decode()
    assert all(path in page for _, path in listed)
    assert "<dd></dd>" not in page
    assert page.count("<dt>") == page.count("<dd>")


@pytest.mark.long
@pytest.mark.skipif(shutil.which("schemathesis") is None, reason="schemathesis is not installed")
def test_schemathesis_finds_no_server_error(site: Site, tmp_path: Path) -> None:
    command = [
        "schemathesis", "run", f"http://127.0.0.1:{site.port}/openapi.json", "--checks", "not_a_server_error",
        "--phases", "examples,coverage,fuzzing", "--max-examples", "8", "--continue-on-failure", "--seed", "1",
        "--suppress-health-check", "all",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    lines = site.get("/metrics").body.decode().splitlines()
    assert not [line for line in lines if 'status="5' in line and 'status="503"' not in line]
