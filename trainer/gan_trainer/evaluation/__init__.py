"""How good a generator is, in numbers: `evaluate`, or `Evaluator` for several of them against the same data.

statistics   distances and shares of two sets of features
sliced       sliced Wasserstein distance of two sets of images, where there are no labels
classifier   a small network whose inner layer gives features; `features` chooses it, or Inception
generators   checkpoints, modules and exported files as one interface; the images of a job of gan-gen
evaluator    `Evaluator`: the reference, its floor, and what a generator draws
results      `Evaluation`, `Metrics`: frozen, to and from JSON

docs/evaluation.md says what each number means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gan_trainer.evaluation.results import Evaluation, FeaturesInfo, Metrics

if TYPE_CHECKING:
    from gan_trainer.evaluation.evaluator import Evaluator, evaluate

__all__ = ["Evaluation", "Evaluator", "FeaturesInfo", "Metrics", "evaluate"]


def __getattr__(name: str) -> Any:
    # Lazy: results are read where there is no torch.
    if name in ("Evaluator", "evaluate"):
        from gan_trainer.evaluation import evaluator

        return getattr(evaluator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
