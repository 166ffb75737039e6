"""`/v2`: the Open Inference Protocol (KServe, Triton), with JSON and binary tensors, for clients that speak it.

https://github.com/kserve/open-inference-protocol and Triton's extension_binary_data.md have the protocol. A model
takes `z` and, with classes, `label`; it gives `image` and `pixels` (docs/contract.md).
"""

from __future__ import annotations

import functools
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
    parsed,
)
from gan_serve.server.served import Served

VERSION = "1"
"""A file is one version; a client may name it."""
HEADER_LENGTH = "Inference-Header-Content-Length"
_LENGTH = HEADER_LENGTH.lower().encode()
MAX_JSON_NUMBERS = 1 << 20
"""In an answer; more are asked for as binary."""
_NUMBERS_AT_ONCE = 4096
_MOST_NAMED = 8
"""Inputs or outputs; no generator has as many, so that one of them is named twice, or wrong."""
_KEPT_BYTES = 4096
"""How long the JSON of a request may be for what it says to be kept."""
_BINARY_IS_CHEAPER = 16
"""How many bytes of a tensor take the time of one that is read or written as JSON."""
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
        # A client that sends binary tensors sends the same JSON before them again and again.
        self._asked = functools.lru_cache(128)(_Asked)

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
        head, rest = _split(body, Exchange.of(request).headers.get(_LENGTH))
        if len(head) <= _KEPT_BYTES:
            asked = self._asked(served, head, len(rest))
        else:
            asked = await at_once_or_aside(len(head), lambda: _Asked(served, head, len(rest)))
        made = served.interface.made_of(asked.shape)
        served.admit(asked.n, Exchange.of(request), size=(made[2], made[1]))
        if asked.numbers > MAX_JSON_NUMBERS:
            raise RefusedError(
                422,
                f"{asked.numbers} numbers as JSON, the most is {MAX_JSON_NUMBERS}",
                "ask for binary outputs, or for pixels alone",
            )
        cost = len(head) + len(rest) // _BINARY_IS_CHEAPER
        given, label = await at_once_or_aside(cost, lambda: asked.tensors(rest))
        if label is not None:
            label = served.generator.check_labels(label, label)  # the seeds only count the images
        image, pixels = await served.draw(given, label, asked.has("image"), asked.options)
        results: dict[str, Any] = {"image": image, "pixels": pixels}
        if asked.has("styles"):
            results["styles"] = await served.styles(given, label, asked.options)
        size = sum(results[port.name].nbytes for port, _ in asked.wanted)
        return await at_once_or_aside(
            64 * asked.numbers + size // _BINARY_IS_CHEAPER,
            lambda: _answer(asked.begins, [(port, binary, results[port.name]) for port, binary in asked.wanted]),
        )


def inputs_of(served: Served) -> tuple[Tensor, ...]:
    """`w` is given in the place of `z`."""
    taken, shape, styles = served.interface.input, served.interface.input_shape, served.interface.styles
    if taken is not None:
        height, width = shape[1:] if taken.fixed else (-1, -1)
        return (Tensor(served.interface.input_name, "UINT8", (height, width, taken.channels)),)
    label = (Tensor("label", "INT64", ()),) if served.interface.conditional else ()
    w = () if styles is None else (Tensor("w", "FP32", (styles.num_ws, styles.w_dim)),)
    return (Tensor("z", "FP32", shape), *label, *w)


def outputs_of(served: Served) -> tuple[Tensor, ...]:
    (c, h, w), styles = served.interface.image, served.interface.styles
    if served.interface.input is not None and not served.interface.input.fixed:
        h = w = -1
    more = () if styles is None else (Tensor("styles", "FP32", (styles.num_ws, styles.w_dim)),)
    return (Tensor("image", "FP32", (c, h, w)), Tensor("pixels", "UINT8", (h, w, c)), *more)


def _split(body: bytes, told: bytes | None) -> tuple[bytes, memoryview]:
    """The JSON, and the tensors behind it."""
    if told is None:
        return body, memoryview(b"")
    if not told.isdigit() or len(told) > 12 or int(told) > len(body):
        raise RefusedError(400, f"{HEADER_LENGTH} must be at most the length of the body, {len(body)}")
    return body[: int(told)], memoryview(body)[int(told) :]


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
    elif not isinstance(named, list) or not all(isinstance(each, dict) for each in named[:_MOST_NAMED]):
        raise RefusedError(400, "outputs must be a list of objects")
    else:
        ports = {port.name: port for port in outputs}
        found = []
        for each in named[:_MOST_NAMED]:
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


class _Asked:
    """What the JSON of a request says, checked: the shapes of the inputs, the outputs, the options.

    `n` images are made of a first input of `shape`. `wanted` has the outputs, and whether each is sent as binary,
    `numbers` how many are sent as JSON. `begins` is the answer's first part.

    Raises `RefusedError`, also where `rest_bytes` of binary tensors are not what the shapes need.
    """

    def __init__(self, served: Served, head: bytes, rest_bytes: int) -> None:
        asked, interface = parsed(head), served.interface
        self.wanted = _wanted(asked, outputs_of(served))
        self.options = _options(served, _parameters(asked, "the request"))
        self._given = _given(asked.get("inputs"), rest_bytes, inputs_of(served), served.limits.images)
        self._first = next(iter(self._given))
        self.shape = self._given[self._first][0]
        self.n, taken = self.shape[0], interface.input
        if taken is not None and not taken.fixed and not taken.takes(*self.shape[1:3]):
            got = f"{self.shape[2]}x{self.shape[1]}"
            raise RefusedError(422, f"{served.name} takes {interface.taken}, got {got}")
        values = math.prod(interface.made_of(self.shape))
        self.numbers = self.n * sum(
            math.prod(port.shape) if port.name == "styles" else values for port, binary in self.wanted if not binary
        )
        about = {"model_name": served.name, "model_version": VERSION}
        self.begins = json.dumps(about | ({"id": asked["id"]} if "id" in asked else {}))[:-1]

    def has(self, output: str) -> bool:
        return any(port.name == output for port, _ in self.wanted)

    def tensors(self, rest: memoryview) -> tuple[Any, Any]:
        """Latents z float32 (n, z_dim) or w (n, num_ws, w_dim), or pixels uint8 (n, H, W, C), and label int64 (n,) or
        None. Raises `RefusedError` for numbers that are none."""
        found = {
            name: _numbers(port, rest[data] if isinstance(data, slice) else data, shape)
            for name, (shape, port, data) in self._given.items()
        }
        return found[self._first], found.get("label")


def _given(
    inputs: Any, rest_bytes: int, ports: Sequence[Tensor], most: int
) -> dict[str, tuple[tuple[int, ...], Tensor, Any]]:
    """By name the shape, what it is, and the data: numbers, or where they are behind the JSON. The latents, or the
    image, come first."""
    if not isinstance(inputs, list) or not all(isinstance(each, dict) for each in inputs[:_MOST_NAMED]):
        raise RefusedError(400, "inputs must be a list of objects")
    wanted = {port.name: port for port in ports}
    found: dict[str, tuple[tuple[int, ...], Tensor, Any]] = {}
    start = 0
    for each in inputs[:_MOST_NAMED]:
        port = wanted.pop(each["name"], None) if isinstance(each.get("name"), str) else None
        if port is None:
            hint = "psi and noise are parameters of the request" if each.get("name") in ("psi", "noise") else ""
            raise RefusedError(400, f"unexpected input {str(each.get('name'))[:60]!r}, or given twice", hint)
        shape = _shape(each, port, most)
        told = _parameters(each, port.name).get("binary_data_size")
        if told is None:
            found[port.name] = shape, port, each.get("data")
            continue
        size = math.prod(shape) * np.dtype(TYPES[port.datatype]).itemsize
        if type(told) is not int or told != size or start + size > rest_bytes:
            left = f"{rest_bytes - start} are left, binary_data_size is {str(told)[:20]}"
            raise RefusedError(400, f"{port.name} has {size} bytes by its shape, and {left}")
        found[port.name] = shape, port, slice(start, start + size)
        start += size
    if "z" in found and "w" in found:
        raise RefusedError(400, "z and w are given, expected one of them")
    wanted.pop("z" if "w" in found else "w", None)
    if wanted:
        raise RefusedError(400, f"input {next(iter(wanted))!r} is missing")
    if start != rest_bytes:
        raise RefusedError(400, f"{rest_bytes - start} bytes after the last tensor")
    if len({shape[0] for shape, _, _ in found.values()}) != 1:
        raise RefusedError(400, "the inputs are of different numbers of images")
    return dict(sorted(found.items(), key=lambda each: each[0] == "label"))


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


def _answer(begins: str, results: Sequence[tuple[Tensor, bool, npt.NDArray[Any]]]) -> Response:
    outputs, tensors = [], []
    for port, binary, array in results:
        text = _output(port, array.shape, array.nbytes if binary else None)
        outputs.append(f"{text}}}" if binary else f'{text}, "data": [{_as_json(port, array)}]}}')
        if binary:
            tensors.append(np.ascontiguousarray(array, TYPES[port.datatype]).data)
    head = f'{begins}, "outputs": [{", ".join(outputs)}]}}'.encode()
    if not tensors:
        return Answer(head, media_type="application/json")
    headers = {HEADER_LENGTH: str(len(head))}
    return Answer(b"".join([head, *tensors]), headers=headers, media_type="application/octet-stream")


@functools.lru_cache(128)
def _output(port: Tensor, shape: tuple[int, ...], size_bytes: int | None) -> str:
    """As JSON, open for its data; `size_bytes` of what is sent as binary."""
    output: dict[str, Any] = {"name": port.name, "datatype": port.datatype, "shape": list(shape)}
    if size_bytes is not None:
        output["parameters"] = {"binary_data_size": size_bytes}
    return json.dumps(output)[:-1]


def _as_json(port: Tensor, array: npt.NDArray[Any]) -> str:
    """In pieces, between which other threads get a turn."""
    if not np.isfinite(array).all():
        raise RefusedError(422, f"{port.name} has NaN or infinity, which JSON cannot say", "ask for it as binary")
    flat = array.reshape(-1)
    pieces = range(0, flat.size, _NUMBERS_AT_ONCE)
    return ", ".join(json.dumps(flat[start : start + _NUMBERS_AT_ONCE].tolist())[1:-1] for start in pieces)
