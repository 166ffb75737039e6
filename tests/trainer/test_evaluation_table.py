"""The table of evaluations, as a terminal of 80 columns shows it."""

from __future__ import annotations

from gan_trainer.cli_eval import render
from gan_trainer.evaluation.results import Evaluation, FeaturesInfo, Metrics

CLASSES = ["T-shirt/top", "Trouser", "Ankle boot"]
LONG = "64 features of a small classifier of fashion-mnist 32x32 (90.1% right on images kept from it)"


def metrics(
    shift: float = 0.0, right: tuple[float | None, ...] = (), shares: tuple[float, ...] = (0.3, 0.3, 0.4)
) -> Metrics:
    return Metrics(
        1.25 + shift, 0.02, 0.01, 0.9, 0.8, 0.7, 0.6, class_shares=shares,
        label_accuracy=0.9 if right else None, class_accuracies=right,
    )  # fmt: skip


def evaluation(file: str, found: Metrics, *, floor: Metrics | None = None, n_floor: int = 1000) -> Evaluation:
    return Evaluation(
        model={"file": file, "conditional": bool(found.class_accuracies)},
        data={"name": "fashion-mnist", "size": 32, "class_names": CLASSES},
        features=FeaturesInfo("classifier", "51d61d831ed0", 64, LONG),
        n=1000, n_real=1000, seed=0, metrics=found, floor=floor or metrics(-1, (0.95, None, 0.85)), n_floor=n_floor,
    )  # fmt: skip


def test_few_models_stand_beside_each_other() -> None:
    right = metrics(right=(0.88, 0.98, None))
    text = render([evaluation("g.pt", right), evaluation("fashion-mnist.onnx", metrics(1, (0.5, 0.25, 1.0)))])
    assert all(len(line) <= 80 for line in text.splitlines())
    assert f"features classifier 51d61d831ed0: {LONG}" in text.replace("\n", " "), "names stay whole"
    lines = [line.split() for line in text.splitlines()]
    assert ["g.pt", "fashion-mnist.onnx", "real", "images"] in lines
    assert ["Fréchet↓", "1.250", "2.250", "0.250"] in lines
    assert ["class", "right↑", "90.0%", "90.0%", "90.0%"] in lines
    below = lines[lines.index(["recognised", "as", "its", "class", "g.pt", "fashion-mnist.onnx", "real", "images"]) :]
    assert below[2:] == [
        ["T-shirt/top", "88%", "50%", "95%"],
        ["Trouser", "98%", "25%"],
        ["Ankle", "boot", "100%", "85%"],
    ]


def test_many_models_stand_below_each_other() -> None:
    given = [evaluation(f"a-rather-long-name-{number}.onnx", metrics(number)) for number in range(9)]
    lines = render(given).splitlines()
    header = next(number for number, line in enumerate(lines) if "Fréchet↓" in line)
    assert [line.split("  ")[0] for line in lines[header + 2 :]] == [*(name_of(each) for each in given), "real images"]


def name_of(each: Evaluation) -> str:
    return str(each.model["file"])


def test_a_class_that_is_hardly_drawn_is_named_unless_classes_were_asked_for() -> None:
    shares = (0.01, 0.5, 0.49)
    text = render([evaluation("g.pt", metrics(shares=shares)), evaluation("all.pt", metrics())])
    assert text.endswith("\n\ng.pt: hardly any T-shirt/top")
    asked = render([evaluation("g.pt", metrics(right=(1.0, 1.0, 1.0), shares=shares))])
    assert "hardly any" not in asked


def test_a_smaller_floor_is_said() -> None:
    assert "The real images are 300 against 300" in render([evaluation("g.pt", metrics(), n_floor=300)])
    assert "against 300" not in render([evaluation("g.pt", metrics())])
