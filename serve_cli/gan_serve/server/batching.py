"""Requests become batches: what several clients ask for at the same time is generated in one run.

A batch is full at `most` images, and starts at the latest `delay_s` after the first of them came, or as soon as a
thread is free. `generator.callers` threads run batches, because that is how many a generator runs best at a time. An
image does not depend on its batch. A batch that fails is run again in halves, so that what made it fail does so alone.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from gan_core.arrays import F32, I64, U8
from gan_serve.runtime import Given, Labels, check_drawn
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.styles import Noise

Options = tuple[float | None, Noise]
"""(psi, noise) of generators with styles or noise; None for what the file has."""
PLAIN: Options = (None, None)
Drawn = tuple[F32 | None, U8]
"""`image` (n, C, H, W) where it was asked for, and `pixels` (n, H, W, C)."""
Observe = Callable[[int, float, list[float]], None]
"""Is told of each batch: its images, how long it ran, and how long each request in it had waited, in seconds."""

_AT_A_TIME = 4
"""Answers that the event loop sends before it looks for others' requests."""


@dataclass(eq=False, slots=True)
class _Job:
    z: Given
    label: Labels
    floats: bool
    options: Options
    weight: int
    done: asyncio.Future[Drawn]
    came: float = field(default_factory=time.perf_counter)
    queued: bool = True

    @property
    def kind(self) -> object:
        """Jobs of one kind may share a batch."""
        return self.z.shape[1:], self.options

    def settle(self, result: Drawn | Exception) -> None:
        """Unless nobody waits any more."""
        if self.done.done():
            return
        if isinstance(result, Exception):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class Batcher:
    """Takes inputs from many coroutines, and gives each its images. To be made and used in one event loop.

    Inputs are latents, or images where the generator takes these. Inputs of one size, with the same options, share a
    batch.

    most      images in a batch, of the size that the generator's interface has; a larger one counts as several
    delay_s   how long a batch that is not full waits for more
    observe   see `Observe`; called in the event loop
    pending   is told how many images wait, whenever that changes
    """

    def __init__(
        self, generator: Generator, most: int, delay_s: float, observe: Observe, pending: Callable[[float], None]
    ) -> None:
        self.generator, self.most, self.delay_s = generator, most, delay_s
        self.waiting = 0
        self._jobs: deque[_Job] = deque()
        self._observe, self._pending = observe, pending
        self._came = asyncio.Event()
        self._gathering = asyncio.Lock()
        self._pool = ThreadPoolExecutor(generator.callers, "generate")
        self._handing: set[asyncio.Task[None]] = set()
        self._workers = [asyncio.create_task(self._work()) for _ in range(generator.callers)]

    async def close(self) -> None:
        """What is under way in a thread is not waited for."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, *self._handing, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def draw(self, z: Given, label: Labels, floats: bool = False, options: Options = PLAIN) -> Drawn:
        """The images of z (n, …) and labels, any number of them. Cancelled, it leaves nothing in the queue."""
        if len(z) <= self.most:
            return await self._one(z, label, floats, options)
        parts = [slice(start, start + self.most) for start in range(0, len(z), self.most)]
        tasks = [
            asyncio.create_task(self._one(z[part], None if label is None else label[part], floats, options))
            for part in parts
        ]
        try:
            drawn = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        pixels = np.concatenate([pixels for _, pixels in drawn])
        return (np.concatenate([cast("F32", image) for image, _ in drawn]) if floats else None), pixels

    async def _one(self, z: Given, label: Labels, floats: bool, options: Options) -> Drawn:
        interface = self.generator.contract.interface
        weight = len(z) if interface.input is None else -(-z.size // math.prod(interface.input_shape))
        job = _Job(z, label, floats, options, weight, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._wait(job.weight)
        if len(self._jobs) == 1 or self.waiting >= self.most:
            self._came.set()
        try:
            return await job.done
        except asyncio.CancelledError:
            if job.queued:
                self._jobs.remove(job)
                self._wait(-job.weight)
            raise

    def _wait(self, more: int) -> None:
        self.waiting += more
        self._pending(self.waiting)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with self._gathering:
                jobs = await self._gathered()
            if not jobs:
                continue
            began = time.perf_counter()
            results = await loop.run_in_executor(self._pool, self._run, jobs)
            waited = [began - job.came for job in jobs]
            self._observe(sum(len(job.z) for job in jobs), time.perf_counter() - began, waited)
            if len(jobs) <= _AT_A_TIME:
                for job, result in zip(jobs, results, strict=True):
                    job.settle(result)
                continue
            handing = asyncio.create_task(_hand_out(jobs, results))
            self._handing.add(handing)
            handing.add_done_callback(self._handing.discard)

    async def _gathered(self) -> list[_Job]:
        while not self._jobs:
            self._came.clear()
            await self._came.wait()
        until = self._jobs[0].came + self.delay_s
        while self._jobs and self.waiting < self.most and (left := until - time.perf_counter()) > 0:
            self._came.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._came.wait(), left)
        jobs: list[_Job] = []
        weight = 0
        while self._jobs:
            next_one = self._jobs[0]
            if jobs and (weight + next_one.weight > self.most or next_one.kind != jobs[0].kind):
                break
            jobs.append(self._jobs.popleft())
            next_one.queued = False
            weight += next_one.weight
        self._wait(-weight)
        return jobs

    def _run(self, jobs: Sequence[_Job]) -> list[Drawn | Exception]:
        try:
            image, pixels = self._together(jobs)
        except Exception as error:
            if len(jobs) == 1:
                return [error]
            half = len(jobs) // 2
            return self._run(jobs[:half]) + self._run(jobs[half:])
        ends = np.cumsum([len(job.z) for job in jobs]).tolist()
        parts = [slice(end - len(job.z), end) for job, end in zip(jobs, ends, strict=True)]
        return [
            (image[part] if job.floats and image is not None else None, pixels[part])
            for job, part in zip(jobs, parts, strict=True)
        ]

    def _together(self, jobs: Sequence[_Job]) -> Drawn:
        psi, noise = jobs[0].options
        generator = self.generator.with_options(psi=psi, noise=noise)
        z = np.concatenate([job.z for job in jobs])
        label = self._labels(jobs)
        n, missing = len(z), self.most - len(z) if self.generator.provider == "tensorrt" else 0
        if missing > 0:  # TensorRT builds an engine, for minutes, for each size that it meets
            z = np.concatenate([z, np.zeros((missing, *z.shape[1:]), z.dtype)])
            if label is not None:
                label = np.concatenate([label, np.zeros((missing, *label.shape[1:]), label.dtype)])
        given = cast("I64 | None", label)
        if any(job.floats for job in jobs):
            image, pixels = generator.run(z, given)
            check_drawn(self.generator.contract, z.shape, image_NCHW=image, pixels_NHWC=pixels)
            return image[:n], pixels[:n]
        pixels = generator.run_pixels(z, given)
        check_drawn(self.generator.contract, z.shape, pixels_NHWC=pixels)
        return None, pixels[:n]

    def _labels(self, jobs: Sequence[_Job]) -> Labels:
        """Those of all jobs; shares of classes for all where one has them."""
        labels = [job.label for job in jobs if job.label is not None]
        if not labels:
            return None
        if any(label.ndim == 2 for label in labels):
            shares = np.eye(self.generator.contract.interface.n_classes, dtype=np.float32)
            labels = [label if label.ndim == 2 else shares[label.astype(np.int64)] for label in labels]
        return cast("Labels", np.concatenate(labels))


async def _hand_out(jobs: Sequence[_Job], results: Sequence[Drawn | Exception]) -> None:
    """A few at a time, between which the event loop answers others, and the next batch begins."""
    for index, (job, result) in enumerate(zip(jobs, results, strict=True)):
        if index % _AT_A_TIME == 0:
            await asyncio.sleep(0)
        job.settle(result)
