"""A picture comes in, and goes out as what a model that takes images makes of it.

The picture's size is read from its head and held against the limits before it is decoded. A large one is computed in
tiles where the network allows it. Every tile waits in the model's queue as other requests do, and shares its batches.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from starlette.requests import Request

from gan_core import __version__
from gan_core.arrays import F32, I64, U8
from gan_core.images import encode_png
from gan_core.pictures.decode import BrokenImageError, read_image, read_size
from gan_serve.runtime.batches import Given
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.transform import Transform
from gan_serve.server.exchange import ClientGoneError, Exchange, RefusedError
from gan_serve.server.served import Served, check_pixels

WHOLE_SIDE = 1024
"""Pictures with no side longer than this are computed whole, others in tiles of it."""
_pool = ThreadPoolExecutor(2, "transform")
"""Threads that mostly wait for the model's queue; those that encode are others."""


class _Queued(Generator):
    """The generator as `Transform` takes it, in a thread: each of its runs waits in the queue of `served`."""

    def __init__(self, served: Served) -> None:
        self._served, self._loop = served, asyncio.get_running_loop()
        self.contract, self.provider = served.generator.contract, served.generator.provider
        self.sha256 = served.generator.sha256
        self.stopped = False

    def run(self, z: Given, label: I64 | None = None) -> tuple[F32, U8]:
        raise NotImplementedError("only pixels are asked for")

    def run_pixels(self, z: Given, label: I64 | None = None) -> U8:
        if self.stopped:
            raise ClientGoneError
        return asyncio.run_coroutine_threadsafe(self._served.draw(z, label), self._loop).result()[1]


async def transform(served: Served, request: Request, body: bytes, *, resize: bool) -> bytes:
    """A PNG. Raises `GanportError` where the model takes no images, or not this one."""
    taken = served.interface.input
    if taken is None:
        raise RefusedError(422, f"{served.name} makes images of seeds, and takes no image", "GET /v1/images/7.png")
    with _explained():
        width, height = read_size(io.BytesIO(body))
    made = (served.interface.width, served.interface.height)
    if not taken.fixed:
        made = width * taken.scale, height * taken.scale
    check_pixels(width * height, served.limits)
    served.admit(1, Exchange.of(request), size=made)
    queued = _Queued(served)

    def work() -> bytes:
        with _explained():
            image = read_image(io.BytesIO(body))
        tile = WHOLE_SIDE if taken.halo is not None and max(width, height) > WHOLE_SIDE else None
        pixels = np.concatenate(list(Transform(queued, image, tile=tile, resize=resize).bands()))
        return encode_png(pixels, {"Software": f"ganport {__version__}", "gan.model_sha256": queued.sha256})

    try:
        return await asyncio.get_running_loop().run_in_executor(_pool, work)
    finally:
        queued.stopped = True


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except BrokenImageError as error:
        raise RefusedError(422, f"the body is no picture that can be read: {error}", "PNG, JPEG or WebP do") from error
