"""gan-gen --engine ray: the shards of the local engine, whatever dies; clusters that are too small or not there."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Gen
from cli.sharding import N, content, make
from gan_core.errors import GanportError
from gan_core.installation import install
from gan_serve.gen import ray_engine
from gan_serve.gen.ray_engine import ShardActor

RAY = ("--engine", "ray")


def test_without_ray(gen: Gen, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, out, err = make(gen, model, "tar", "s", *RAY)
    assert (code, out) == (2, "")
    assert f"error: --engine ray needs ray, which is not installed\nhint: {install('ray')}\n" in err


@pytest.mark.parametrize(
    ("resources", "on_gpu", "workers", "expected"),
    [
        ({"CPU": 3.0}, False, None, 2),
        ({"CPU": 65.0}, False, None, 9),
        ({"CPU": 3.0}, False, 1, 1),
        ({"CPU": 8.0, "GPU": 2.0}, True, None, 2),
        ({"CPU": 3.0, "GPU": 8.0}, True, None, 2),
        ({"CPU": 1.0}, False, None, "1 Ray actors need as many CPUs, and one more; the cluster has 1 CPUs and 0 GPUs"),
        ({}, False, None, "the cluster has 0 CPUs"),
        ({"CPU": 4.0}, False, 4, "4 Ray actors need as many CPUs"),
        ({"CPU": 4.0}, True, None, "1 Ray actors need as many GPUs"),
        ({"CPU": 9.0, "GPU": 2.0}, True, 3, "3 Ray actors need as many GPUs"),
    ],
)
def test_the_pool_leaves_a_cpu(
    resources: dict[str, float], on_gpu: bool, workers: int | None, expected: int | str
) -> None:
    if isinstance(expected, int):
        assert ray_engine.pool_size(resources, on_gpu, workers, shards=9) == expected
    else:
        with pytest.raises(GanportError, match=expected):
            ray_engine.pool_size(resources, on_gpu, workers, shards=9)


class Job:
    """As much of a `Maker` as an actor needs."""

    def __init__(self, sha256: str = "a") -> None:
        self.job = self
        self.about = {"model_sha256": sha256, "provider": "cpu"}

    def make(self, generator: Any, shard: int, progress: Callable[[int], None]) -> Callable[[], dict[str, int]]:
        del generator, progress
        if shard == 7:
            raise GanportError("no room", hint="free some")
        return lambda: {"n": 10 * shard}


class Opened:
    sha256, provider = "a", "cpu"


def opened(*, threads: int) -> Any:
    assert threads == 1
    return Opened()


def refuse(*, threads: int) -> Any:
    raise GanportError(f"no model, {threads} thread", hint="x")


@pytest.mark.parametrize(
    ("sha256", "opener", "expected"),
    [
        ("a", opened, [(30, ""), (0, "no room")]),
        ("b", opened, [(0, "another model file"), (0, "another model file")]),
        ("a", refuse, [(0, "cannot open the model: no model, 1 thread"), (0, "cannot open the model")]),
    ],
)
def test_what_an_actor_returns(sha256: str, opener: Any, expected: list[tuple[int, str]]) -> None:
    actor = ShardActor(Job(sha256), opener)  # type: ignore[arg-type]
    rows = actor({"shard": [3, 7]})
    for (n, message), found_n, found in zip(expected, rows["n"], rows["error"], strict=True):
        assert found_n == n
        assert message in found
    assert list(rows["shard"]) == [3, 7]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_two_actors_make_the_same_shards(gen: Gen, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not in the dev extra")
    make(gen, model)
    code, out, err = make(gen, model, "tar", "r", *RAY, "--workers", 2)
    assert (code, out) == (0, "r\n"), err
    assert f"{N} images in 3 shards on cpu" in err
    assert content(tmp_path / "r") == content(tmp_path / "s")
    (tmp_path / "r/shard-000001.tar").unlink()
    # What an actor cannot do is an error of the command.
    (tmp_path / "r/shard-000001.tar").mkdir()
    (tmp_path / "r/shard-000001.tar/x").touch()
    code, _, err = make(gen, model, "tar", "r", *RAY, "--workers", 2)
    assert code == 1
    assert "error: shard-000001.tar: r/shard-000001.tar is a folder" in err.replace(str(tmp_path) + "/", "")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_job_and_its_actors(model: Path, tmp_path: Path, number: signal.Signals) -> None:
    pytest.importorskip("ray", reason="ray is not in the dev extra")
    options = ["--n", 20_000, "--shard-size", 100, "--out", "r", "--format", "tar", *RAY, "--workers", 2]
    command = [sys.executable, "-m", "gan_serve", str(model), *map(str, options)]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("r/*_stats.json")) and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(number)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == (130 if number == signal.SIGINT else -number), err
    assert err.endswith("error: interrupted\n") == (number == signal.SIGINT)
    assert "received" not in err, "Ray printed its stack"
    made = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("r/shard*")}
    time.sleep(1)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("r/shard*")} == made, "an actor goes on"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_a_cluster_that_does_not_answer(address: str) -> None:
    with pytest.raises(GanportError, match=f"no Ray cluster answers at {address}: ") as raised:
        ray_engine.check_answers(address)
    assert "ray start --head" in raised.value.hint
    ray_engine.check_answers("auto")
    ray_engine.check_answers(None)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n", b"", b"\0\0\x12\x04\0\0\0\0\0"])
def test_a_port_of_something_else(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if answer[3:4] == b"\x04":
            ray_engine.check_answers(address)
        else:
            with pytest.raises(GanportError, match=r"no Ray cluster answers at .*: another kind of server does"):
                ray_engine.check_answers(address)
        thread.join()
