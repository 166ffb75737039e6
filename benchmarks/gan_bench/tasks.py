"""What one timed call does: latents to pixels, or seeds to a folder of PNG files."""

from __future__ import annotations

import abc
from pathlib import Path

import numpy as np

from gan_bench import parity
from gan_bench.parity import Difference
from gan_core.arrays import F32, I64, U8
from gan_core.errors import GanportError
from gan_core.golden import inputs
from gan_serve.runtime.generator import Generator

Feed = tuple[F32 | U8, I64 | None]


class Task(abc.ABC):
    """`call(index)` is what is timed; `check(result, index)` compares what that call gave; `check_all` calls and
    compares everything that will be timed."""

    @abc.abstractmethod
    def call(self, index: int) -> object: ...

    @abc.abstractmethod
    def check(self, result: object, index: int) -> Difference: ...

    @abc.abstractmethod
    def check_all(self) -> Difference: ...


class Pixels(Task):
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


class PngFolder(Task):
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
