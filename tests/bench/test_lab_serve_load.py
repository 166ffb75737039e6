"""lab.serve_load: its clients see what a server does, and its record says so."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tritonclient import http as triton

from bench.running import run
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.server.exchange import Limits
from gan_serve.server.served import Batching
from lab import serve_clients, serve_load
from serve import onnx_files
from server.running import Slow, running

KSERVE = os.environ.get("GANPORT_KSERVE", "")
SENDERS = [
    serve_clients.load,
    pytest.param(  # which counts in whole seconds
        serve_clients.wrk_load,
        marks=[pytest.mark.slow, pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")],
    ),
]


@pytest.mark.parametrize("send", SENDERS)
def test_clients_count_answers_and_health(send: serve_clients.Sender) -> None:
    generator = OnnxGenerator(
        onnx_files.model(onnx_files.classes(), onnx_files.weights(onnx_files.classes())).SerializeToString(), "cpu", 1
    )
    with running(("served", generator)) as site:
        seen = asyncio.run(send(site.port, serve_load.request_of(generator, 3), 4, 0.5))
        counted = site.get("/metrics").body.decode()
    assert set(seen.statuses) == {200}
    assert seen.statuses[200] > 4
    assert 0 < seen.latency_ms["p50"] <= seen.latency_ms["p99"] <= seen.latency_ms["max"]
    assert 2 <= len(seen.health_s) <= 20 * seen.seconds + 1
    assert seen.broken == 0
    (images,) = [line.split()[1] for line in counted.splitlines() if line.startswith("gan_inference_count_total{")]
    assert 0 <= float(images) / 3 - seen.statuses[200] <= 4  # those under way at the end


@pytest.mark.parametrize("send", SENDERS)
def test_clients_count_refusals(send: serve_clients.Sender) -> None:
    slow = Slow()
    with running(("served", slow), limits=Limits(images=1, queue=1), batching=Batching(1, 0)) as site:
        seen = asyncio.run(send(site.port, serve_load.request_of(slow, 1), 3, 0.3))
        slow.free.set()
    assert seen.statuses[429] > 2
    assert seen.statuses[200] == 0


@pytest.mark.long
@pytest.mark.skipif(not KSERVE, reason="needs GANPORT_KSERVE, a Python with kserve and onnxruntime")
def test_kserves_server_serves_the_file(tmp_path: Path) -> None:
    model = onnx_files.save(tmp_path / "g.onnx")
    generator = OnnxGenerator(model, "cpu", 1)
    latents = generator.contract.interface.latents(range(5))
    with serve_load.running([KSERVE, "-c", serve_load.KSERVE, str(model), "PORT"]) as (_, port):
        client = triton.InferenceServerClient(f"localhost:{port}")
        z = triton.InferInput("z", list(latents.shape), "FP32")
        z.set_data_from_numpy(latents)
        pixels = client.infer("served", [z]).as_numpy("pixels")
        client.close()
    assert np.abs(pixels.astype(int) - generator.generate(range(5))).max() <= 1


@pytest.mark.long
@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx_files.save(tmp_path / "g.onnx")
    given = ["--model", str(tmp_path / "g.onnx"), "--clients", "3", "--images", "2", "--seconds", "1"]
    given += ["--client", "python", "--workers", "2"]
    assert run(serve_load.app, *given, "--json", tmp_path / "r.json") == 0
    assert capsys.readouterr().out.startswith("3 clients (python), 2 images a request, 1 s each; batching: ")
    record = json.loads((tmp_path / "r.json").read_text())
    assert list(record["servers"]) == ["gan-serve", "gan-serve, one request a batch", "gan-serve, 2 workers"]
    for found in record["servers"].values():
        assert list(found["requests"]) == ["200"]
        assert found["images_per_s"] > 0
        assert found["broken_connections"] == 0
        assert found["server_cpu_ms"] >= 0
    assert record["in_process"]["images_per_s"] == max(record["in_process"]["by_batch"].values())
    for wrong, words in (
        (["--clients", "0"], "--clients takes 1"),
        (["--seconds", "0"], "--seconds takes 1"),
        (["--client", "ab"], "--client takes wrk"),
        (["--workers", "0"], "--workers takes 1"),
    ):
        assert run(serve_load.app, *given, *wrong) == 2
        assert words in capsys.readouterr().err
