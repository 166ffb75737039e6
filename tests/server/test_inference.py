"""`/v2` with the client that Triton's users have, and what that client would never send."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import numpy as np
import pytest
from tritonclient import http as triton
from tritonclient.http import aio as triton_aio
from tritonclient.utils import InferenceServerException

from gan_serve.runtime.onnx_generator import OnnxGenerator
from server.running import Site, infer_body

Models = dict[str, OnnxGenerator]


def inputs(kind: Any, models: Models, binary: bool) -> list[Any]:
    z = models["c"].contract.interface.latents([5, 6, 7])
    found = [kind.InferInput("z", z.shape, "FP32"), kind.InferInput("label", [3], "INT64")]
    found[0].set_data_from_numpy(z, binary_data=binary)
    found[1].set_data_from_numpy(np.array([2, 0, 1]), binary_data=binary)
    return found


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient(site: Site, models: Models, binary: bool) -> None:
    image, pixels = models["c"].run(models["c"].contract.interface.latents([5, 6, 7]), np.array([2, 0, 1]))
    with triton.InferenceServerClient(f"127.0.0.1:{site.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("c")
        assert client.is_model_ready("c", "1")
        assert not client.is_model_ready("nobody")
        about = client.get_model_metadata("c")
        assert about["inputs"][1] == {"name": "label", "datatype": "INT64", "shape": [-1]}
        assert client.get_server_metadata()["name"] == "ganport"
        # No outputs named: all of them, as binary.
        reply = client.infer("c", inputs(triton, models, binary), request_id="17")
        assert reply.get_response()["id"] == "17"
        assert np.array_equal(reply.as_numpy("pixels"), pixels)
        assert np.array_equal(reply.as_numpy("image"), image)
        asked = [triton.InferRequestedOutput("pixels", binary_data=binary)]
        only = client.infer("c", inputs(triton, models, binary), "1", asked)
        assert np.array_equal(only.as_numpy("pixels"), pixels)
        assert only.as_numpy("image") is None
        floats = [triton.InferRequestedOutput("image", binary_data=False)]
        for packing in ("gzip", "deflate"):
            as_json = client.infer(
                "c", inputs(triton, models, binary), outputs=floats, request_compression_algorithm=packing
            )
            assert np.array_equal(as_json.as_numpy("image").astype(np.float32), image)
        with pytest.raises(InferenceServerException, match="unknown model"):
            client.infer("nobody", inputs(triton, models, binary))
        with pytest.raises(InferenceServerException, match="version"):
            client.infer("c", inputs(triton, models, binary), "2")
        with pytest.raises(InferenceServerException, match="'label' is missing"):
            client.infer("c", inputs(triton, models, binary)[:1])


def test_tritonclient_async(site: Site, models: Models) -> None:
    async def ask() -> list[Any]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{site.port}") as client:
            assert await client.is_server_ready()
            replies = await asyncio.gather(
                *(client.infer("c", inputs(triton_aio, models, index % 2 == 0)) for index in range(8))
            )
            with pytest.raises(InferenceServerException, match="unknown model"):
                await client.infer("nobody", inputs(triton_aio, models, True))
            return replies

    expected = models["c"].run_pixels(models["c"].contract.interface.latents([5, 6, 7]), np.array([2, 0, 1]))
    for reply in asyncio.run(ask()):
        assert np.array_equal(reply.as_numpy("pixels"), expected)


def test_the_protocol_without_a_client(site: Site, models: Models) -> None:
    reply = site.post("/v2/models/g/infer", infer_body([0.0, 1.0, 2, -1]))
    assert reply.status == 200
    (output,) = reply.json["outputs"]
    expected = models["g"].run_pixels(np.array([[0, 1, 2, -1]], np.float32))
    assert (output["shape"], output["data"]) == ([1, 6, 5, 3], expected.reshape(-1).tolist())
    flat = infer_body([0.0, 1.0, 2, -1]) | {"id": "a"}
    flat["inputs"][0]["data"] = [0, 1, 2, -1]
    assert site.post("/v2/models/g/versions/1/infer", flat).json == reply.json | {"id": "a"}


def changed(**changes: Any) -> dict[str, Any]:
    body = infer_body([0.0, 1.0, 2.0, 3.0])
    return body | {"inputs": [body["inputs"][0] | changes]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "inputs must be"),
        ({"inputs": []}, "'z' is missing"),
        ({"inputs": [3]}, "inputs must be"),
        ({"inputs": {"name": "z"}}, "inputs must be"),
        (changed(name="x"), "unexpected input 'x'"),
        (changed(name=["z"]), "unexpected input"),
        (changed(datatype="FP64"), "must be FP32"),
        (changed(datatype=None), "must be FP32"),
        (changed(shape=[1, 5]), "unexpected shape"),
        (changed(shape=[4]), "unexpected shape"),
        (changed(shape=[1, 4, 1]), "unexpected shape"),
        (changed(shape=[]), "unexpected shape"),
        (changed(shape="1,4"), "unexpected shape"),
        (changed(shape=[1.0, 4]), "unexpected shape"),
        (changed(shape=[True, 4]), "unexpected shape"),
        (changed(shape=[0, 4]), "1 … 512 images"),
        (changed(shape=[-1, 4]), "1 … 512 images"),
        (changed(shape=[10**15, 4]), "1 … 512 images"),
        (changed(shape=[2**62, 4]), "1 … 512 images"),
        (changed(shape=[2, 4]), "8 numbers, got 4"),
        (changed(data=[[0.0, 1.0, 2.0]]), "4 numbers, got 3"),
        (changed(data=None), "must be numbers"),
        (changed(data="abcd"), "must be numbers"),
        (changed(data=[0.0, 1.0, "2", 3]), "must be numbers"),
        (changed(data=[0.0, 1.0, True, 3]), "must be numbers"),
        (changed(data=[[0.0, 1.0], 2.0, 3.0]), "must be numbers"),
        (changed(data=[[[]], 2.0, 3.0]), "must be numbers"),
        (changed(data=[0.0, 1.0, 2.0, 1e39]), "beyond FP32"),
        (changed(parameters=3), "must be an object"),
        (changed(parameters={"shared_memory_region": "a"}), "shared memory"),
        (changed(parameters={"binary_data_size": 16}), "0 are left"),
        (infer_body([0.0] * 4) | {"outputs": [{"name": "y"}]}, "unexpected output 'y'"),
        (infer_body([0.0] * 4) | {"outputs": [{"name": "image"}] * 2}, "named twice"),
        (infer_body([0.0] * 4) | {"outputs": "pixels"}, "outputs must be"),
        (
            infer_body([0.0] * 4) | {"outputs": [{"name": "image", "parameters": {"classification": 3}}]},
            "classification",
        ),
        (infer_body([0.0] * 4) | {"outputs": [{"name": "image", "parameters": {"binary_data": 1}}]}, "true or false"),
        (infer_body([0.0] * 4) | {"id": 3}, "id must be"),
        (infer_body([0.0] * 4) | {"parameters": []}, "must be an object"),
    ],
)
def test_wrong_requests(site: Site, body: Any, words: str) -> None:
    reply = site.post("/v2/models/g/infer", body)
    assert reply.status in (400, 422)
    assert words in reply.json["error"]


@pytest.mark.parametrize("label", [[3], [-1], [2**63], [1.0], [2**70]])
def test_wrong_labels(site: Site, label: list[Any]) -> None:
    z = {"name": "z", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}
    reply = site.post(
        "/v2/models/c/infer", {"inputs": [z, {"name": "label", "shape": [1], "datatype": "INT64", "data": label}]}
    )
    assert reply.status in (400, 422)
    assert reply.json["error"]


def test_inputs_of_different_numbers_of_images(site: Site) -> None:
    z = {"name": "z", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}
    label = {"name": "label", "shape": [2], "datatype": "INT64", "data": [0, 1]}
    assert "different numbers" in site.post("/v2/models/c/infer", {"inputs": [z, label]}).json["error"]


def binary(size: Any, rest: bytes, length: str | None = None) -> tuple[bytes, str]:
    body = changed(parameters={"binary_data_size": size})
    del body["inputs"][0]["data"]
    head = json.dumps(body).encode()
    return head + rest, str(len(head)) if length is None else length


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (binary(16, b"\0" * 15), "16 bytes by its shape, and 15 are left"),
        (binary(16, b"\0" * 17), "1 bytes after the last tensor"),
        (binary(12, b"\0" * 12), "16 bytes by its shape"),
        (binary(-16, b"\0" * 16), "16 bytes by its shape"),
        (binary(2**62, b"\0" * 16), "16 bytes by its shape"),
        (binary("16", b"\0" * 16), "16 bytes by its shape"),
        (binary(True, b"\0"), "16 bytes by its shape"),
        (binary(16, b"\0" * 16, "999999"), "at most the length"),
        (binary(16, b"\0" * 16, "-1"), "at most the length"),
        (binary(16, b"\0" * 16, "9" * 4000), "at most the length"),
        (binary(16, b"\0" * 16, "10"), "not JSON"),
        (binary(16, struct.pack("<4f", 0, 0, 0, float("nan"))), "NaN"),
        (binary(16, struct.pack("<4f", 0, 0, 0, float("-inf"))), "infinity"),
    ],
)
def test_lying_binary_tensors(site: Site, body: tuple[bytes, str], words: str) -> None:
    reply = site.post("/v2/models/g/infer", body[0], Inference_Header_Content_Length=body[1])
    assert reply.status in (400, 422)
    assert words in reply.json["error"]
    fine = binary(16, b"\0" * 16)
    assert site.post("/v2/models/g/infer", fine[0], Inference_Header_Content_Length=fine[1]).status == 200


def test_what_a_framework_would_answer_itself_is_json_too(site: Site) -> None:
    for method, path in (("GET", "/v2/nowhere"), ("PUT", "/v2/models/g/infer"), ("GET", "/v2/models/g/infer")):
        reply = site.ask(method, path)
        assert reply.status in (404, 405)
        assert reply.json["error"]
