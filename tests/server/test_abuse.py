"""What a client may do to a server, and the server to its other clients: nothing."""

from __future__ import annotations

import concurrent.futures
import gzip
import json
import resource
import socket
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gan_core.errors import GanportError
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.server import exchange, serving
from gan_serve.server.exchange import Limits
from gan_serve.server.metrics import Metrics
from gan_serve.server.served import Batching, Served
from serve import onnx_files
from server.running import Site, Slow, infer_body, running

Models = dict[str, OnnxGenerator]
ROW = [1.0, 2.0, 3.0, 4.0]


def raw(site: Site, *pieces: bytes, pause_s: float = 0.0, shut: bool = False) -> bytes:
    """What the server answers to bytes as they stand, until it closes."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as link:
        try:
            for piece in pieces:
                link.sendall(piece)
                time.sleep(pause_s)
            if shut:
                link.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        found = b""
        try:
            while piece := link.recv(65536):
                found += piece
        except OSError:
            pass
        return found


def head(length: int | None, *more: bytes) -> bytes:
    lines = [b"POST /v2/models/g/infer HTTP/1.1", b"Host: localhost", b"Connection: close", *more]
    if length is not None:
        lines.append(b"Content-Length: %d" % length)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def until(what: Callable[[], Any]) -> None:
    """Waits for it, for as long as ten seconds."""
    for _ in range(2000):
        if what():
            return
        time.sleep(0.005)
    pytest.fail("it did not come")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/grid.png?seeds=0-9007199254740991",
        "/v1/walk.webp?seeds=0-9999&frames=1000000",
        "/v1/walk.webp?seeds=0-9007199254740990",
        "/v1/grid.png?seeds=0-511&cols=1&scale=64",
        "/v1/walk.webp?seeds=0-2&frames=512&scale=64",
    ],
)
def test_a_short_request_for_gigabytes(site: Site, path: str) -> None:
    tracemalloc.start()
    try:
        reply = site.get(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert reply.status == 422
    assert "the most is" in reply.json["error"]


def test_a_short_request_for_millions_of_numbers_as_json(models: Models) -> None:
    with running(("g", models["g"]), limits=Limits(images=20_000, queue=20_000)) as site:
        z = {"name": "z", "shape": [15_000, 4], "datatype": "FP32", "parameters": {"binary_data_size": 240_000}}
        text = json.dumps({"inputs": [z]}).encode()
        reply = site.post("/v2/models/g/infer", text + bytes(240_000), Inference_Header_Content_Length=str(len(text)))
        assert reply.status == 422
        assert "as JSON" in reply.json["error"]


def test_bodies_over_the_limit(models: Models) -> None:
    with running(("g", models["g"]), limits=Limits(body_bytes=2000)) as site:
        for size in (2001, 20_000, 5_000_000):
            reply = site.post("/v2/models/g/infer", b" " * size)
            assert (reply.status, reply.headers["Connection"]) == (413, "close")
        assert b" 413 " in raw(site, head(10**12))
        assert b" 413 " in raw(site, head(30_000, b"Expect: 100-continue")).split(b"\r\n")[0]
        chunk = b"7d0\r\n" + b" " * 2000 + b"\r\n"
        assert b" 413 " in raw(site, head(None, b"Transfer-Encoding: chunked"), chunk * 10, b"0\r\n\r\n")
        assert b" 413 " in raw(site, head(None, b"Transfer-Encoding: chunked"), chunk * 9000)  # without an end
        assert site.post("/v2/models/g/infer", infer_body(ROW)).status == 200


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % (b"y" * 40_000), "larger than 32768 bytes"),
        (b"GET /%s HTTP/1.1\r\n\r\n" % (b"y" * 40_000), "larger than 32768 bytes"),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nhost: localhost\r\n\r\n", "two Hosts"),
        (b"GET / HTTP/9.9\r\n\r\n", "not a request of HTTP/1.1"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", "not a request of HTTP/1.1"),
        (b"FOO / HTTP/1.1\r\n\r\n", "not a request of HTTP/1.1"),
        (head(3, b"Content-Length: 5"), "not a request of HTTP/1.1"),
        (head(3, b"Transfer-Encoding: chunked"), "not a request of HTTP/1.1"),
        (head(-3), "not a request of HTTP/1.1"),
        (head(None, b"Transfer-Encoding: chunked") + b"zz\r\n", "not a request of HTTP/1.1"),
    ],
)
def test_what_is_not_http_gets_json_too(site: Site, request_: bytes, words: str) -> None:
    reply = raw(site, request_)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert words in json.loads(reply.split(b"\r\n\r\n")[1])["error"]


def test_a_hundred_requests_in_one_packet_and_an_upgrade_that_is_not_followed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    live = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"
    assert raw(site, (live + b"\r\n") * 99 + live + b"Connection: close\r\n\r\n").count(b'{"live": true}') == 100
    for to in (b"websocket", b"h2c"):
        assert b" 200 " in raw(site, live + b"Connection: Upgrade, close\r\nUpgrade: " + to + b"\r\n\r\n")
    assert not caplog.records


def test_long_texts_are_refused_before_they_are_taken_apart(site: Site) -> None:
    for body, words in (
        ({"seeds": "1," * 100_000 + "1"}, "the most is 21480"),
        ({"seeds": [1], "class": "0," * 100_000}, "the most is 21480"),
        ({"seeds": [1], "class": ["a" * 1000] * 100}, "the most is 21480"),
        ({f"k{index}": 0 for index in range(101)}, "101 parameters"),
    ):
        reply = site.post("/v1/images", body)
        assert reply.status == 422
        assert words in reply.json["error"]
    for name in ("inputs", "outputs"):
        assert site.post("/v2/models/g/infer", infer_body(ROW) | {name: [{}] * 100_000}).status == 400


@pytest.mark.slow
def test_bombs_of_gzip_and_other_packing(site: Site) -> None:
    fine = json.dumps(infer_body(ROW)).encode()
    path = "/v2/models/g/infer"
    assert site.post(path, gzip.compress(fine), Content_Encoding="gzip").status == 200
    assert site.post(path, zlib.compress(fine), Content_Encoding="deflate").status == 200
    bomb = gzip.compress(b" " * 100_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reply = site.post(path, bomb, Content_Encoding="gzip")
    assert reply.status == 413
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000
    for body, packing in (
        (fine, "gzip"),
        (gzip.compress(fine)[:-4], "gzip"),
        (gzip.compress(fine) + b"more", "gzip"),
        (gzip.compress(fine), "br"),
        (gzip.compress(fine), "gzip, gzip"),
    ):
        assert site.post(path, body, Content_Encoding=packing).status in (400, 415)


def test_bodies_that_trickle_and_heads_that_do(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "KEEP_ALIVE_S", 0.15)
    with running(("g", models["g"]), limits=Limits(patience_s=0.15)) as site:
        began = time.monotonic()
        assert b" 408 " in raw(site, head(100), b"{", b" ", b" ", pause_s=0.05)
        assert raw(site, b"POST /v2/models/g/infer HTTP/1.1\r\n", b"Host: lo", pause_s=0.05) == b""
        assert raw(site) == b""
        assert time.monotonic() - began < 5
        assert b" 400 " in raw(site, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n")
        assert b" 400 " in raw(site, b"\x16\x03\x01\x02\x00")
        assert site.get("/v2/health/ready").status == 200


def test_an_answer_that_nobody_reads(models: Models) -> None:
    with running(("g", models["g"]), limits=Limits(images=20_000, queue=20_000, patience_s=0.2)) as site:
        z = {"name": "z", "shape": [20_000, 4], "datatype": "FP32", "parameters": {"binary_data_size": 320_000}}
        asked = {"inputs": [z], "parameters": {"binary_data_output": True}}
        text = json.dumps(asked).encode()
        with socket.create_connection(("127.0.0.1", site.port)) as link:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            length = b"Inference-Header-Content-Length: %d" % len(text)
            link.sendall(head(len(text) + 320_000, length) + text + bytes(320_000))
            until(lambda: site.server.busy)
            until(lambda: not site.server.busy)
            assert site.server.models["g"].queue.held == 0


def test_many_answers_that_nobody_reads(models: Models) -> None:
    with running(("g", models["g"]), limits=Limits(patience_s=0.2)) as site:
        with socket.create_connection(("127.0.0.1", site.port)) as link:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.settimeout(0.2)
            asked = b"GET /v1/grid.png?seeds=0-99&scale=4 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for _ in range(400):
                try:
                    link.sendall(asked)
                except OSError:
                    break
            until(lambda: site.server.busy)
            until(lambda: not site.server.busy)
        assert site.get("/v2/health/ready").status == 200


def test_overload_is_refused_and_health_answers_meanwhile() -> None:
    slow = Slow()
    with running(("g", slow), limits=Limits(images=8, queue=10), batching=Batching(4, 0)) as site:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(site.post, "/v2/models/g/infer", infer_body(ROW)) for _ in range(16)]
            until(lambda: sum(future.done() for future in asked) == 6)
            assert site.get("/v2/health/live").status == 200
            assert site.get("/v2/health/ready").status == 200
            assert "gan_inference_pending_images" in site.get("/metrics").body.decode()
            slow.free.set()
            replies = [future.result() for future in asked]
        assert sorted(reply.status for reply in replies) == [200] * 10 + [429] * 6
        assert {reply.headers["Retry-After"] for reply in replies if reply.status == 429} == {"1"}
        assert site.server.models["g"].queue.held == 0
        assert site.post("/v2/models/g/infer", infer_body(*[ROW] * 9)).status == 422
        assert max(slow.batches) <= 4


def test_the_queue_holds_fewer_large_images() -> None:
    for side, most in ((32, 4096), (256, 1024), (1024, 64), (4096, 4)):
        slow = Slow()
        slow.contract = onnx_files.contract(image=(3, side, side))
        assert Served("g", slow, Limits(), Batching(), Metrics()).queue.most == most
    slow.contract = onnx_files.contract(image=(3, 8192, 4096))
    with pytest.raises(GanportError, match="an image of g has 33554432 pixels, an answer at most 16777216") as caught:
        Served("g", slow, Limits(), Batching(), Metrics())
    assert "`max_pixels`" in caught.value.hint


def test_too_many_requests_at_a_time() -> None:
    slow = Slow()
    with running(("g", slow), limits=Limits(requests=2)) as site:
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(site.post, "/v2/models/g/infer", infer_body(ROW)) for _ in range(3)]
            until(lambda: any(future.done() for future in asked))
            slow.free.set()
            replies = [future.result() for future in asked]
        assert sorted(reply.status for reply in replies) == [200, 200, 503]


def test_the_work_of_clients_that_left_is_dropped() -> None:
    slow = Slow()
    with running(("g", slow), batching=Batching(1, 0)) as site:
        first = threading.Thread(target=site.post, args=("/v2/models/g/infer", infer_body(ROW)))
        first.start()
        assert slow.began.wait(10)
        body = json.dumps(infer_body(ROW)).encode()
        links = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(20)]
        for link in links:
            link.sendall(head(len(body)) + body)
        queue = site.server.models["g"].queue
        until(lambda: queue.held == 21)
        for link in links:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a farewell
            link.close()
        until(lambda: queue.held == 1)
        slow.free.set()
        first.join()
        assert slow.batches == [1]
        assert 'reason="canceled"} 20.0' in site.get("/metrics").body.decode()


def test_a_poisoned_neighbour_fails_alone_and_says_nothing_of_the_host() -> None:
    slow = Slow()
    with running(("g", slow), batching=Batching(8, 0.1)) as site:
        slow.free.set()
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            rows = [[13.0 if index == 2 else float(index)] * 4 for index in range(6)]
            replies = list(pool.map(lambda row: site.post("/v2/models/g/infer", infer_body(row)), rows))
        assert [reply.status for reply in replies] == [200, 200, 500, 200, 200, 200]
        assert "home" not in replies[2].body.decode()
        assert "server's log" in replies[2].json["error"]
        for index in (0, 1, 3, 4, 5):
            assert set(replies[index].json["outputs"][0]["data"]) == {index}


def test_pages_of_other_sites_and_other_names(models: Models) -> None:
    with running(("g", models["g"]), hosts=frozenset({"localhost", "images.example.org"})) as site:
        own = f"127.0.0.1:{site.port}"
        path, body = "/v1/images", {"seeds": [1]}
        assert site.post(path, body).status == 200
        assert site.post(path, body, Origin=f"http://{own}").status == 200
        assert site.post(path, body, Host="Images.Example.org", Origin="https://images.example.org").status == 200
        for origin in ("https://evil.example", "null", f"http://{own}.evil.example", "http://127.0.0.1:1", ""):
            assert site.post(path, body, Origin=origin).status == 403
            assert site.post("/v2/models/g/infer", infer_body(ROW), Origin=origin).status == 403
        for host in ("evil.example", "localhost.evil.example", "10.0.0.1", "", "[", "user@evil.example"):
            assert site.get("/v1/images/1.png", Host=host).status == 403
        for host in ("localhost", "LOCALHOST:80", "[::1]:8000", "127.0.0.9", "images.example.org:443"):
            assert site.get("/v1/images/1.png", Host=host).status == 200


@pytest.mark.slow
def test_a_body_that_is_json_by_the_megabyte_does_not_stop_the_others(site: Site) -> None:
    body = b'{"latents": [' + b",".join([b"[" + b",".join([b"0.125"] * 400_000) + b"]"] * 3) + b"]}"
    waits: list[float] = []

    def watch() -> None:
        while not done.is_set():
            began = time.monotonic()
            assert site.get("/v2/health/live").status == 200
            waits.append(time.monotonic() - began)

    done = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    reply = site.post("/v1/images", body)
    done.set()
    watcher.join()
    assert reply.status == 422
    assert np.median(waits) < 0.1
    assert len(body) > exchange.AT_ONCE_BYTES
