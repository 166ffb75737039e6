"""A server in a thread of the test's process, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gan_core.arrays import F32, I64, U8
from gan_serve.runtime.generator import Generator
from gan_serve.server import serving
from gan_serve.server.app import Server
from gan_serve.server.exchange import Limits
from gan_serve.server.metrics import Metrics
from gan_serve.server.served import Batching, Served
from serve import onnx_files


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Site:
    """Asks a running server."""

    port: int
    server: Server

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """`body` is bytes, or what becomes JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        found = Reply(reply.status, reply.headers, reply.read())
        connection.close()
        return found

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Reply:
        return self.ask("POST", path, body, **headers)


@contextlib.contextmanager
def running(
    *models: tuple[str, Generator],
    limits: Limits = Limits(),
    batching: Batching = Batching(),
    hosts: frozenset[str] | None = None,
) -> Iterator[Site]:
    metrics = Metrics()
    served = [Served(name, generator, limits, batching, metrics) for name, generator in models]
    server = Server(served, limits, metrics, hosts)
    bound = serving.bind("127.0.0.1", 0)
    uvicorn = serving.uvicorn_server(server, 1)
    thread = threading.Thread(target=uvicorn.run, args=([bound],))
    thread.start()
    try:
        while not (server.ready and uvicorn.started):
            time.sleep(0.005)
        yield Site(bound.getsockname()[1], server)
    finally:
        uvicorn.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class Slow(Generator):
    """Draws black images when `free` is set; fails on a batch with a latent of 13, notes the sizes of its batches."""

    def __init__(self) -> None:
        self.contract = onnx_files.contract()
        self.provider, self.sha256 = "cpu", "0" * 64
        self.free, self.began = threading.Event(), threading.Event()
        self.batches: list[int] = []

    def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:  # noqa: ARG002
        self.began.set()
        self.batches.append(len(z))
        assert self.free.wait(20)
        if (z == 13).any():
            raise RuntimeError("secret: /home/somebody/model.onnx")
        c, h, w = self.contract.interface.image
        pixels = np.repeat(z[:, :1].astype(np.uint8), h * w * c, 1).reshape(len(z), h, w, c)
        return np.zeros((len(z), c, h, w), np.float32), pixels


def infer_body(*rows: list[float]) -> dict[str, Any]:
    """A request of the Open Inference Protocol for the tiny model without classes, for pixels alone."""
    z = {"name": "z", "shape": [len(rows), 4], "datatype": "FP32", "data": [list(row) for row in rows]}
    return {"inputs": [z], "outputs": [{"name": "pixels"}]}
