"""A model that is served: its generator, its queue, how many images may be asked of it, and what it makes of pictures.

A picture's size is read from its head and held against the limits before it is decoded. A large one is computed in
tiles where the network allows it. Every tile waits in the model's queue as other requests do, and shares its batches.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from starlette.requests import Request

from gan_core import __version__
from gan_core.arrays import F32, I64, U8
from gan_core.errors import GanportError
from gan_core.images import encode_png
from gan_core.pictures import BrokenImageError, read_image, read_size
from gan_serve.runtime import Given, Labels
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.plan import Plan, SeedPlan
from gan_serve.runtime.styles import SEED, Noise, options_of
from gan_serve.runtime.transform import Transform
from gan_serve.server.batching import PLAIN, Batcher, Drawn, Options
from gan_serve.server.exchange import Budget, ClientGoneError, Exchange, Limits, RefusedError, at_once_or_aside
from gan_serve.server.metrics import Metrics

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
ANSWERS = 4
"""Of as many pixels as an answer may have, that a model's queue holds: of large images fewer than `Limits.queue`."""
WHOLE_SIDE = 1024
"""Pictures with no side longer than this are computed whole, others in tiles of it."""
_pool = ThreadPoolExecutor(2, "transform")
"""Threads that mostly wait for the model's queue; those that encode are others."""


class GenerationFailedError(Exception):
    """The runtime failed; the cause says how, to the log alone."""


@dataclass(frozen=True)
class Batching:
    """images: in a batch, None: as many as the generator runs best. delay_s: see `batching.Batcher`."""

    images: int | None = None
    delay_s: float = 0.002


class Served:
    """`generator` under `name`, within `limits`. `open` and `close` belong into the event loop."""

    def __init__(self, name: str, generator: Generator, limits: Limits, batching: Batching, metrics: Metrics) -> None:
        if not NAME.fullmatch(name):
            raise GanportError(
                f"a model's name has letters, digits, '.', '_' and '-', got {name[:40]!r}", hint="name=path/to/g.onnx"
            )
        self.name, self.generator, self.limits = name, generator, limits
        self.interface = generator.contract.interface
        usual = self.interface.width * self.interface.height
        if self.interface.input is None and usual > limits.pixels:
            raise GanportError(
                f"an image of {name} has {usual} pixels, an answer at most {limits.pixels}",
                hint="a higher `max_pixels`",
            )
        self.queue = Budget(max(1, min(limits.queue, ANSWERS * limits.pixels // usual)))
        self._batching, self._metrics = batching, metrics
        self._batcher: Batcher | None = None
        self._observe, self._pending = metrics.add_model(name), metrics.pending(name)

    async def open(self) -> None:
        most = self._batching.images or self.generator.batch_size(1 << 30)
        self._batcher = Batcher(self.generator, most, self._batching.delay_s, self._observe, self._pending)

    async def close(self) -> None:
        if self._batcher is not None:
            await self._batcher.close()
        self._batcher = None

    @property
    def version(self) -> str:
        """Of the file: what an address has, so that its image never changes."""
        return self.generator.sha256[:16]

    def admit(self, images: int, exchange: Exchange, scaled: int = 1, size: tuple[int, int] | None = None) -> None:
        """Holds a place for `images`, which are sent `scaled` times as large, until the exchange is over.

        size  (width, height) of each, where it is another than the interface's: it counts as several, if it is larger

        Raises `RefusedError` for more than a request may have, and where the queue is full.
        """
        exchange.model, exchange.images = self.name, images
        check_few(images, self.limits)
        usual = self.interface.width * self.interface.height
        own = usual if size is None else size[0] * size[1]
        check_pixels(images * own * scaled * scaled, self.limits)
        self.queue.take(min(self.queue.most, -(-images * own // usual)), exchange, "images")

    def options(self, psi: float | None, noise: Noise) -> Options:
        """Of `draw`. Raises `GanportError` for a model without them, and out of range."""
        options_of(self.interface, psi, noise)
        return psi, noise

    async def draw(self, z: Given, label: Labels, floats: bool = False, options: Options = PLAIN) -> Drawn:
        """The images of latents, or of images where the model takes these.

        Raises `GenerationFailedError` where the runtime fails.
        """
        if self._batcher is None:
            raise RefusedError(503, "the server is not ready", Retry_After="1")
        try:
            return await self._batcher.draw(z, label, floats, options)
        except Exception as error:
            raise GenerationFailedError from error

    async def styles(self, given: Given, label: Labels, options: Options) -> F32:
        """w float32 (n, num_ws, w_dim) of latents; of w itself it is w.

        Raises `GenerationFailedError` where the runtime fails.
        """
        if given.ndim == 3:
            return given
        generator = self.generator.with_options(psi=options[0])
        try:
            return await asyncio.to_thread(generator.styles_of, given, label)
        except Exception as error:
            raise GenerationFailedError from error

    async def draw_plan(self, plan: Plan, options: Options = PLAIN) -> Any:
        """The images of a plan, uint8 (n, H, W, C). Raises `RefusedError` for noise of seeds where it has none."""
        n = plan.n
        if options[1] == SEED:
            if not isinstance(plan, SeedPlan):
                raise RefusedError(422, f"noise={SEED} is for images of seeds", "leave noise out")
            plan.noisy, options = True, (options[0], None)
        z, label = await at_once_or_aside(
            8 * n * self.interface.z_dim, lambda: (plan.latents(0, n), plan.fed_labels(0, n))
        )
        return (await self.draw(z, label, options=options))[1]

    def about(self) -> dict[str, Any]:
        """What a page or a program needs to know of it."""
        interface = self.interface
        return {
            "name": self.name,
            "sha256": self.generator.sha256,
            "version": self.version,
            "image": {"width": interface.width, "height": interface.height, "channels": interface.channels},
            "takes": None if interface.input is None else {"text": interface.taken, "fixed": interface.input.fixed},
            "z_dim": interface.z_dim,
            "latent": interface.latent,
            "classes": interface.n_classes,
            "class_names": list(interface.class_names),
            "mixes_classes": self.generator.mixes_classes,
            "styles": interface.styles is not None,
            "noise": interface.noise,
            "noise_maps": None if interface.noise_maps is None else asdict(interface.noise_maps),
            "provider": self.generator.provider,
            "limits": {"images": self.limits.images, "pixels": self.limits.pixels},
        }


def check_few(images: int, limits: Limits) -> None:
    """Before anything of their number is made. Raises `RefusedError`."""
    if images > limits.images:
        raise RefusedError(422, f"{images} images in one request, the most is {limits.images}", "send several requests")


def check_length(name: str, length: int, limits: Limits) -> None:
    """Before a text is taken apart: of 8 MB that takes a minute. Raises `RefusedError`."""
    most = 1000 + 40 * limits.images
    if length > most:
        raise RefusedError(422, f"{name} is a text of {length} characters, the most is {most}", "send several requests")


def check_pixels(pixels: int, limits: Limits) -> None:
    """Raises `RefusedError` for an answer of more pixels than one may have."""
    if pixels > limits.pixels:
        hint = "ask for fewer images, or smaller ones"
        raise RefusedError(422, f"an answer of {pixels} pixels, the most is {limits.pixels}", hint)


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
