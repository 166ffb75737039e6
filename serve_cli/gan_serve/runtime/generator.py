"""The one interface of a loaded model, whatever runs it."""

from __future__ import annotations

import abc
import io
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.errors import ContractError, GanportError
from gan_core.grids import Canvas, class_caption
from gan_core.images import to_pil
from gan_core.latents import default_labels, seeds_of
from gan_core.printable import printable, shorten
from gan_serve.runtime import (
    OTHER_IMAGES,
    Classes,
    Feed,
    Given,
    Labels,
    check_drawn,
    feeds,
    in_order,
    indices_of,
    label_array,
)
from gan_serve.runtime.styles import Noise, WithStyles, fit_styles

if TYPE_CHECKING:
    from PIL import Image

    from gan_serve.runtime.transform import Picture

BATCH_PIXELS = 16 * 3 * 64 * 64
MIN_BATCH, MAX_BATCH = 4, 64
"""See `Generator.batch_size`."""


class Generator(WithStyles, abc.ABC):
    """A generator of images from seeds: `generate`, `stream`, `grid`, `walk`, `to_pil`.

    `with` closes it at the end. It can be pickled, and opens its file again where it arrives; a notebook shows
    its grid.

    Attributes: `contract` (what the file says of itself), `provider` (the name of what really runs it),
    `sha256` (hex digest of the file), `callers` (how many batches it draws best at a time, each called from a thread
    of its own; 1 for what is a queue itself, such as a GPU).
    """

    contract: Contract
    provider: str
    sha256: str
    callers: int = 1
    file: str = ""
    """The name of its file."""
    reopen: Callable[[], Generator] | None = None
    """Opens the same file in the same way; None where a runtime cannot."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of what the runtime holds; it draws no more. Runtimes override it."""

    def __reduce__(self) -> tuple[Any, ...]:
        if self.reopen is None:
            raise TypeError(f"{type(self).__name__} cannot be pickled: it does not know its file")
        return _reopened, (self.reopen, self.sha256)

    def __repr__(self) -> str:
        interface = self.contract.interface
        classes = f", {interface.n_classes} classes" if interface.conditional else ""
        names = f" ({shorten(', '.join(interface.class_names), 40)})" if interface.class_names else ""
        name = printable(f"{self.file or self.contract.name}: {interface.picture}{classes}{names}")
        return f"<{type(self).__name__} {name}, on {self.provider}>"

    def _repr_png_(self) -> bytes:
        if self.contract.interface.input is not None:
            raise NotImplementedError  # a notebook shows the text then
        side = max(self.contract.interface.image[1:])
        with io.BytesIO() as file:
            self.grid(25 if side <= 128 else 9 if side <= 256 else 4, captions=True).save(file, "PNG")
            return file.getvalue()

    @property
    def held_to(self) -> str:
        """The precision whose limits the golden set is held to: what the file really is, whatever its contract says."""
        return self.contract.held_to

    @property
    def mixes_classes(self) -> bool:
        """Whether `label` may be shares of the classes: where the model takes numbers for them, and no index."""
        return False

    def graph_sha256(self) -> str:
        """What `contract.graph_sha256` has to be; empty where the runtime cannot tell."""
        return ""

    @abc.abstractmethod
    def run(self, z: Given, label: I64 | None = None) -> tuple[F32, U8]:
        """One batch exactly as given: z (n, z_dim), or uint8 (n, H, W, C) for a generator that takes images, label (n,)
        when conditional.

        Returns `image` float32 (n, C, H, W) in `contract.interface.value_range` and `pixels` uint8 (n, H, W, C).
        """

    def run_pixels(self, z: Given, label: I64 | None = None) -> U8:
        """As `run`, but only `pixels` (runtimes override it to skip copying the floats)."""
        return self.run(z, label)[1]

    def run_stream(self, feeds: Iterable[Feed]) -> Iterator[U8]:
        """`run_pixels` of every feed, in order; each array is the caller's to keep.

        `callers` batches are drawn at a time: on a CPU, two batches with a core each need no waiting for each other, as
        two cores with half a batch do at the end of every operator. Runtimes override it to overlap what a device does
        with what the caller does: `callers + 1` feeds may be taken ahead of the batch that is yielded, and memory stays
        flat in their number.
        """
        return in_order(lambda feed: self.run_pixels(*cast("tuple[Given, I64 | None]", feed)), feeds, self.callers)

    def batch_size(self, n: int) -> int:
        """Images per internal batch for a run of `n`, where none is asked for. The images do not depend on it.

        At most `most_at_once`; a short run is shared evenly by `callers`.
        """
        return max(1, min(self.most_at_once, -(-n // self.callers)))

    @property
    def most_at_once(self) -> int:
        """Images per batch beyond which nothing is gained: as many as have `BATCH_PIXELS` values, 4 … 64.

        16 of 64x64 RGB. Large images gain nothing from a larger batch, which only needs more memory; small ones are
        many tiny operators, whose fixed cost a larger batch shares.
        """
        return max(MIN_BATCH, min(MAX_BATCH, BATCH_PIXELS // math.prod(self.contract.interface.image)))

    def generate(
        self,
        seeds: int | Iterable[int] | None = None,
        labels: Classes = None,
        *,
        truncation: float | None = None,
        psi: float | None = None,
        noise: Noise = None,
        w: npt.NDArray[Any] | None = None,
        batch_size: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> U8:
        """The images of `seeds`: uint8 (n, H, W, C).

        seeds        whole numbers in 0 … 2**53 - 1; one number n stands for the seeds 0 … n - 1
        labels       one class for all, or one per seed, by index or name ("sneaker"); a text may name several, taken in
                     turn ("3,7", "all"). None: seed s shows class s mod n_classes. Unconditional models take none.
        truncation   bound on |z|, at least 0.05, see `gan_core.latents`
        psi, noise   of a generator with styles or noise, see `with_options`
        w            styles in the place of `seeds`, (n, w_dim) or (n, num_ws, w_dim), as `to_w` gives them
        batch_size   images per internal batch; changes speed and memory, never the images
        on_progress  called after every batch with the images that are done, and all that were asked for
        Raises `GanportError` for a seed, label, truncation or batch size out of range.
        """
        if seeds is not None and w is not None:
            raise GanportError("expected seeds, or w in their place, got both", hint="leave one out")
        w = None if w is None else fit_styles(w, self.contract.interface.styles)
        every = seeds_of(seeds if w is None else len(w))  # type: ignore[arg-type]  # None is refused there
        c, height, width = self.contract.interface.image
        try:
            pixels_NHWC = np.empty((len(every), height, width, c), np.uint8)
        except (MemoryError, ValueError) as error:  # ValueError: more bytes than an address holds
            raise GanportError(
                f"{len(every)} images of {width}x{height} do not fit into memory", hint="use stream(), or fewer seeds"
            ) from error
        done = 0
        shown = {"truncation": truncation, "psi": psi, "noise": noise, "w": w, "batch_size": batch_size}
        for batch in self.stream(every, labels, **shown):  # type: ignore[arg-type]
            pixels_NHWC[done : done + len(batch)] = batch
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(every))
        return pixels_NHWC

    def to_pil(self, seeds: int | Iterable[int], labels: Classes = None, **settings: Any) -> list[Image.Image]:
        """As `generate`, which the `settings` are of, as Pillow images of mode L, RGB or RGBA."""
        return [to_pil(pixels_HWC) for pixels_HWC in self.generate(seeds, labels, **settings)]

    def grid(
        self,
        seeds: int | Iterable[int] = 25,
        labels: Classes = None,
        *,
        cols: int | None = None,
        scale: int | None = None,
        captions: bool = False,
        **settings: Any,
    ) -> Image.Image:
        """The images of `seeds` as one Pillow image.

        cols      images a row; None: nearly square
        scale     how many times as large, each pixel a square; None: images up to 64x64 are enlarged to be seen
        captions  whether the classes stand under the images, or the seeds where all are of one class
        settings  and `labels`: of `generate`
        Raises `GanportError` as `generate`, and for a grid of more than 178 megapixels.
        """
        every, interface = seeds_of(seeds), self.contract.interface
        canvas = Canvas(len(every), interface.image, cols, scale=scale, captioned=captions)
        array = every.array(0, len(every))
        shown = self.check_labels(indices_of(labels, len(every), self.contract.interface), array)
        words: list[tuple[str, ...]] = [(f"seed {seed}", str(seed)) for seed in array.tolist()]
        if shown is not None and (shown != shown[:1]).any():
            words = [class_caption(interface, label) for label in shown.tolist()]
        canvas.add(self.generate(every, labels, **settings), words)
        return to_pil(canvas.picture_HWC)

    def transform(self, image: Picture, **settings: Any) -> Image.Image:
        """What a generator that takes images makes of one; `runtime.transform.Transform` has settings, errors."""
        from gan_serve.runtime.transform import Transform

        return Transform(self, image, **settings).image()

    def walk(
        self,
        seeds: int | Iterable[int] = 8,
        frames: int | None = None,
        labels: Classes = None,
        *,
        truncation: float | None = None,
        psi: float | None = None,
        batch_size: int | None = None,
    ) -> U8:
        """A closed path through the images of `seeds`: uint8 (frames, H, W, C), for `gan_serve.write_animation`.

        frames  None: 40 from seed to seed
        labels  the seeds' classes, in turn; None: that of the first seed throughout. Between two classes a frame has
                the nearer seed's, but for models that take classes as vectors (`mixes_classes`), where they are mixed.
        psi     of a generator with styles, whose path is a straight line from w to w
        Raises `GanportError` as `generate`, for fewer than 2 seeds, and for fewer frames than seeds.
        """
        from gan_serve.runtime.walk import Walk

        self.refuse_noise_of_seeds("a walk goes between seeds")
        every = seeds_of(seeds)
        given = indices_of(labels, len(every), self.contract.interface)
        classes = None if given is None else self.check_labels(given, every.array(0, len(every)))
        walk = Walk(
            self.contract.interface,
            every,
            frames,
            () if classes is None else classes.tolist(),
            truncation,
            mixed=self.mixes_classes,
            to_w=self.with_options(psi=psi).to_w,
        )
        return np.concatenate(list(self.draw(len(walk), batch_size, walk.latents, walk.labels)))

    def stream(
        self,
        seeds: int | Iterable[int],
        labels: Classes = None,
        *,
        truncation: float | None = None,
        psi: float | None = None,
        noise: Noise = None,
        w: npt.NDArray[Any] | None = None,
        batch_size: int | None = None,
    ) -> Iterator[U8]:
        """As `generate`, one internal batch at a time, so that memory stays flat: a range of any length will do.

        Checks before the first batch. With `w`, `seeds` are only counted.
        """
        if psi is not None or noise is not None:
            generator = self.with_options(psi=None if w is not None else psi, noise=noise)
            return generator.stream(seeds, labels, truncation=truncation, w=w, batch_size=batch_size)
        every, interface = seeds_of(seeds), self.contract.interface
        given = indices_of(labels, len(every), self.contract.interface)
        if given is None or np.ndim(given) == 0:
            self.check_labels(given, every.array(0, 1))
        else:
            given = label_array(np.asarray(given), len(every), interface)
        interface.latents(every.array(0, 1), truncation)
        styles = None if w is None else self.given_styles(w)

        def latents_of(start: int, stop: int) -> F32:
            if styles is not None:
                return styles[start:stop]
            return self.latents_of(every.array(start, stop), truncation)

        def labels_of(start: int, stop: int) -> I64 | None:
            part = given[start:stop] if isinstance(given, np.ndarray) else given
            return self.check_labels(part, every.array(start, stop))

        return self.draw(len(every), batch_size, latents_of, labels_of)

    def draw(
        self,
        n: int,
        batch_size: int | None,
        latents_of: Callable[[int, int], F32],
        labels_of: Callable[[int, int], Labels],
    ) -> Iterator[U8]:
        """`run_stream` of `n` images, each batch held against what was asked (`check_drawn`).

        Raises `GanportError` for a batch size below 1, at once, and `ContractError` where the runtime gives other
        images than were asked for, or not as many.
        """
        size = self.batch_size(n) if batch_size is None else batch_size
        if size < 1:
            raise GanportError(f"`batch_size` must be at least 1, got {size}", hint="leave it out for a good one")
        return self._drawn(n, size, latents_of, labels_of)

    def _drawn(
        self, n: int, size: int, latents_of: Callable[[int, int], F32], labels_of: Callable[[int, int], Labels]
    ) -> Iterator[U8]:
        asked: deque[tuple[int, ...]] = deque()

        def counted() -> Iterator[Feed]:
            for feed in feeds(n, size, latents_of, labels_of):
                asked.append(feed[0].shape)
                yield feed

        done = 0
        for pixels_NHWC in self.run_stream(counted()):
            check_drawn(self.contract, asked.popleft() if asked else (0, 0), pixels_NHWC=pixels_NHWC)
            done += len(pixels_NHWC)
            yield pixels_NHWC
        if done != n:
            raise ContractError(f"the model gave {done} images, expected {n}", hint=OTHER_IMAGES)

    def check_labels(self, labels: int | Sequence[int] | I64 | None, seeds: I64) -> I64 | None:
        """Labels as int64 (n,), or None for an unconditional model. Raises `GanportError` when they do not fit."""
        if self.contract.interface.conditional and labels is None:
            return default_labels(seeds, self.contract.interface.n_classes)
        if labels is None:
            return None
        return label_array(np.asarray(labels), len(seeds), self.contract.interface)


def _reopened(reopen: Callable[[], Generator], sha256: str) -> Generator:
    generator = reopen()
    if generator.sha256 != sha256:
        raise GanportError("the generator's file is another than when it was pickled", hint="load the new one")
    return generator
