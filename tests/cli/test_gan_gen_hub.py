"""gan-gen with a model on a hub: a stand-in for one on this machine, asked by huggingface_hub itself."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from gan_serve.runtime.runtimes import DEFAULT_MODEL

pytest.importorskip("huggingface_hub", reason="needs the package huggingface_hub, which the extra hub brings")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """One model, owner/garments, with its file at onnx/model.onnx."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/owner/garments"):
            files = [{"rfilename": name} for name in ("README.md", "onnx/model.onnx")]
            found = {"id": "owner/garments", "sha": COMMIT, "siblings": files}
            self._send(json.dumps([{"type": "file", "path": each["rfilename"], "size": 1, "oid": "0"} for each in files]
                                  if "/tree/" in path else found).encode(), "application/json", body)  # fmt: skip
        elif path.startswith("/owner/garments/resolve/") and path.endswith("/onnx/model.onnx"):
            self._send(DEFAULT_MODEL.read_bytes(), "application/octet-stream", body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, data: bytes, kind: str, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def gan_gen(folder: Path, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-m", "gan_serve", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_a_model_is_downloaded_once(hub: str, tmp_path: Path) -> None:
    first = gan_gen(tmp_path, hub, "hf://owner/garments", "4")
    assert (first.returncode, first.stdout) == (0, "garments.png\n"), first.stderr
    mine = gan_gen(tmp_path, hub, "--n", "4", "--out", "mine.png")
    assert mine.returncode == 0
    assert (tmp_path / "garments.png").read_bytes() == (tmp_path / "mine.png").read_bytes()
    fetched = sum(each.startswith("GET /owner/garments/resolve") for each in Hub.asked)
    again = gan_gen(tmp_path, hub, "hf://owner/garments/onnx/model.onnx", "1", "--json")
    assert again.returncode == 0, again.stderr
    assert sum(each.startswith("GET /owner/garments/resolve") for each in Hub.asked) == fetched == 1


@pytest.mark.slow
def test_a_model_that_is_not_there(hub: str, tmp_path: Path) -> None:
    refused = gan_gen(tmp_path, hub, "hf://owner/nothing", "4")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: hf://owner/nothing cannot be downloaded: ")
    assert "hint: check the name" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert list(tmp_path.glob("*.png")) == []
