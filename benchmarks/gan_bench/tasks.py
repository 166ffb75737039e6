"""What one timed call does: latents to pixels, or seeds to a folder of PNG files; and what the machine could do.

That is its fastest matrix product and its copy, measured in the same run as the rows. The product is a large square
one, by the fastest library at hand: NumPy's, onnxruntime's and, where rows run it, torch's. The copy moves as many
bytes as a call of the model has to touch, so that what the cache holds for the one it holds for the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gan_bench import parity
from gan_bench.parity import Difference
from gan_core.arrays import F32, I64, U8
from gan_core.errors import GanportError
from gan_core.golden import inputs
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.providers import PROVIDERS, import_onnxruntime, prepare

Feed = tuple[F32 | U8, I64 | None]
Call = Callable[[], object]

SIZES = {"cpu": (768, 1536), "cuda": (4096, 8192)}
"""Sides of the squares that are tried."""
TRIAL_S = 0.15
PRODUCT_SHARE = 0.7
"""How a window is divided between product and copy."""
LEAST_COPY_BYTES = 1 << 20
FLOAT, FLOAT16 = 1, 10
"""Types of elements, of onnx.proto."""


class Pixels:
    """`Generator.run_pixels`: latents in, uint8 pixels out, from NumPy to NumPy, for batches of the reference seeds."""

    def __init__(self, generator: Generator, batch: int, image_NCHW: F32, pixels_NHWC: U8) -> None:
        self.generator, self.image, self.pixels = generator, image_NCHW, pixels_NHWC
        self.seeds = parity.seed_batches(batch)
        self.feeds = [self.feed(generator, seeds) for seeds in self.seeds]

    @staticmethod
    def feed(generator: Generator, seeds: I64) -> Feed:
        """The latents and labels of `seeds`, or the example images where the generator takes images."""
        return inputs(generator.contract.interface, seeds), generator.check_labels(None, seeds)

    def call(self, index: int) -> U8:
        return self.generator.run_pixels(*self.feeds[index % len(self.feeds)])

    def check(self, result: object, index: int) -> Difference:
        assert isinstance(result, np.ndarray)
        return parity.compare(result, self.seeds[index % len(self.seeds)], self.pixels)

    def check_all(self) -> Difference:
        total = Difference()
        for index in range(len(self.feeds)):
            total += self.check(self.call(index), index)
        image = self.generator.run(*self.feeds[0])[0]
        return total + Difference(image_max_abs=parity.compare_floats(image, self.seeds[0], self.image))


class PngFolder:
    """Seeds 0 … batch - 1 to a folder of PNG files, as `gan-gen --n BATCH --out folder/` does it.

    Latents, network, encoding and writing, in the batches and threads that it chooses. Files of the call before are
    replaced.
    """

    def __init__(self, generator: Generator, batch: int, pixels_NHWC: U8, folder: Path) -> None:
        from gan_core.latents import Seeds
        from gan_serve.runtime.plan import SeedPlan

        if generator.contract.interface.input is not None:
            raise GanportError("a generator that takes images has no folder of seeds", hint="leave out `end_to_end`")
        self.generator, self.pixels = generator, pixels_NHWC
        self.plan = SeedPlan(generator.contract, Seeds.of(range(batch)))
        self.folder = folder

    def call(self, index: int) -> None:
        del index
        from gan_serve.gen.outputs import write_folder

        drawn = self.generator.draw(self.plan.n, None, self.plan.latents, self.plan.labels)
        text = {"gan.model_sha256": self.generator.sha256}
        write_folder(self.folder, self.plan, lambda *_: drawn, text, overwrite=True)

    def check(self, result: object, index: int) -> Difference:
        """Reads the reference seeds' files back. Labels are the default ones, as the reference's."""
        del result, index
        from PIL import Image

        seeds = np.arange(min(self.plan.n, parity.REFERENCE_SEEDS), dtype=np.int64)
        found = []
        for seed in seeds:
            with Image.open(self.folder / f"{self.plan.stem(int(seed))}.png") as picture:
                found.append(np.asarray(picture).reshape(self.pixels.shape[1:]))
        return parity.compare(np.stack(found), seeds, self.pixels)

    def check_all(self) -> Difference:
        self.call(0)
        return self.check(None, 0)


Task = Pixels | PngFolder
"""`call(index)` is what is timed; `check(result, index)` compares what that call gave; `check_all` calls and compares
everything that will be timed."""


class Machine:
    """One device with a number of threads at one precision ("fp32", "tf32" or "fp16")."""

    def __init__(self, device: str, precision: str, threads: int, copy_bytes: int, use_torch: bool) -> None:
        ways = dict(_products(device, precision, threads, use_torch))
        if not ways:
            raise RuntimeError(f"nothing here multiplies {precision} matrices on {device}")
        rates = {way: _rate(call, TRIAL_S) * 2 * way[1] ** 3 for way, call in ways.items()}
        (self.library, self.size) = max(rates, key=lambda way: rates[way])
        self._product = ways[self.library, self.size]
        self._flops = 2 * self.size**3
        self.copy_bytes = max(LEAST_COPY_BYTES, copy_bytes)
        self._copy = _copier(device, threads, self.copy_bytes, use_torch)

    def window(self, seconds: float) -> tuple[float, float | None]:
        """(GFLOP/s of the product, GB/s of the copy, each byte counted as read and as written)."""
        product = _rate(self._product, PRODUCT_SHARE * seconds) * self._flops / 1e9
        if self._copy is None:
            return product, None
        return product, _rate(self._copy, (1 - PRODUCT_SHARE) * seconds) * 2 * self.copy_bytes / 1e9


def _rate(call: Call, seconds: float) -> float:
    """Calls a second, after one that does not count."""
    call()
    started, calls = time.perf_counter(), 0
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            return calls / elapsed


def _products(device: str, precision: str, threads: int, use_torch: bool) -> list[tuple[tuple[str, int], Call]]:
    """((library, size), one product) for every way there is. A library that fails is left out."""
    makers: list[tuple[str, Callable[[int], Call]]] = []
    if device == "cpu":
        makers.append(("numpy", _numpy_product))
    if precision != "tf32" or device == "cuda":
        makers.append(("onnxruntime", lambda size: _onnx_product(device, precision, threads, size)))
    if use_torch:
        makers.append(("torch", lambda size: _torch_product(device, precision, threads, size)))
    found: list[tuple[tuple[str, int], Call]] = []
    for library, make in makers:
        for size in SIZES[device]:
            try:
                call = make(size)
                call()
            except Exception:
                break
            found.append(((library, size), call))
    return found


def _matrix(size: int) -> Any:
    return np.random.default_rng(0).standard_normal((size, size), np.float32)


def _numpy_product(size: int) -> Call:
    """Its threads are those of OPENBLAS_NUM_THREADS, which the parent sets."""
    a, b, c = _matrix(size), _matrix(size), np.empty((size, size), np.float32)
    return lambda: np.matmul(a, b, out=c)


def _onnx_product(device: str, precision: str, threads: int, size: int) -> Call:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    chosen: list[Any] = [PROVIDERS["cpu"]]
    if device == "cuda":
        prepare("cuda")
        chosen = [(PROVIDERS["cuda"], {"use_tf32": str(int(precision == "tf32"))})]
    model = product_model(size, FLOAT16 if precision == "fp16" else FLOAT)
    session = onnxruntime.InferenceSession(model, options, providers=chosen, enable_fallback=0)
    binding = session.io_binding()
    matrix = _matrix(size).astype(np.float16 if precision == "fp16" else np.float32)
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(matrix, device, 0) for name in ("a", "b")}
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_output("c", device)

    def multiply() -> None:
        assert values  # kept here: onnxruntime 1.24's binding holds the addresses only
        session.run_with_iobinding(binding)

    return multiply


def _torch_product(device: str, precision: str, threads: int, size: int) -> Call:
    import torch

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    a = torch.from_numpy(_matrix(size)).to(device, torch.float16 if precision == "fp16" else torch.float32)
    c = torch.empty_like(a)

    def call() -> None:
        with torch.inference_mode():
            torch.mm(a, a, out=c)
        if device == "cuda":
            torch.cuda.synchronize()

    return call


def _copier(device: str, threads: int, size_bytes: int, use_torch: bool) -> Call | None:
    """A copy of `size_bytes` within the device's memory, by `threads` threads; None where nothing here can."""
    if device == "cuda":
        if not use_torch:
            return None
        import torch

        there = torch.zeros(size_bytes, dtype=torch.uint8, device=device)
        target = torch.empty_like(there)

        def on_device() -> None:
            target.copy_(there)
            torch.cuda.synchronize()

        return on_device
    here, to = np.ones(size_bytes, np.uint8), np.zeros(size_bytes, np.uint8)
    parts = list(zip(np.array_split(here, threads), np.array_split(to, threads), strict=True))
    if threads == 1:
        return lambda: np.copyto(to, here)
    pool = ThreadPoolExecutor(threads)

    def shared() -> None:
        list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))

    return shared


def product_model(size: int, element: int = FLOAT) -> bytes:
    """c = a · b for square matrices of `size` as an ONNX model; `element` is `FLOAT` or `FLOAT16`.

    Written by hand, since the runtime environment has no package onnx: the wire format is protobuf's
    (protobuf.dev/programming-guides/encoding), the numbers of the fields are onnx.proto's.
    """
    node = _text(1, "a") + _text(1, "b") + _text(2, "c") + _text(4, "MatMul")
    graph = _message(1, node) + _text(2, "product")
    graph += b"".join(_message(11, _value(name, size, element)) for name in ("a", "b"))
    graph += _message(12, _value("c", size, element))
    opset = _number(2, 13)
    return _number(1, 8) + _message(7, graph) + _message(8, opset)


def _value(name: str, size: int, element: int) -> bytes:
    """ValueInfoProto of a float tensor (size, size)."""
    side = _message(1, _number(1, size))
    tensor = _number(1, element) + _message(2, side + side)
    return _text(1, name) + _message(2, _message(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])
