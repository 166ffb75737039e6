"""A run in TensorBoard, Weights & Biases or MLflow, where it is asked for: the numbers of each report and the samples.

They get the same values as log.jsonl and samples/. A resumed run goes on in the same place: TensorBoard hides what an
interrupted one had written beyond the step it is resumed from (SummaryWriter's purge_step), and the ids that the other
two give lie in the run's folder. The training is worth more than its echo: a board that fails while it goes on is left,
with a warning.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gan_core.errors import GanportError, MissingPackageError
from gan_core.fields import Json
from gan_core.files.atomic import explain_os_errors, write_text

PROJECT = "ganport"
PLACE = ("step",)

log = logging.getLogger(__name__)


class TensorBoard:
    """Events in RUN/tensorboard, by torch's SummaryWriter."""

    def __init__(self, folder: Path, step: int, config: Json) -> None:  # noqa: ARG002
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        with explain_os_errors(folder / "tensorboard"):
            self.writer: Any = writer(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def report(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def sample(self, step: int, file: Path) -> None:
        with Image.open(file) as picture:
            pixels_HWC = np.asarray(picture.convert("RGB"))
        self.writer.add_image("samples", pixels_HWC, step, dataformats="HWC")
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A run of Weights & Biases in the project `PROJECT`, or in WANDB_PROJECT's."""

    def __init__(self, folder: Path, step: int, config: Json) -> None:
        self.wandb = importlib.import_module("wandb")
        known = _known(folder / "wandb-id.txt", step)
        self.run: Any = self.wandb.init(
            project=None if "WANDB_PROJECT" in os.environ else PROJECT,
            name=folder.resolve().name, dir=str(folder), config=config, id=known, resume="allow" if known else None,
        )  # fmt: skip
        write_text(folder / "wandb-id.txt", f"{self.run.id}\n")

    def report(self, step: int, numbers: Mapping[str, float]) -> None:
        self.run.log(dict(numbers), step=step)

    def sample(self, step: int, file: Path) -> None:
        self.run.log({"samples": self.wandb.Image(str(file))}, step=step)

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """A run of MLflow's experiment `PROJECT`, or of MLFLOW_EXPERIMENT_NAME's."""

    def __init__(self, folder: Path, step: int, config: Json) -> None:
        self.mlflow = importlib.import_module("mlflow")
        if "MLFLOW_EXPERIMENT_NAME" not in os.environ:
            self.mlflow.set_experiment(PROJECT)
        known = _known(folder / "mlflow-id.txt", step)
        run = self.mlflow.start_run(run_id=known, run_name=folder.resolve().name)
        write_text(folder / "mlflow-id.txt", f"{run.info.run_id}\n")
        if known is None:
            self.mlflow.log_params(config)

    def report(self, step: int, numbers: Mapping[str, float]) -> None:
        self.mlflow.log_metrics(dict(numbers), step=step)

    def sample(self, step: int, file: Path) -> None:  # noqa: ARG002
        self.mlflow.log_artifact(str(file), "samples")

    def close(self) -> None:
        self.mlflow.end_run()


Board = TensorBoard | WandB | MLflow
BOARDS: dict[str, type[Board]] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


def parse_boards(text: str | None) -> tuple[str, ...]:
    """The boards that `text` names, with commas between. Raises `GanportError` for a name that does not exist, and
    `MissingPackageError` where its package is not installed."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(","))) if text else ()
    for name in names:
        if name not in BOARDS:
            raise GanportError(f"`log` takes {', '.join(BOARDS)}, got {name!r}", hint="one, or several with commas")
        if find_spec(name) is None:
            hint = "" if name == "tensorboard" else f"pip install {name}"
            raise MissingPackageError(name, name, f'`log="{name}"`', hint=hint)
    return names


class Boards:
    """The boards of one run from a step on: `step` steps are done, 0 for a new run.

    Raises `GanportError` for one that does not start.
    """

    def __init__(self, names: tuple[str, ...], folder: Path, step: int, config: Json) -> None:
        self.boards: dict[str, Board] = {}
        for name in names:
            try:
                self.boards[name] = BOARDS[name](folder, step, config)
            except GanportError:
                raise
            except Exception as error:  # of whatever kind that package raises
                raise GanportError(
                    f"{name} does not start: {error}", hint=f"leave `log` out, or see {name}'s own documentation"
                ) from error

    def report(self, line: Mapping[str, Any]) -> None:
        """The numbers of a line of log.jsonl, each a curve over the steps."""
        numbers = {
            f"{_group(name)}/{name}": value
            for name, value in line.items()
            if name not in PLACE and isinstance(value, (int, float))
        }
        self._each(lambda board: board.report(line["step"], numbers))

    def sample(self, step: int, file: Path) -> None:
        """A sample picture, as it lies in samples/."""
        self._each(lambda board: board.sample(step, file))

    def close(self) -> None:
        self._each(lambda board: board.close())

    def _each(self, call: Callable[[Board], None]) -> None:
        for name, board in [*self.boards.items()]:
            try:
                call(board)
            except Exception as error:  # of whatever kind that package raises
                log.warning(f"{name} gets nothing more: {error}")
                del self.boards[name]


def _group(name: str) -> str:
    return "loss" if name.startswith("loss") else "discriminator" if name.startswith("d_") else "run"


def _known(file: Path, step: int) -> str | None:
    """The id that a run which goes on had."""
    return file.read_text("utf-8").strip() or None if step and file.is_file() else None
