"""A run in TensorBoard: the numbers of each report and the sample pictures, where it is asked for.

They are written to RUN/tensorboard by torch's SummaryWriter, from the same values that log.jsonl and samples/ get. A
resumed run writes on in the same folder; what an interrupted one had written after the step it is resumed from is
hidden (SummaryWriter's purge_step), so that no step is seen twice.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gan_core.errors import MissingPackageError
from gan_core.files.atomic import explain_os_errors

FOLDER = "tensorboard"
NOT_SCALARS = ("step",)


def check_tensorboard() -> None:
    """Raises `MissingPackageError` where the package tensorboard is not installed."""
    if find_spec("tensorboard") is None:
        raise MissingPackageError("tensorboard", "tensorboard", "`tensorboard=True`")


class Board:
    """The events of one run from a step on.

    folder  the run's folder
    step    the steps already done: 0 for a new run. Raises `GanportError` when the folder cannot be written.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        check_tensorboard()
        self.folder = folder / FOLDER
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        with explain_os_errors(self.folder):
            self.writer: Any = writer(str(self.folder), purge_step=step + 1 if step else None)

    def report(self, line: Mapping[str, Any]) -> None:
        """The numbers of a line of log.jsonl, each a curve over the steps."""
        for name, value in line.items():
            if name not in NOT_SCALARS and isinstance(value, (int, float)):
                group = "loss" if name.startswith("loss") else "discriminator" if name.startswith("d_") else "run"
                self.writer.add_scalar(f"{group}/{name}", value, line["step"])
        self.writer.flush()

    def sample(self, step: int, file: Path) -> None:
        """A sample picture, as it lies in samples/."""
        with Image.open(file) as picture:
            pixels_HWC = np.asarray(picture.convert("RGB"))
        self.writer.add_image("samples", pixels_HWC, step, dataformats="HWC")
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
