"""Models that take images: a picture is uploaded, or its pixels are a tensor; what is no picture gets an answer."""

from __future__ import annotations

import concurrent.futures
import io
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient import http as triton

from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.server import served
from gan_serve.server.exchange import Limits
from gan_serve.server.served import Batching
from serve import onnx_files
from server.running import Site, running

PNG = {"Content_Type": "image/png"}


@pytest.fixture(scope="module")
def twice() -> Iterator[Site]:
    models = {
        "x2": onnx_files.load(onnx_files.twice()),
        "fixed": onnx_files.load(onnx_files.twice(fixed=True)),
        "g": onnx_files.load(onnx_files.ours()),
    }
    with running(*models.items(), limits=Limits(pixels=1 << 20), batching=Batching(delay_s=0.05)) as site:
        yield site


def picture(width: int, height: int, mode: str = "RGB", kind: str = "PNG") -> bytes:
    channels = len(Image.new(mode, (1, 1)).getbands())
    rng = np.random.default_rng(width)
    array = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(array[..., 0] if channels == 1 else array, mode).save(file, kind)
    return file.getvalue()


def pixels_of(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)))


def negative(data: bytes) -> Any:
    return (255 - pixels_of(data).astype(np.uint8)).repeat(2, 0).repeat(2, 1)


def test_a_picture_of_any_size(twice: Site) -> None:
    for width, height in ((6, 8), (7, 9), (1, 1), (300, 20)):
        data = picture(width, height)
        reply = twice.post("/v1/images?model=x2", data, **PNG)
        assert (reply.status, reply.headers["Content-Type"]) == (200, "image/png")
        assert np.array_equal(pixels_of(reply.body), negative(data))
    for mode in ("L", "RGBA", "LA"):
        assert twice.post("/v1/images?model=x2", picture(6, 8, mode), **PNG).status == 200


def test_pictures_of_one_size_share_a_batch(twice: Site) -> None:
    files = [picture(10, 10), picture(20, 10)] * 4
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda data: twice.post("/v1/images?model=x2", data, **PNG), files))
    for data, reply in zip(files, replies, strict=True):
        assert np.array_equal(pixels_of(reply.body), negative(data))


def test_tiles_make_the_same_picture(twice: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    data = picture(50, 31)
    whole = twice.post("/v1/images?model=x2", data, **PNG)
    monkeypatch.setattr(served, "WHOLE_SIDE", 16)
    tiled = twice.post("/v1/images?model=x2", data, **PNG)
    assert tiled.body == whole.body
    assert np.array_equal(pixels_of(tiled.body), negative(data))


def test_a_model_of_one_size_resizes_only_when_told(twice: Site) -> None:
    path = "/v1/images?model=fixed"
    data = picture(6, 8)
    assert np.array_equal(pixels_of(twice.post(path, data, **PNG).body), negative(data))
    reply = twice.post(path, picture(12, 16), **PNG)
    assert (reply.status, "takes 6x8 only" in reply.json["error"]) == (422, True)
    assert pixels_of(twice.post(f"{path}&resize=1", picture(12, 16), **PNG).body).shape == (16, 12, 3)
    reply = twice.post(f"{path}&resize=1", picture(1100, 1000, "L"), **PNG)
    assert (reply.status, "1100000 pixels, the most is 1048576" in reply.json["error"]) == (422, True)


def test_what_is_no_picture_or_too_large(twice: Site) -> None:
    path = "/v1/images?model=x2"
    sizes = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    head = b"IHDR" + sizes
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"\0" * 50
    wrong = [
        (b"", 422), (b"nothing", 422), (picture(9, 9)[:-30], 422), (bomb, 422), (b"%!PS-Adobe-3.0 EPSF-3.0\n", 422),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422), (picture(1000, 600), 422),
        (picture(9, 9, kind="ICO"), 422),
    ]  # fmt: skip
    for data, status in wrong:
        reply = twice.post(path, data, **PNG)
        assert reply.status == status, data[:20]
        assert reply.json["hint"]
    assert "the most is" in twice.post(path, picture(1000, 600), **PNG).json["error"]
    assert twice.server.models["x2"].queue.held == 0


def test_forms_are_refused_and_a_mark_before_json_is_not(twice: Site) -> None:
    reply = twice.post("/v1/images?model=x2", b"--x\r\n", Content_Type="multipart/form-data; boundary=x")
    assert reply.status == 415
    assert "--data-binary" in reply.json["hint"]
    assert twice.post("/v1/images", b'\xef\xbb\xbf{"seeds": [1], "model": "g"}').status == 200


def test_seeds_and_images_are_told_apart(twice: Site) -> None:
    assert "takes no image" in twice.post("/v1/images?model=g", picture(6, 8), **PNG).json["error"]
    for path in ("/v1/images/1.png", "/v1/grid.png", "/v1/walk.webp", "/v1/images/1.png"):
        reply = twice.get(f"{path}?model=x2")
        assert (reply.status, "seeds and latents have no meaning" in reply.json["error"]) == (422, True)
    bodies: list[dict[str, Any]] = [{"seeds": [1]}, {"latents": [[]]}]
    for body in bodies:
        reply = twice.post("/v1/images", body | {"model": "x2"})
        assert (reply.status, "takes RGB images" in reply.json["error"]) == (422, True)


def test_the_protocol_with_pixels(twice: Site) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    with triton.InferenceServerClient(f"127.0.0.1:{twice.port}") as client:
        about = client.get_model_metadata("x2")
        assert about["inputs"] == [{"name": "input", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
        assert about["outputs"][1]["shape"] == [-1, -1, -1, 3]
        assert client.get_model_metadata("fixed")["inputs"][0]["shape"] == [-1, 8, 6, 3]
        for binary in (True, False):
            given = triton.InferInput("input", [2, 4, 6, 3], "UINT8")
            given.set_data_from_numpy(pixels, binary_data=binary)
            made = client.infer("x2", [given])
            assert np.array_equal(made.as_numpy("pixels"), (255 - pixels).repeat(2, 1).repeat(2, 2))
            assert made.as_numpy("image").shape == (2, 3, 8, 12)


@pytest.mark.parametrize(
    ("shape", "data", "words"),
    [
        ([1, 3, 2, 3], [0] * 18, "takes RGB images of multiples of 2"),
        ([1, 2, 2, 4], [0] * 16, "expected [n, -1, -1, 3]"),
        ([1, 2, 2], [0] * 4, "expected [n, -1, -1, 3]"),
        ([1, -2, -2, 3], [0] * 12, "expected [n, -1, -1, 3]"),
        ([1, 2**40, 2, 3], [0] * 12, "expected [n, -1, -1, 3]"),
        ([1, 10**6, 10**6, 3], [0] * 12, "the most is"),
        ([1, 2, 2, 3], [0] * 11, "12 numbers, got 11"),
        ([1, 2, 2, 3], [256] * 12, "beyond UINT8"),
        ([1, 2, 2, 3], [-1] * 12, "beyond UINT8"),
        ([1, 2, 2, 3], [2**70] * 12, "not JSON"),
        ([1, 2, 2, 3], [0.5] * 12, "must be numbers of UINT8"),
    ],
)
def test_wrong_pixels(twice: Site, shape: list[int], data: list[Any], words: str) -> None:
    body = {"inputs": [{"name": "input", "shape": shape, "datatype": "UINT8", "data": data}]}
    reply = twice.post("/v2/models/x2/infer", json.dumps(body).encode())
    assert reply.status in (400, 422)
    assert words in reply.json["error"]


def test_a_generator_of_images_runs(twice: Site) -> None:
    generator: OnnxGenerator = onnx_files.load(onnx_files.twice())
    data = picture(6, 8)
    assert np.array_equal(np.asarray(generator.transform(Image.open(io.BytesIO(data)))), negative(data))
    assert {each["name"]: each["takes"] for each in twice.get("/v1/models").json["models"]} == {
        "x2": {"text": "RGB images of multiples of 2 pixels from 2", "fixed": False},
        "fixed": {"text": "RGB images of 6x8", "fixed": True},
        "g": None,
    }
