"""gan-serve as a process: its options, its log, what it refuses to serve, and how it stops."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.server import cli
from gan_serve.terminal import console
from serve import onnx_files

pytestmark = pytest.mark.slow

START = "from gan_serve.server.cli import main; main()"
SLOWLY = """
import threading, time
from gan_serve.runtime.onnx_generator import OnnxGenerator
plain = OnnxGenerator.run_pixels
def slowly(*given):
    time.sleep({})
    return plain(*given)
OnnxGenerator.run_pixels = slowly
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_files.save(tmp_path_factory.mktemp("process") / "g.onnx")


class Process:
    """A running gan-serve; `url` is what it printed."""

    def __init__(self, *arguments: object, before: str = "") -> None:
        command = [sys.executable, "-c", f"{before}\n{START}", "--port", "0", *map(str, arguments)]
        plain = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=plain)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=20) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def workers(self, count: int) -> list[int]:
        """The processes that it started, as soon as so many serve."""
        until(lambda: f"gan_workers {count}.0\n" in self.get("/metrics")[1].decode())
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """(exit code, stderr) after a signal."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


@contextlib.contextmanager
def started(*arguments: object, before: str = "") -> Iterator[Process]:
    process = Process(*arguments, before=before)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                process.get("/v2/health/live")
                break
        yield process
    finally:
        process.process.kill()
        process.process.communicate()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def files(pid: int) -> int:
    """That a process has open, connections among them."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as done:
        console.run(cli.app, cli.NAME, [str(argument) for argument in arguments], takes_signals=False)
    return int(str(done.value.code)), capsys.readouterr().err


def test_models_by_name_and_a_log_in_json(model: Path) -> None:
    with started(model, "--model", f"second={model}", "--log-format", "json") as server:
        assert server.get("/v2/models/g/ready")[0] == 200
        assert server.get("/v1/images/1.png?model=second&a=%0a{")[0] == 422
        assert server.get("/v1/images/1.png?model=second")[0] == 200
        assert server.get("/v2/x%0ay")[0] == 404
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as link:
            link.sendall(b"nonsense\r\n\r\n")
            assert b" 400 " in link.recv(1000)
        code, err = server.end()
    assert code == 0, err
    lines = [json.loads(line) for line in err.splitlines()]  # and nothing else
    assert [lines[0]["message"], lines[-1]["message"]] == ["g: 5x6 RGB on cpu", "stopped"]
    requests = [line for line in lines if line["event"] == "request"]
    drawn = next(line for line in requests if line["path"] == "/v1/images/1.png" and line["status"] == 200)
    assert (drawn["model"], drawn["images"], drawn["client"], drawn["method"]) == ("second", 1, "127.0.0.1", "GET")
    assert {"time", "ms", "bytes", "query"} <= set(drawn)
    assert [line for line in lines if "Invalid HTTP request" in line.get("message", "")]


def test_sigterm_under_load_finishes_what_is_under_way(model: Path) -> None:
    with started(model, "--batch-size", 1, before=SLOWLY.format(0.4)) as server:
        found: dict[int, int] = {}

        def ask(index: int) -> None:
            found[index] = server.get(f"/v1/images/{index}.png")[0]

        threads = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert server.get("/v2/health/ready")[0] == 503
        assert server.get("/v2/health/live")[0] == 200
        assert server.get("/v2/models/g/ready")[0] == 503
        assert server.get("/v1/images/9.png")[0] == 503
        for thread in threads:
            thread.join()
        _, err = server.process.communicate(timeout=20)
    assert server.process.returncode == 0, err
    assert found == dict.fromkeys(range(4), 200)
    assert err.endswith("stopped\n")


@pytest.mark.parametrize("again", [False, True])
def test_sigterm_does_not_wait_for_ever(model: Path, again: bool) -> None:
    with started(model, "--grace", 30 if again else 0.3, before=SLOWLY.format(60)) as server:
        threading.Thread(target=ask, args=(server,), daemon=True).start()
        time.sleep(0.5)
        began = time.monotonic()
        if again:
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        code, err = server.end()
        assert time.monotonic() - began < 8
    assert code == 0, err


def ask(server: Process) -> None:
    with contextlib.suppress(OSError):
        server.get("/v1/images/1.png")


def test_several_workers_are_one_server(model: Path) -> None:
    """Same images, one count; a worker that dies is replaced, and one signal ends all when their requests are done."""
    devices = "import os, sys\nos.environ['CUDA_VISIBLE_DEVICES'] = '3,5'\n"
    noted = "(print('GPU', os.environ['CUDA_VISIBLE_DEVICES'], 'in 0 ms', file=sys.stderr) or 0.3)"
    with started(model, "--workers", 2, "--batch-size", 1, before=devices + SLOWLY.format(noted)) as server:
        first, second = server.workers(2)
        expected = OnnxGenerator(model, "cpu", 1).generate(range(6))
        for seed in range(6):
            assert (np.asarray(Image.open(io.BytesIO(server.get(f"/v1/images/{seed}.png")[1]))) == expected[seed]).all()
        before = files(first), files(second)
        links = [socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) for _ in range(64)]
        until(lambda: min(files(first) - before[0], files(second) - before[1]) > 8)
        for link in links:
            link.close()
        os.kill(first, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{first}").exists())  # before, its socket still takes connections
        assert server.get("/v1/images/6.png")[0] == 200
        third = next(pid for pid in server.workers(2) if pid not in (first, second))
        for _ in range(2):  # by either of them
            counted = server.get("/metrics")[1].decode()
            assert 'gan_inference_count_total{model="g"} 7.0\n' in counted
            assert 'gan_inference_pending_images{model="g"} 0.0\n' in counted
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(server.get("/v1/grid.png?seeds=0-4")[0]))
        thread.start()
        time.sleep(0.5)  # of 1.5
        for pid in (second, third):  # as systemd does, who tells every process
            os.kill(pid, signal.SIGTERM)
        code, err = server.end()
        thread.join()
    assert (found, code) == ([200], 0)
    assert set(re.findall("GPU (.*) in", err)) in ({"3"}, {"5"}, {"3", "5"})
    lines = [line for line in err.splitlines() if " ms" not in line]
    assert lines[0] == "note: g: 5x6 RGB on cpu"
    assert f"(process {first}) was killed by SIGKILL; another takes its place" in lines[1]
    assert lines[-1] == "note: stopped"
    assert not [pid for pid in (second, third) if Path(f"/proc/{pid}").exists()]


def test_workers_that_cannot_serve_and_workers_left_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:500])
    command = [sys.executable, "-c", START, str(tmp_path / "cut.onnx"), "--workers", "3", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("error: "), done.stdout) == (2, 1, "")
    with started(model, "--workers", 2) as server:
        workers = server.workers(2)
        counted = next(path for path in Path(f"/proc/{workers[0]}/maps").read_text().split() if path.endswith(".db"))
        server.process.kill()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        assert not Path(counted).parent.exists()


def test_ctrl_c_stops_it_too(model: Path) -> None:
    with started(model) as server:
        code, err = server.end(signal.SIGINT)
    assert (code, err.splitlines()[-1]) == (0, "note: stopped")


def test_options_that_make_no_sense(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wrong: list[tuple[list[Any], str]] = [
            ([model, "--port", port], f"cannot listen on 127.0.0.1, port {port}"),
            ([model, "--host", "nowhere.invalid"], "cannot listen on nowhere.invalid"),
            ([model, "--log-format", "xml"], "--log-format must be text or json"),
            ([model, "--queue", 4], "less than --max-images"),
            ([model, "--model", f"g={model}"], "two models have the same name"),
            ([model, "--model", f"a/b={model}"], "a model's name has letters"),
            ([model, "--model", "a="], "--model must be NAME=FILE"),
            ([tmp_path / "none.onnx"], "none.onnx"),
            ([model, "--delay", -1], "--delay"),
            ([model, "--port", 70_000], "--port"),
            ([model, "--workers", 0], "--workers"),
            ([model, "--provider", "nonsense"], "provider"),
            ([model, "--trust-script"], "--trust-script is for .ts"),
        ]
        for arguments, words in wrong:
            code, err = refused(capsys, *arguments)
            assert code == 2, arguments
            assert words in err
    monkeypatch.delattr("os.fork")
    code, err = refused(capsys, model, "--workers", 2)
    assert code == 2
    assert "--workers need a system that forks processes" in err


def test_files_that_are_no_models_are_not_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = onnx_files.ours().SerializeToString()
    files = {
        "cut.onnx": good[: len(good) // 2],
        "empty.onnx": b"",
        "noise.onnx": bytes(range(256)) * 40,
        "page.onnx": b"<!doctype html><html></html>",
        "g.pt": b"PK\x03\x04",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        code, err = refused(capsys, tmp_path / name)
        assert code == 2, name
        assert "error: " in err
        assert "hint: " in err
        assert "Traceback" not in err


@pytest.mark.filterwarnings("ignore:.torch.jit.* is deprecated")
def test_a_program_of_somebody_else_is_not_served_unless_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    class Reads(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z + torch.from_file("/etc/hostname", False, 1)

    torch.jit.save(torch.jit.script(Reads()), tmp_path / "theirs.ts", onnx_files.contract().to_metadata())
    code, err = refused(capsys, tmp_path / "theirs.ts")
    assert code == 2
    assert "from_file" in err
    assert "--trust-script" in err


def test_it_says_which_extra_it_lacks(model: Path) -> None:
    before = "import sys; sys.modules['starlette'] = None; sys.modules['starlette.exceptions'] = None"
    command = [sys.executable, "-c", f"{before}\n{START}", str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "gan-serve needs starlette, which is not installed" in done.stderr
    assert "[serve]" in done.stderr
