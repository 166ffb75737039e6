"""How good a generator is, in numbers: `evaluate`, or `Evaluator` for several of them against the same data.

frechet, kernel, manifold   distances and shares of two sets of features, in float64
sliced                      sliced Wasserstein distance of two sets of images, where there are no labels
classifier, inception       where features come from; `features` chooses
sources                     checkpoints, modules and exported files as one interface
results                     `Evaluation`, `Metrics`: frozen, to and from JSON

docs/evaluation.md says what each number means.
"""

from gan_trainer.evaluation.evaluator import Evaluator, evaluate
from gan_trainer.evaluation.results import Evaluation, FeaturesInfo, Metrics

__all__ = ["Evaluation", "Evaluator", "FeaturesInfo", "Metrics", "evaluate"]
