"""What `gan-train eval` does: opens models and data, measures, keeps what belongs to a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.files.atomic import write_text
from gan_serve.terminal import console
from gan_trainer.data import ImageDataset, check_still_there, open_dataset
from gan_trainer.devices import resolve
from gan_trainer.evaluation.evaluator import Evaluator
from gan_trainer.evaluation.results import Evaluation
from gan_trainer.evaluation.sources import open_model
from gan_trainer.networks.architectures import SIZES
from gan_trainer.rundir import RunDir


@dataclass(frozen=True)
class Request:
    """An evaluation as asked for; None where the run or the data decide."""

    models: tuple[Path, ...]
    data: str | None = None
    features: str = "auto"
    n: int | None = None
    seed: int = 0
    batch_size: int = 64
    device: str = "auto"
    provider: str = "auto"
    threads: int | None = None
    root: Path | None = None
    keep: bool = True
    trust_script: bool = False


def run(request: Request) -> list[Evaluation]:
    """One evaluation for each model, against the same reference. Raises `GanportError` before anything is drawn."""
    device = resolve(request.device)
    opened = [
        open_model(
            path,
            device=device,
            provider=request.provider,
            threads=request.threads,
            trust_script=request.trust_script and path.suffix.lower() == ".ts",
        )
        for path in request.models
    ]
    first = opened[0][0].contract
    for path, (generator, _) in zip(request.models, opened, strict=True):
        drawn = generator.contract.interface
        if drawn.image != first.interface.image:
            raise GanportError(
                f"{path} draws {drawn.picture} images, {request.models[0]} {first.interface.picture}",
                hint="evaluate them in separate commands",
            )
    evaluator = Evaluator(
        _data(request, first), request.features, n=request.n, batch_size=request.batch_size, device=device
    )
    for generator, _ in opened:
        evaluator.labels_for(generator.contract)
    console.note(f"features: {evaluator.info.id} {evaluator.info.hash}: {evaluator.info.text}")
    found = []
    for path, (generator, model) in zip(request.models, opened, strict=True):
        evaluation = evaluator.evaluate(generator, seed=request.seed, model=model)
        if request.keep and (folder := run_of(path)) is not None and path.name == folder.generator.name:
            kept = folder.evaluation(evaluation.features.id)
            write_text(kept, evaluation.dumps())
            console.note(f"kept in {kept}")
        found.append(evaluation)
    return found


def run_of(model: Path) -> RunDir | None:
    """The run whose folder a model lies in, or None."""
    folder = RunDir(model.parent)
    return folder if folder.config.is_file() else None


def _data(request: Request, contract: Contract) -> ImageDataset:
    interface = contract.interface
    if interface.height != interface.width or interface.height not in SIZES:
        raise GanportError(
            f"the model draws {interface.picture} images, data come in squares of {', '.join(map(str, SIZES))}",
            hint="from Python, gan_trainer.evaluation.evaluate takes an ImageDataset of any square size",
        )
    data = request.data
    if data is None:
        data = _trained_on(request.models)
        check_still_there(data)
    return open_dataset(data, size=interface.height, channels=interface.channels, root=request.root)


def _trained_on(models: tuple[Path, ...]) -> str:
    """The data of the run that the models lie in."""
    asked = set()
    for model in models:
        folder = run_of(model)
        try:
            config = {} if folder is None else json.loads(folder.config.read_text("utf-8"))
            asked.add(config.get("data"))
        except (OSError, ValueError, AttributeError):
            asked.add(None)
    if len(asked) == 1 and isinstance(data := asked.pop(), str):
        return data
    raise GanportError(
        "nothing says what data to compare with: no run's config.json lies beside the model", hint="name them: --data"
    )
