"""What a benchmark tells whoever waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from gan_serve.terminal import console

Json = dict[str, Any]


class Stages:
    """Called by `bench.measure`; this one keeps silent."""

    def notes(self, sentences: Sequence[str]) -> None:
        """What was assumed of the checkpoint."""

    def accepted(self, generator: Json) -> None:
        """Every file is accepted; raising here ends the benchmark before a row is started."""

    def begin(self, label: str, steps: int) -> None:
        """A stage of so many steps begins: "starting", then "measuring"."""

    def step(self) -> None:
        """One step of the stage is done."""


class Bars(Stages):
    """A progress bar for each stage on stderr, on a terminal. A context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: Any = None

    def notes(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            console.note(f"note: {sentence}")

    def begin(self, label: str, steps: int) -> None:
        self._stack.close()
        self._bar = self._stack.enter_context(console.progress(steps, label))

    def step(self) -> None:
        self._bar.update(1)

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
