"""What follows a training, and the lines that it says. No torch here."""

from __future__ import annotations

import logging
import time

from gan_core.fields import Json

log = logging.getLogger(__name__)


class Progress:
    """Follows a training, and logs what is to be said of it; `gan_trainer.terminal.Bar` shows both."""

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


def clock(seconds: float) -> str:
    """A duration as 1:05 or 2:03:04."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def loss_line(step: int, per_epoch: int, epochs: int | None, numbers: Json) -> str:
    """What the tutorials print, in 80 columns: the losses of D and G, D(x), D(G(z)) before / after D's step."""
    epoch = (step - 1) // per_epoch + 1
    return (
        f"step {step}  epoch {epoch}{'' if epochs is None else f'/{epochs}'}"
        f"  loss D {numbers['loss_d']:.3f} G {numbers['loss_g']:.3f}"
        f"  D(x) {numbers['d_x']:.2f}  D(G(z)) {numbers['d_g_z1']:.2f} / {numbers['d_g_z2']:.2f}"
    )
