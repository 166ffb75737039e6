"""What an evaluation gives: frozen values that turn into JSON and back, and the numbers that a table shows of them.

No torch here, so that help and reports need none.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from gan_core.errors import GanportError
from gan_core.fields import Json, check_fields, from_json
from gan_core.printable import json_text

FEATURES = ("auto", "inception", "classifier", "swd")
DEFAULT_N = 10_000
MIN_N = 32


FORMAT = 1


@dataclass(frozen=True)
class FeaturesInfo:
    """Which features the numbers are of. Numbers are comparable where `id` and `hash` are equal, and nowhere else.

    id          "inception", "classifier" or "swd"
    hash        12 hex digits: of the network's weights, or of what the features are computed with
    dimensions  of a feature vector; 0 for "swd", which compares patches
    text        one line for people
    accuracy    a classifier's, on images that it was not trained on; else None
    """

    id: str
    hash: str
    dimensions: int
    text: str
    accuracy: float | None = None


@dataclass(frozen=True)
class Metrics:
    """A set of images measured against reference images; None or empty for what the features do not give.

    frechet                     squared Fréchet distance, ≥ 0
    kernel, kernel_spread       mean of the squared MMD over subsets, and its standard deviation
    precision, recall, density, coverage    see `gan_trainer.evaluation.statistics`
    sliced                      (side in pixels, 1000 · sliced Wasserstein distance) of each pyramid level
    class_shares                share of images that the classifier puts in each class
    label_accuracy              share of images that it puts in the class that they were drawn as
    class_accuracies            the same for each class; None where no image of it was drawn
    """

    frechet: float | None = None
    kernel: float | None = None
    kernel_spread: float | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    sliced: tuple[tuple[int, float], ...] = ()
    class_shares: tuple[float, ...] = ()
    label_accuracy: float | None = None
    class_accuracies: tuple[float | None, ...] = ()

    @property
    def sliced_mean(self) -> float | None:
        """The mean over the levels, the one number of "swd"."""
        return sum(value for _, value in self.sliced) / len(self.sliced) if self.sliced else None

    @property
    def distance(self) -> float:
        """The leading number, lower is better: `frechet`, or `sliced_mean` without it."""
        value = self.frechet if self.frechet is not None else self.sliced_mean
        assert value is not None, "every feature set gives one of them"
        return value

    def cells(self, labels: bool) -> dict[str, str]:
        """The numbers under their headings, "" for None; ↓: lower is better, ↑: higher is. `labels`: whether images of
        classes were asked for and judged.
        """
        if self.sliced:
            shown = [("SWD↓", self.sliced_mean, ".2f"), *((f"{side}px↓", value, ".2f") for side, value in self.sliced)]
        else:
            shown = [
                ("Fréchet↓", self.frechet, ".3f"), ("kernel↓", self.kernel, ".4f"), ("±", self.kernel_spread, ".4f"),
                ("precision↑", self.precision, ".3f"), ("recall↑", self.recall, ".3f"),
                ("density↑", self.density, ".3f"), ("coverage↑", self.coverage, ".3f"),
            ]  # fmt: skip
            shown += [("class right↑", self.label_accuracy, ".1%")] if labels else []
        return {name: "" if value is None else format(value, form) for name, value, form in shown}


@dataclass(frozen=True)
class Evaluation:
    """One model (or set of images) against one data set.

    model        {"file", "sha256", "kind", "provider", "steps", …} as far as known
    data         {"name", "fingerprint", "images", "size", "channels", "class_names"}
    n, n_real    how many images were drawn, and how many real ones they were compared with
    seed         the first image's seed; the images are those of seed … seed + n - 1
    metrics      of the images drawn
    floor        of real images that are not among the reference: what a perfect generator would score
    n_floor      how many images each side of the floor has
    """

    model: Json
    data: Json
    features: FeaturesInfo
    n: int
    n_real: int
    seed: int
    metrics: Metrics
    floor: Metrics
    n_floor: int
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def of_classes(self) -> bool:
        """Whether the model was asked for classes and a classifier judged them."""
        return bool(self.model.get("conditional")) and self.features.id == "classifier"

    def to_json(self) -> Json:
        """A JSON object; `from_json` reads it back."""
        return {"ganport_eval": FORMAT, **dataclasses.asdict(self)}

    def dumps(self) -> str:
        return json_text(self.to_json(), indent=2) + "\n"

    @classmethod
    def from_json(cls, values: Any) -> Evaluation:
        """Reads what `to_json` wrote. Raises `GanportError` for anything else."""
        try:
            if values["ganport_eval"] != FORMAT:
                raise GanportError(
                    f"the evaluation has format {values['ganport_eval']!r}, this ganport reads {FORMAT}",
                    hint="evaluate again: gan-train eval",
                )
            found = from_json(cls, values)
            check_fields(found, GanportError, "evaluate again")
            return found
        except (KeyError, TypeError, ValueError) as error:
            raise GanportError(f"not an evaluation by gan-train eval: {error}", hint="evaluate again") from error
