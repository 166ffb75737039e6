"""`/v2`: the Open Inference Protocol (KServe, Triton), with JSON and binary tensors, for clients that speak it.

https://github.com/kserve/open-inference-protocol and Triton's extension_binary_data.md have the protocol. A model
takes `z` and, with classes, `label`; it gives `image` and `pixels` (docs/contract.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response

from gan_core import __version__
from gan_serve.server.batching import Options
from gan_serve.server.exchange import (
    Answer,
    Exchange,
    RefusedError,
    at_once_or_aside,
    json_response,
    parsed_json,
)
from gan_serve.server.served import Served

VERSION = "1"
"""A file is one version; a client may name it."""
HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_JSON_NUMBERS = 1 << 20
"""In an answer; more are asked for as binary."""
_NUMBERS_AT_ONCE = 4096
TYPES = {"FP32": "<f4", "INT64": "<i8", "UINT8": "|u1"}


@dataclass(frozen=True)
class Tensor:
    name: str
    datatype: str
    shape: tuple[int, ...]
    """Of one image; the batch comes before. -1 for a side of any length."""

    def about(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": [-1, *self.shape]}


class Inference:
    """The handlers of `/v2`."""

    def __init__(self, models: Mapping[str, Served]) -> None:
        self._models = models

    def _served(self, request: Request) -> Served:
        name, version = request.path_params["model"], request.path_params.get("version", VERSION)
        if name not in self._models:
            raise RefusedError(404, f"unknown model: {name[:100]!r} is not found")
        if version != VERSION:
            raise RefusedError(404, f"{name} has version {VERSION}, not {version[:20]!r}")
        return self._models[name]

    async def server(self, _: Request) -> Response:
        return json_response({"name": "ganport", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def model(self, request: Request) -> Response:
        served = self._served(request)
        about = {"name": served.name, "versions": [VERSION], "platform": "onnxruntime_onnx"}
        ports = {"inputs": inputs_of(served), "outputs": outputs_of(served)}
        return json_response(about | {key: [port.about() for port in ports[key]] for key in ports})

    async def model_ready(self, request: Request) -> Response:
        return json_response({"name": self._served(request).name, "ready": True})

    async def infer(self, request: Request, body: bytes) -> Response:
        served = self._served(request)
        head, rest = _split(body, request.headers.get(HEADER_LENGTH))
        asked = await parsed_json(head)
        wanted = _wanted(asked, outputs_of(served))
        options = _options(served, _parameters(asked, "the request"))
        given = _Given(asked.get("inputs"), rest, inputs_of(served), served.limits.images)
        made = _made(served, given.shape)
        served.admit(given.n, Exchange.of(request), size=(made[2], made[1]))
        numbers = sum(given.n * math.prod(made) for _, binary in wanted if not binary)
        if numbers > MAX_JSON_NUMBERS:
            raise RefusedError(
                422,
                f"{numbers} numbers as JSON, the most is {MAX_JSON_NUMBERS}",
                "ask for binary outputs, or for pixels alone",
            )
        z, label = await at_once_or_aside(len(body), given.tensors)
        if label is not None:
            label = served.generator.check_labels(label, label)  # the seeds only count the images
        floats = any(port.name == "image" for port, _ in wanted)
        image, pixels = await served.draw(z, label, floats, options)
        results = {"image": image, "pixels": pixels}
        about = {"model_name": served.name, "model_version": VERSION}
        if "id" in asked:
            about["id"] = asked["id"]
        return await at_once_or_aside(
            64 * numbers + (pixels.nbytes if image is None else image.nbytes),
            lambda: _answer(about, [(port, binary, results[port.name]) for port, binary in wanted]),
        )


def inputs_of(served: Served) -> list[Tensor]:
    taken, shape = served.interface.input, served.interface.input_shape
    if taken is not None:
        height, width = shape[1:] if taken.fixed else (-1, -1)
        return [Tensor(served.interface.input_name, "UINT8", (height, width, taken.channels))]
    z = Tensor("z", "FP32", shape)
    return [z, Tensor("label", "INT64", ())] if served.interface.conditional else [z]


def outputs_of(served: Served) -> list[Tensor]:
    c, h, w = served.interface.image
    if served.interface.input is not None and not served.interface.input.fixed:
        h = w = -1
    return [Tensor("image", "FP32", (c, h, w)), Tensor("pixels", "UINT8", (h, w, c))]


def _made(served: Served, given: tuple[int, ...]) -> tuple[int, int, int]:
    """(C, H, W) of the images that are made of inputs of the shape `given`. Raises `RefusedError` where the model takes
    no such size."""
    taken = served.interface.input
    if taken is not None and not taken.fixed and not taken.takes(*given[1:3]):
        raise RefusedError(422, f"{served.name} takes {served.interface.taken}, got {given[2]}x{given[1]}")
    return served.interface.made_of(given)


def _split(body: bytes, told: str | None) -> tuple[bytes, bytes]:
    """The JSON, and the tensors behind it."""
    if told is None:
        return body, b""
    if not (told.isascii() and told.isdigit()) or len(told) > 12 or int(told) > len(body):
        raise RefusedError(400, f"{HEADER_LENGTH} must be at most the length of the body, {len(body)}")
    return body[: int(told)], body[int(told) :]


def _parameters(of: dict[str, Any], where: str) -> dict[str, Any]:
    found = of.get("parameters", {})
    if not isinstance(found, dict):
        raise RefusedError(400, f"the parameters of {where} must be an object")
    if "shared_memory_region" in found:
        raise RefusedError(400, "shared memory is not supported")
    return found


def _options(served: Served, parameters: dict[str, Any]) -> Options:
    """psi and noise, which are parameters of the request: the same for all its images."""
    psi, noise = parameters.get("psi"), parameters.get("noise")
    if not all(value is None or type(value) in (int, float) for value in (psi, noise)):
        raise RefusedError(400, "the parameters psi and noise must be numbers")
    return served.options(psi, noise)


def _wanted(asked: dict[str, Any], outputs: Sequence[Tensor]) -> list[tuple[Tensor, bool]]:
    """The outputs that are asked for, and whether each as binary. None named: all."""
    if not isinstance(asked.get("id", ""), str):
        raise RefusedError(400, "id must be a text")
    binary = _parameters(asked, "the request").get("binary_data_output", False)
    named = asked.get("outputs")
    if named is None or named == []:
        found = [(port, binary) for port in outputs]
    elif not isinstance(named, list) or not all(isinstance(each, dict) for each in named):
        raise RefusedError(400, "outputs must be a list of objects")
    else:
        ports = {port.name: port for port in outputs}
        found = []
        for each in named:
            port = ports.pop(each["name"], None) if isinstance(each.get("name"), str) else None
            if port is None:
                raise RefusedError(400, f"unexpected output {str(each.get('name'))[:60]!r}, or named twice")
            own = _parameters(each, port.name)
            if "classification" in own:
                raise RefusedError(400, "classification is not supported: the outputs are images")
            found.append((port, own.get("binary_data", binary)))
    if not all(isinstance(binary, bool) for _, binary in found):
        raise RefusedError(400, "binary_data and binary_data_output must be true or false")
    return found


class _Given:
    """The inputs of a request. Their shapes are checked first: `n` images, the first input of `shape`. `tensors` reads
    the numbers."""

    def __init__(self, inputs: Any, rest: bytes, ports: Sequence[Tensor], most: int) -> None:
        if not isinstance(inputs, list) or not all(isinstance(each, dict) for each in inputs):
            raise RefusedError(400, "inputs must be a list of objects")
        wanted = {port.name: port for port in ports}
        self._given: dict[str, tuple[tuple[int, ...], Tensor, Any]] = {}
        self._first = ports[0].name
        sizes, start = set(), 0
        for each in inputs:
            port = wanted.pop(each["name"], None) if isinstance(each.get("name"), str) else None
            if port is None:
                raise RefusedError(400, f"unexpected input {str(each.get('name'))[:60]!r}, or given twice")
            shape = _shape(each, port, most)
            sizes.add(shape[0])
            told = _parameters(each, port.name).get("binary_data_size")
            if told is None:
                self._given[port.name] = shape, port, each.get("data")
                continue
            size = math.prod(shape) * np.dtype(TYPES[port.datatype]).itemsize
            if type(told) is not int or told != size or start + size > len(rest):
                raise RefusedError(400, f"{port.name} has {size} bytes by its shape, and {len(rest) - start} are left")
            self._given[port.name] = shape, port, memoryview(rest)[start : start + size]
            start += size
        if wanted:
            raise RefusedError(400, f"input {next(iter(wanted))!r} is missing")
        if start != len(rest):
            raise RefusedError(400, f"{len(rest) - start} bytes after the last tensor")
        if len(sizes) != 1:
            raise RefusedError(400, "the inputs are of different numbers of images")
        (self.n,) = sizes
        self.shape = self._given[self._first][0]

    def tensors(self) -> tuple[Any, Any]:
        """z float32 (n, z_dim) or pixels uint8 (n, H, W, C), and label int64 (n,) or None."""
        found = {name: _numbers(port, data, shape) for name, (shape, port, data) in self._given.items()}
        return found[self._first], found.get("label")


def _shape(of: dict[str, Any], port: Tensor, most: int) -> tuple[int, ...]:
    shape = of.get("shape")
    wanted = f"[{', '.join(['n', *map(str, port.shape)])}]"
    if of.get("datatype") != port.datatype:
        raise RefusedError(400, f"{port.name} must be {port.datatype}, got {str(of.get('datatype'))[:20]}")
    if not isinstance(shape, list) or not all(type(side) is int for side in shape[:9]) or not _fits(shape[1:], port):
        raise RefusedError(400, f"unexpected shape for input {port.name!r}: expected {wanted}, got {str(shape)[:60]}")
    if not shape or not 1 <= shape[0] <= most:
        raise RefusedError(422, f"{port.name} must have 1 … {most} images, got {str(shape[:1])[:30]}")
    return tuple(shape)


def _fits(sides: list[int], port: Tensor) -> bool:
    """Whether they are those of one image."""
    if len(sides) != len(port.shape):
        return False
    return all(side == own or (own == -1 and 0 < side < 1 << 31) for side, own in zip(sides, port.shape, strict=True))


def _numbers(port: Tensor, data: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The tensor. Raises `RefusedError` for numbers that are too few or many, not finite, or of another type."""
    if isinstance(data, memoryview):
        array = np.frombuffer(data, TYPES[port.datatype]).reshape(shape)
    else:
        kinds = (int, float) if port.datatype == "FP32" else (int,)
        flat = data
        while isinstance(flat, list) and flat and isinstance(flat[0], list):
            if not all(isinstance(each, list) for each in flat):
                break
            flat = list(chain.from_iterable(flat))
        if not isinstance(flat, list) or not all(type(each) in kinds for each in flat):
            raise RefusedError(400, f"the data of {port.name} must be numbers of {port.datatype}")
        if len(flat) != math.prod(shape):
            raise RefusedError(
                400, f"{port.name} of shape {list(shape)} has {math.prod(shape)} numbers, got {len(flat)}"
            )
        try:
            with np.errstate(over="ignore"):
                array = np.array(flat, np.float64 if port.datatype == "FP32" else np.int64)
                if port.datatype == "UINT8" and (array != array.astype(np.uint8)).any():
                    raise OverflowError
                array = array.astype(TYPES[port.datatype]).reshape(shape)
        except OverflowError as error:
            raise RefusedError(422, f"{port.name} has a number beyond {port.datatype}") from error
    if port.datatype == "FP32" and not np.isfinite(array).all():
        raise RefusedError(422, f"{port.name} has NaN, infinity, or a number beyond FP32")
    return array


def _answer(about: dict[str, Any], results: Sequence[tuple[Tensor, bool, Any]]) -> Response:
    outputs, tensors = [], []
    for port, binary, array in results:
        output: dict[str, Any] = {"name": port.name, "datatype": port.datatype, "shape": list(array.shape)}
        if binary:
            tensors.append(np.ascontiguousarray(array, TYPES[port.datatype]).tobytes())
            output["parameters"] = {"binary_data_size": len(tensors[-1])}
            outputs.append(json.dumps(output))
        else:
            outputs.append(f'{json.dumps(output)[:-1]}, "data": [{_as_json(port, array)}]}}')
    text = f'{json.dumps(about)[:-1]}, "outputs": [{", ".join(outputs)}]}}'.encode()
    if not tensors:
        return Answer(text, media_type="application/json")
    headers = {HEADER_LENGTH: str(len(text))}
    return Answer(b"".join([text, *tensors]), headers=headers, media_type="application/octet-stream")


def _as_json(port: Tensor, array: npt.NDArray[Any]) -> str:
    """In pieces, between which other threads get a turn."""
    if not np.isfinite(array).all():
        raise RefusedError(422, f"{port.name} has NaN or infinity, which JSON cannot say", "ask for it as binary")
    flat = array.reshape(-1)
    pieces = range(0, flat.size, _NUMBERS_AT_ONCE)
    return ", ".join(json.dumps(flat[start : start + _NUMBERS_AT_ONCE].tolist())[1:-1] for start in pieces)
