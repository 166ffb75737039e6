"""A server under load: gan-serve, the same otherwise set, and KServe's Python server, with many clients each.

    python -m lab.serve_load --model g.onnx --images 1 --workers 2 --json FILE
    python -m lab.serve_load --model g.onnx --kserve kserve-env/bin/python

All on the loopback of this machine, one server after the other: each client sends a request of so many latents as
binary tensors, asks for `pixels` as binary, and sends the next when the answer is there. Beside them one client asks
for the server's health twenty times a second. The clients share the cores with the server: they are wrk where it is
installed (Debian's package, one thread), which takes a small part of a core, otherwise one Python process, which takes
about a whole one. `in process` is the same model by `run_stream` alone, at the batch of 1, 8, 25 or 64 that is best, as
gan-bench measures it: what there is to serve. `server_cpu_ms` is the time of all the server's processes, on all
cores, for each request. `resident_mib` counts the memory that workers share for each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json as json_module
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import gan_serve
from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_core.files.model_file import file_provenance
from gan_serve.runtime.generator import Generator
from gan_serve.terminal import console
from gan_serve.terminal.layout import Column
from lab import shared
from lab.serve_clients import Sender, load, quantiles, wrk_load

BATCHES = (1, 8, 25, 64)

app = console.new_app("Measure gan-serve under load, beside a server without batches and KServe's.")
STARTS_WITHIN_S = 60
KSERVE = """
import asyncio, sys, onnxruntime
from kserve import InferOutput, InferResponse, Model, ModelServer
class Served(Model):
    def __init__(self, path):
        super().__init__("served")
        self.session, self.ready = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]), True
    async def predict(self, payload, headers=None, response_headers=None):
        feeds = {each.name: each.as_numpy() for each in payload.inputs}
        pixels = (await asyncio.to_thread(self.session.run, ["pixels"], feeds))[0]
        output = InferOutput("pixels", list(pixels.shape), "UINT8")
        output.set_data_from_numpy(pixels, binary_data=True)
        return InferResponse(payload.id or "1", self.name, [output], use_binary_outputs=True)
ModelServer(http_port=int(sys.argv[2]), enable_grpc=False).start([Served(sys.argv[1])])
"""


@app.command()
def main_command(
    model: shared.Exported,
    clients: Annotated[int, typer.Option(metavar="N", help="Clients at a time.")] = 64,
    images: Annotated[int, typer.Option(metavar="N", help="Images in a request.")] = 1,
    seconds: Annotated[int, typer.Option(metavar="N", help="Of load on each server.")] = 60,
    kserve: Annotated[
        Path | None, typer.Option(metavar="PYTHON", help="An interpreter with kserve and onnxruntime.")
    ] = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Also measure gan-serve with so many workers.")] = 1,
    client: Annotated[
        str, typer.Option(metavar="wrk|python", help="Who sends the load. [default: wrk, if it is installed]")
    ] = "",
    json: shared.RecordFile = None,
) -> None:
    """Measure gan-serve under load, beside the same without batches and KServe's Python server.

    \b
    Example:
      python -m lab.serve_load --model g.onnx --images 4 --json serve-load.json
    """
    target = shared.record_target(json, {"--model": model, "--kserve": kserve})
    limits = {"--clients": (clients, 1, 1000), "--images": (images, 1, 512), "--seconds": (seconds, 1, 3600)}
    limits |= {"--workers": (workers, 1, 64)}
    shared.check_numbers(limits)
    client = client or ("wrk" if shutil.which("wrk") else "python")
    if client not in ("wrk", "python") or not (client == "python" or shutil.which("wrk")):
        raise GanportError(f"--client takes wrk, if it is installed, or python, got {client!r}", hint="leave it out")
    record = shared.new_record("serve_load", schema=2, packages=("onnxruntime", "starlette", "uvicorn"))
    record |= {"model": file_provenance(model), "clients": clients, "images": images, "seconds": seconds}
    record["client"] = client
    with gan_serve.load(model, many=True) as generator:
        request = request_of(generator, images)
        record["in_process"] = in_process(generator, min(seconds, 10))
    send = load if client == "python" else wrk_load
    ours = [sys.executable, "-m", "gan_serve.server", "--model", f"served={model}", "--quiet", "--port", "PORT"]
    servers = {
        "gan-serve": ours,
        "gan-serve, one request a batch": [*ours, "--batch-size", str(images), "--delay", "0"],
    }
    if workers > 1:
        servers[f"gan-serve, {workers} workers"] = [*ours, "--workers", str(workers)]
    if kserve is not None:
        servers["KServe"] = [str(kserve), "-c", KSERVE, str(model), "PORT"]
    record["servers"] = {}
    for name, command in servers.items():
        console.note(f"{name}: {seconds} s of {clients} clients")
        with running(command) as (process, port):
            record["servers"][name] = measured(process, port, request, clients, images, seconds, send)
    shared.hand_over(record, render(record), json, target)


def request_of(generator: Generator, images: int) -> bytes:
    """One request of the Open Inference Protocol, as it goes over the wire."""
    z = generator.contract.interface.latents(range(images))
    tensors: dict[str, tuple[str, Any]] = {"z": ("FP32", z)}
    if generator.contract.interface.conditional:
        tensors["label"] = ("INT64", np.arange(images) % generator.contract.interface.n_classes)
    inputs = [
        {
            "name": name, "datatype": kind, "shape": list(tensor.shape),
            "parameters": {"binary_data_size": tensor.nbytes},
        }
        for name, (kind, tensor) in tensors.items()
    ]  # fmt: skip
    asked = {"inputs": inputs, "outputs": [{"name": "pixels"}], "parameters": {"binary_data_output": True}}
    text = json_module.dumps(asked).encode()
    body = text + b"".join(tensor.tobytes() for _, tensor in tensors.values())
    head = f"POST /v2/models/served/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Inference-Header-Content-Length: {len(text)}\r\n\r\n".encode() + body


def in_process(generator: Generator, seconds: float) -> Json:
    """Images a second by `run_stream` at each of `BATCHES`, after two batches unmeasured, and the best of them."""
    rates = {}
    for batch in BATCHES:
        z = generator.contract.interface.latents(range(batch))
        feed = z, generator.check_labels(None, np.arange(batch))
        stream = generator.run_stream(itertools.repeat(feed))
        for _ in range(1 + generator.callers):
            next(stream)
        runs, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds / len(BATCHES):
            next(stream)
            runs += 1
        rates[batch] = round(runs * batch / (time.perf_counter() - began), 1)
        stream.close()  # type: ignore[attr-defined]  # of a generator function
    best = max(rates, key=lambda batch: rates[batch])
    return {"batch": best, "images_per_s": rates[best], "by_batch": rates}


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server that answers, and its port. Raises `JobError` where it does not begin to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [word.replace("PORT", str(port)) if word == "PORT" else word for word in command]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + STARTS_WITHIN_S
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise JobError("a server did not start", hint=f"try it: {words[0]} …")
                time.sleep(0.1)
            yield process, port
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/served/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def measured(
    process: subprocess.Popen[bytes], port: int, request: bytes, clients: int, images: int, seconds: int, send: Sender
) -> Json:
    """What the clients saw in `seconds`, after a tenth of it unmeasured, and the memory of the server."""
    asyncio.run(send(port, request, clients, max(1, seconds // 10)))
    processes = family(process.pid)
    before, cpu_s = resident_mib(processes), cpu_seconds(processes)
    seen = asyncio.run(send(port, request, clients, seconds))
    answered = seen.statuses[200]
    return {
        "images_per_s": round(answered * images / seen.seconds, 1),
        "requests": dict(sorted(seen.statuses.items())),
        "broken_connections": seen.broken,
        "latency_ms": seen.latency_ms,
        "health_ms": quantiles(seen.health_s),
        "server_cpu_ms": round(1000 * (cpu_seconds(processes) - cpu_s) / max(1, seen.statuses.total()), 3),
        "resident_mib": [before, resident_mib(processes)],
    }


def family(pid: int) -> list[int]:
    """A process and the processes that it started."""
    with contextlib.suppress(OSError):
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    return [pid]


def cpu_seconds(pids: list[int]) -> float:
    """Of processes on all cores; 0 where the system does not show it."""
    ticks = 0
    with contextlib.suppress(OSError):
        for pid in pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")
    return 0.0


def resident_mib(pids: list[int]) -> float | None:
    """Of processes; None where the system does not show it."""
    with contextlib.suppress(OSError):
        status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in pids)
        return round(sum(map(int, re.findall(r"^VmRSS:\s*(\d+) kB$", status, re.MULTILINE))) / 1024, 1) or None
    return None


def render(record: Json) -> str:
    """The record as a table."""
    best = record["in_process"]["images_per_s"]
    rows = [[f"in process, batches of {record['in_process']['batch']}", f"{best:,.0f}", "1.00", *[""] * 6]]
    for name, found in record["servers"].items():
        others = sum(count for status, count in found["requests"].items() if int(status) != 200)
        rate, latency, health = found["images_per_s"], found["latency_ms"], found["health_ms"]
        memory = " → ".join("?" if each is None else f"{each:.0f}" for each in found["resident_mib"])
        rows.append([
            name, f"{rate:,.0f}", f"{rate / best:.2f}", *(f"{latency.get(key, 0):.1f}" for key in ("p50", "p99")),
            f"{health.get('p99', 0):.1f}", f"{found['server_cpu_ms']:.2f}", str(others + found["broken_connections"]),
            memory,
        ])  # fmt: skip
    heads = ["", "images/s", "of it", "p50 ms", "p99 ms", "health p99 ms", "CPU ms", "not 200", "MiB"]
    title = f"{record['clients']} clients ({record['client']}), {record['images']} images a request, "
    title += f"{record['seconds']} s each"
    ours, single = (record["servers"][name]["images_per_s"] for name in list(record["servers"])[:2])
    title += f"; batching: {ours / single:.1f} times" if single else ""
    return f"{title}\n" + console.table([Column(head) for head in heads], rows, right=range(1, 8))


if __name__ == "__main__":
    console.run(app, "python -m lab.serve_load")
