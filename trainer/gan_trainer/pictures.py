"""The pictures of a run: the fixed latents, loss curves, the animation, reals next to fakes.

They change nothing: a training gives the same bits with or without.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_core.arrays import U8
from gan_core.errors import MissingPackageError
from gan_core.files.atomic import atomic_path, write_bytes
from gan_core.grids import grid
from gan_core.images import encode_png, to_pixels
from gan_core.latents import default_labels
from gan_trainer.batches import Batches, normalise
from gan_trainer.networks.generator import SpecGenerator
from gan_trainer.recipes import LARGE, MAX_ROWS, UNSCALED, Grid, Loss
from gan_trainer.report.charts import smooth
from gan_trainer.rundir import RunDir
from gan_trainer.state import History, TrainState
from gan_trainer.upscaling import measure, reduced_pixels, side_by_side
from gan_trainer.watch import data_diversity, diversity

MAX_FRAMES = 60
FILM_SIDE = 640
"""Frames of the animation are not larger than this."""
FRAME_EVERY_S = 3.0
FRAME_SHARE = 0.05
"""A picture is due after this share of the time so far, at the earliest after `FRAME_EVERY_S`: five minutes make over
40, ten hours some 150, and the quick changes at the start are shown closely."""
SHARP_SIDE = 1200
FRAME_MS = 150
LAST_FRAME_MS = 2000
DRAW_BATCH = 64


@torch.no_grad()
def draw_seeds(generator: SpecGenerator, seeds: Sequence[int], classes: Sequence[int] | None = None) -> Tensor:
    """The images of `seeds`, float32 (n, C, H, W) in [-1, 1] on the CPU: what gan-gen draws from the export.

    `classes` holds one class a seed; without it a conditional generator draws seed s as class s mod n_classes.
    In eval mode; the module's own mode is put back.
    """
    interface = generator.spec.interface
    device = next(generator.parameters()).device
    z = torch.from_numpy(interface.latents(seeds))
    label = None
    if interface.n_classes:
        chosen = default_labels(np.asarray(seeds), interface.n_classes) if classes is None else classes
        label = torch.tensor(np.asarray(chosen, np.int64))
    training = generator.training
    generator.eval()
    images = []
    for start in range(0, len(z), DRAW_BATCH):
        chunk = slice(start, start + DRAW_BATCH)
        images.append(generator(z[chunk].to(device), None if label is None else label[chunk].to(device)).cpu())
    generator.train(training)
    return torch.cat(images)


def draw_fixed(generator: SpecGenerator, n: int, cols: int) -> Tensor:
    """The images of a sample picture, as `draw_seeds`: seeds 0 … n - 1; with classes, seeds 0 … cols - 1 of each class,
    one row a class, at most `MAX_ROWS` of them.
    """
    n_classes = generator.spec.interface.n_classes
    if not n_classes:
        return draw_seeds(generator, range(n))
    rows = min(n_classes, MAX_ROWS)
    return draw_seeds(generator, list(range(cols)) * rows, [row for row in range(rows) for _ in range(cols)])


def save_samples(images_NCHW: Tensor, target: Path, cols: int, style: Grid) -> None:
    """A grid of images in [-1, 1], `cols` a row.

    "exact" gives the pixels that an export gives; "save_image" is torchvision's save_image(nrow=cols, normalize=True),
    which stretches the darkest and brightest value of the whole grid to black and white.
    """
    if style == "exact":
        write_bytes(target, encode_png(grid(to_pixels(images_NCHW.numpy()), cols)))
        return
    try:
        from torchvision.utils import save_image
    except ImportError as error:
        raise MissingPackageError("torchvision", "train", "this preset's image grid") from error
    with atomic_path(target) as temporary:
        save_image(images_NCHW, temporary, nrow=cols, normalize=True)


def plot_losses(history: History, target: Path, loss: Loss | None) -> None:
    """Loss_D, Loss_G, D(x) and D(G(z)) over the steps: every step faint, a moving average bold. Of a training without D
    (`loss` None) Loss_G alone."""
    from matplotlib.figure import Figure

    values = history.values.numpy()
    steps = (np.arange(len(values)) + 0.5) * history.stride + 0.5
    figure = Figure(figsize=(9, 6), dpi=100, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2)) if loss else (figure.subplots(),) * 2
    curves = (
        (upper, 1, "Loss_G", "tab:orange"),
        (upper, 0, "Loss_D", "tab:blue"),
        (lower, 2, "D(x)", "tab:green"),
        (lower, 4, "D(G(z))", "tab:red"),
    )
    for axes, column, label, colour in curves if loss else curves[:1]:
        axes.plot(steps, values[:, column], color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(steps, smooth(values[:, column]), color=colour, linewidth=1.6, label=label)
    upper.set_title(f"Generator{' and discriminator' if loss else ''} during training", loc="left")
    # BCE is never negative; the hinge loss of G is, once D takes fakes for real.
    upper.set(ylabel="loss", ylim=(min(0.0, float(values[:, :2].min())), None))
    lower.set(xlabel="step")
    if loss in UNSCALED:
        lower.set(ylabel="output of D")
    elif loss:
        lower.set(ylabel="probability of real", ylim=(0, 1))
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    with atomic_path(target) as temporary:
        figure.savefig(temporary)


def animate(frames: Sequence[Path], target: Path) -> None:
    """An endless animated WebP of the sample pictures, at most `MAX_FRAMES` of them, the last one held."""
    chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, MAX_FRAMES).round().astype(int))]
    pictures = []
    for frame in chosen:
        with Image.open(frame) as opened:
            picture = opened.convert("RGB")
        picture.thumbnail((FILM_SIDE, FILM_SIDE))
        pictures.append(picture)
    durations = [FRAME_MS] * (len(pictures) - 1) + [LAST_FRAME_MS]
    with atomic_path(target) as temporary:
        pictures[0].save(
            temporary, "WEBP", save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=80
        )


def compare(
    real_NHWC: U8, fake_NHWC: U8, target: Path, cols: int = 8, titles: tuple[str, str] = ("Real images", "Fake images")
) -> None:
    """Real images on the left, fakes on the right, as in PyTorch's DCGAN tutorial."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.4), dpi=100, layout="constrained")
    for axes, title, pixels_NHWC in zip(figure.subplots(1, 2), titles, (real_NHWC, fake_NHWC), strict=True):
        picture = grid(pixels_NHWC, cols)
        # Small pixels stay squares: matplotlib smooths where it enlarges by less than three.
        factor = -(-SHARP_SIDE // picture.shape[1])
        picture = picture.repeat(factor, 0).repeat(factor, 1)
        axes.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title)
        axes.set_axis_off()
    with atomic_path(target) as temporary:
        figure.savefig(temporary)


PICTURE_SHARE = 0.05
"""Redrawing losses.png, progress.webp and real_vs_fake.png while training may take this share of the time."""


class Gallery:
    """The pictures of one run, drawn with the weights that g.pt would hold."""

    def __init__(self, state: TrainState, run: RunDir, batches: Batches) -> None:
        self.state = state
        self.recipe = state.config.recipe
        self.run_dir = run
        self.batches = batches
        self._seconds = self._cost = 0.0
        self._framed, self._frame_cost = state.seconds, 0.0

    def watched_sample(self) -> Path:
        """A sample of every `sample_every` steps: `Watch` takes its diversity. The losses so far must have been read.

        It comes before the report of its step, so that last.pt knows of it.
        """
        target, images_NCHW = self._draw()
        if self.state.step:  # before it, nothing has been learnt that could be lost
            self.state.watch.sample(self.state.step, self._diversity(images_NCHW), self._data_diversity)
        return target

    @property
    def frame_due(self) -> bool:
        """Whether it is time for a picture more than those of every `sample_every` steps, and it costs little time."""
        seconds = self.state.seconds
        return seconds - self._framed >= max(FRAME_EVERY_S, FRAME_SHARE * seconds, self._frame_cost / PICTURE_SHARE)

    def frame(self) -> Path:
        """A sample of the present step. Its diversity is told; what `Watch` notices goes by the regular ones alone."""
        target, images_NCHW = self._draw()
        self.state.watch.tell(self._diversity(images_NCHW), self._data_diversity)
        return target

    def last_sample(self) -> Path | None:
        """The sample of the last step, where there is none yet. It is not watched: a longer run would not have it."""
        return None if self.run_dir.sample(self.state.step).exists() else self._draw()[0]

    @property
    def affordable(self) -> bool:
        """Whether `redraw` would stay within its share of the time."""
        return self._seconds + self._cost <= PICTURE_SHARE * self.state.seconds

    def redraw(self) -> None:
        """losses.png, progress.webp and real_vs_fake.png anew."""
        began = time.monotonic()
        if self.state.step:
            plot_losses(self.state.history, self.run_dir.losses, self.recipe.loss if self.recipe.adversarial else None)
        animate(self.run_dir.sample_files(), self.run_dir.progress)
        self._compare()
        self._cost = time.monotonic() - began
        self._seconds += self._cost

    @property
    def _compared(self) -> tuple[int, int]:
        """How many images each side of real_vs_fake.png has, and how many a row."""
        return (16, 4) if (self.recipe.size or 0) >= LARGE else (64, 8)

    def _compare(self) -> None:
        n, cols = self._compared
        shown = np.sort(self.batches.order(0)[:n].numpy())
        classes = None
        if (labels := self.batches.all_labels) is not None:  # by class, a fake of its class for each real
            shown = shown[np.argsort(labels.numpy()[shown], kind="stable")]
            classes = labels.numpy()[shown].tolist()
        fakes_NHWC = to_pixels(draw_seeds(self.state.exported, range(len(shown)), classes).numpy())
        compare(self.batches.pixels_NHWC[shown], fakes_NHWC, self.run_dir.real_vs_fake, cols)

    def _draw(self) -> tuple[Path, Tensor]:
        began = time.monotonic()
        n, cols = self.recipe.shown
        images_NCHW = draw_fixed(self.state.exported, n, cols)
        target = self.run_dir.sample(self.state.step)
        save_samples(images_NCHW, target, cols, self.recipe.grid)
        self._framed, self._frame_cost = self.state.seconds, time.monotonic() - began
        return target, images_NCHW

    def _diversity(self, images_NCHW: Tensor) -> float | None:
        n_classes, cols = self.state.config.n_classes, self.recipe.shown[1]
        return diversity(images_NCHW, torch.arange(len(images_NCHW)) // cols if n_classes else None)

    @cached_property
    def _data_diversity(self) -> float | None:
        return data_diversity(self.batches)


class UpscalerGallery(Gallery):
    """The pictures of an upscaler's run, of images that it is not trained on: each reduced, enlarged by bicubic
    interpolation, enlarged by the upscaler, and as it is. `Watch` takes the PSNR."""

    def watched_sample(self) -> Path:
        target = self.frame()
        found = measure(self._enlarge, self._originals(None), self.recipe.scale)
        psnr = {"psnr_db": found.psnr_db, "bicubic_psnr_db": found.bicubic_psnr_db}
        self.state.watch.psnr = {name: round(value, 3) for name, value in psnr.items()}
        return target

    def frame(self) -> Path:
        return self._draw()[0]

    def _originals(self, n: int | None) -> U8:
        chosen = self.state.config.left_out
        assert chosen is not None
        images: U8 = self.batches.pixels_NHWC[chosen[:n]]
        return images

    def _enlarge(self, pixels_NHWC: U8) -> U8:
        """What an export does."""
        generator = self.state.exported
        with torch.no_grad():
            device = next(generator.parameters()).device
            return to_pixels(generator(normalise(torch.from_numpy(pixels_NHWC).to(device))).float().cpu().numpy())

    def _draw(self) -> tuple[Path, Tensor]:
        began = time.monotonic()
        n, cols = self.recipe.shown
        rows = side_by_side(self._enlarge, self._originals(n // 4), self.recipe.scale)
        target = self.run_dir.sample(self.state.step)
        write_bytes(target, encode_png(grid(rows, cols)))
        self._framed, self._frame_cost = self.state.seconds, time.monotonic() - began
        return target, torch.empty(0)

    def _compare(self) -> None:
        n, cols = self._compared
        originals = self._originals(n)
        enlarged = self._enlarge(reduced_pixels(originals, self.recipe.scale))
        compare(originals, enlarged, self.run_dir.real_vs_fake, cols, ("Originals", "Reduced and upscaled"))
