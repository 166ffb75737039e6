"""Clients that load a server: wrk, or Python's, and beside them one that asks for its health."""

from __future__ import annotations

import asyncio
import math
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httptools
import numpy as np

from gan_core.errors import JobError
from gan_core.fields import Json

WRK = """
wrk.method, wrk.headers["{name}"] = "POST", "{length}"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
function init() statuses = {{}} end
function response(status) statuses[status] = (statuses[status] or 0) + 1 end
function done(summary, latency)
  local errors = summary.errors
  print(string.format("seconds %f", summary.duration / 1e6))
  print(string.format("broken %d", errors.connect + errors.read + errors.write + errors.timeout))
  for _, part in ipairs({{50, 99}}) do print(string.format("wait%d %f", part, latency:percentile(part) / 1e3)) end
  print(string.format("wait100 %f", latency.max / 1e3))
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do print(string.format("status%d %d", status, count)) end
  end
end
"""


HEALTH_EVERY_S = 0.05


QUANTILES = {"p50": "wait50", "p99": "wait99", "max": "wait100"}


@dataclass
class Seen:
    """What the clients of one server saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    waits_s: list[float] = field(default_factory=list)
    latency_ms: Json = field(default_factory=dict)
    health_s: list[float] = field(default_factory=list)
    broken: int = 0
    seconds: float = 0.0


Sender = Callable[[int, bytes, int, float], Coroutine[Any, Any, Seen]]
"""(port, request, clients, seconds) → what they saw."""


class Client(asyncio.Protocol):
    """Sends `request` again and again, as soon as the last answer is whole, until `seen.seconds` is set."""

    def __init__(self, request: bytes, seen: Seen, pause_s: float = 0.0, *, health: bool = False) -> None:
        self._request, self._seen, self._pause_s, self._health = request, seen, pause_s, health
        self._parser = httptools.HttpResponseParser(self)
        self._sent = 0.0
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        if not self._seen.seconds:
            self._seen.broken += 1

    def _send(self) -> None:
        self._parser, self._sent = httptools.HttpResponseParser(self), time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Of the parser."""
        if self._seen.seconds:
            return
        status = self._parser.get_status_code()
        wait = time.perf_counter() - self._sent
        if self._health:
            self._seen.health_s.append(wait)
        else:
            self._seen.waits_s.append(wait)
            self._seen.statuses[status] += 1
        loop = asyncio.get_running_loop()
        if status in (429, 503):
            loop.call_later(0.05, self._send)
        elif self._pause_s:
            loop.call_later(self._pause_s, self._send)
        else:
            loop.call_soon(self._send)


async def wrk_load(port: int, request: bytes, clients: int, seconds: float) -> Seen:
    """As `load`, by wrk; the client that asks for health is Python's. Raises `JobError` where wrk fails."""
    head, body = request.split(b"\r\n\r\n", 1)
    length = re.search(rb"Inference-Header-Content-Length: (\d+)", head)
    assert length is not None
    seen = Seen()
    with tempfile.TemporaryDirectory() as folder:
        file, script = Path(folder, "body"), Path(folder, "load.lua")
        file.write_bytes(body)
        name = "Inference-Header-Content-Length"
        script.write_text(WRK.format(name=name, length=int(length[1]), body=file))
        command = ["wrk", "-t1", f"-c{clients}", f"-d{math.ceil(seconds)}s", "--timeout", "30s", "-s", str(script)]
        wrk = await asyncio.create_subprocess_exec(
            *command, f"http://localhost:{port}/v2/models/served/infer", stdout=subprocess.PIPE
        )
        transport = await ask_for_health(port, seen)
        printed = (await wrk.communicate())[0].decode()
        found = dict(re.findall(r"^([a-z]+\d*) ([\d.]+)$", printed, re.MULTILINE))
        if wrk.returncode or "seconds" not in found:
            raise JobError("wrk measured nothing", hint="--client python does without it")
        seen.seconds, seen.broken = float(found["seconds"]), seen.broken + int(found["broken"])
        transport.close()
    for key, value in found.items():
        if key.startswith("status"):
            seen.statuses[int(key[6:])] = int(value)
    seen.latency_ms = {key: round(float(found[name]), 2) for key, name in QUANTILES.items()}
    return seen


async def ask_for_health(port: int, seen: Seen) -> asyncio.Transport:
    """A client that does so every `HEALTH_EVERY_S`."""
    health = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    opened = await asyncio.get_running_loop().create_connection(
        lambda: Client(health, seen, HEALTH_EVERY_S, health=True), "127.0.0.1", port
    )
    return opened[0]


async def load(port: int, request: bytes, clients: int, seconds: float) -> Seen:
    """All clients for so long, and one that asks for health."""
    seen, loop = Seen(), asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(lambda: Client(request, seen), "127.0.0.1", port))[0] for _ in range(clients)
    ]
    opened.append(await ask_for_health(port, seen))
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    seen.seconds = time.perf_counter() - began
    for transport in opened:
        transport.close()
    await asyncio.sleep(0.1)
    seen.latency_ms = quantiles(seen.waits_s)
    return seen


def quantiles(waits_s: list[float]) -> Json:
    """In milliseconds: p50, p99 and the longest."""
    if not waits_s:
        return {}
    p50, p99, longest = np.percentile(waits_s, [50, 99, 100]) * 1000
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "max": round(float(longest), 2)}
