"""What follows a training, and the lines that it says. No torch here."""

from __future__ import annotations

import importlib
import logging
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from gan_core.fields import Json

log = logging.getLogger(__name__)


class Progress:
    """Follows a training, and logs what is to be said of it; `gan_trainer.terminal.Bar` shows both.

    `losses` are those that were read last, by their names in log.jsonl.
    """

    losses: Mapping[str, float] = {}

    _start: tuple[float, float] | None = None
    _last = (0.0, 0.0)

    def update(self, fraction: float, step: int, images: int) -> None:  # noqa: ARG002
        """Takes the `fraction` of the training that is done, in [0, 1], its step and the images seen so far."""
        self._last = (time.monotonic(), fraction)
        if self._start is None:
            self._start = self._last

    def line(self, text: str, *more: str) -> None:
        """Says one line; `more` may be left out where there is no room."""
        log.info("  ".join(filter(None, (text, *more))))

    def close(self) -> None:
        """Ends the showing."""

    @property
    def left(self) -> str:
        """The time left, as at the last update: "1:05 left", or nothing where it is not known yet or all is done."""
        now, fraction = self._last
        began, at = self._start or self._last
        if not at < fraction < 1:
            return ""
        return f"{clock((now - began) * (1 - fraction) / (fraction - at))} left"


class Told(Progress):
    """Tells `told` the fraction done, the step and the losses, after every step; without it, a bar of tqdm's in a
    notebook shows them."""

    def __init__(self, told: Callable[[float, int, Mapping[str, float]], None] | None) -> None:
        self.told = told
        self.bar = notebook_bar() if told is None else None

    def update(self, fraction: float, step: int, images: int) -> None:
        super().update(fraction, step, images)
        if self.told is not None:
            self.told(fraction, step, self.losses)
        if self.bar is not None:
            self.bar.set_postfix({"step": step, **self.losses}, refresh=False)
            self.bar.update(round(100 * fraction, 1) - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def notebook_bar() -> Any:
    """tqdm's bar, of 100 percent, where this is a notebook and has it; else None."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel") or find_spec("tqdm") is None:
        return None
    return importlib.import_module("tqdm.auto").tqdm(total=100, unit="%", desc="training")


def clock(seconds: float) -> str:
    """A duration as 1:05 or 2:03:04."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def loss_line(step: int, per_epoch: int, epochs: int | None, numbers: Json) -> str:
    """What the tutorials print, in 80 columns: the losses of D and G, D(x), D(G(z)) before / after D's step; of a
    training without D its loss, and the PSNR that was measured last."""
    epoch = (step - 1) // per_epoch + 1
    start = f"step {step}  epoch {epoch}{'' if epochs is None else f'/{epochs}'}"
    if "psnr_db" in numbers:
        psnr = f"PSNR {numbers['psnr_db']:.2f} dB  bicubic {numbers['bicubic_psnr_db']:.2f} dB"
        return f"{start}  loss {numbers['loss_g']:.4f}  {psnr}"
    return (
        f"{start}"
        f"  loss D {numbers['loss_d']:.3f} G {numbers['loss_g']:.3f}"
        f"  D(x) {numbers['d_x']:.2f}  D(G(z)) {numbers['d_g_z1']:.2f} / {numbers['d_g_z2']:.2f}"
    )
