"""The proof within a budget of pixels: what it draws, what it keeps, and which faults that finds."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export.surgery import Array, change_weight
from export.test_mutations import Right, rejected
from export.tiny import source_of, spec_of
from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.images import to_pixels
from gan_core.interface import Interface
from gan_export.proof import Report
from gan_export.proof import reference as proof_reference
from gan_export.proof.cases import BUDGET, Case, cases
from gan_export.proof.meaning import Statistics, check_meaning
from gan_export.proof.parity import Differences, run_cases
from gan_export.proof.prove import prove
from gan_export.proof.reference import KEPT_BYTES, Reference
from gan_export.source import Source
from gan_serve.runtime.generator import Generator

CLASSES = 1000


def drawn(side: int, n_classes: int = 0, budget: int = BUDGET) -> tuple[Case, ...]:
    return cases(Interface(8, (3, side, side), n_classes=n_classes), budget)


def classes_of(made: Iterable[Case]) -> list[int]:
    """The labels of the cases of classes, in order."""
    return [int(label) for case in made if case.kind == "class" and case.label is not None for label in case.label]


def sizes_of(made: Iterable[Case], kind: str = "ordinary") -> list[int]:
    return [len(case.z) for case in made if case.kind == kind]


def test_a_thousand_classes_at_128_fit() -> None:
    made = drawn(128, CLASSES)
    assert sum(len(case.z) for case in made) == 2049
    assert sizes_of(made) == [1, 2, 3, 8, 25]
    assert classes_of(made) == [*range(CLASSES), *range(CLASSES)]


@pytest.mark.parametrize(("side", "n_classes"), [(28, 0), (128, 10), (256, 1000), (512, 0), (512, 10), (1024, 0)])
def test_images_keep_to_the_budget(side: int, n_classes: int) -> None:
    made = drawn(side, n_classes)
    images = sum(len(case.z) for case in made)
    assert images * side**2 <= BUDGET
    assert max(len(case.z) for case in made) * side**2 <= max(BUDGET // 64, 3 * side**2)
    assert sum(sizes_of(made, "far")) == 8
    seeds = {row.partition(" class")[0] for case in made if case.kind == "ordinary" for row in case.rows}
    assert len(seeds) == 25 or images == BUDGET // side**2


def test_costly_networks_draw_fewer_classes_in_batches_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    made = cases(Interface(8, (3, 128, 128), n_classes=CLASSES), most_images=350)
    assert (sum(len(case.z) for case in made), sizes_of(made)) == (350, [1, 2, 3, 8, 25])
    assert classes_of(made)[:2] == [0, 3]
    assert classes_of(made)[-1] == CLASSES - 1
    source = source_of(spec_of(n_classes=CLASSES))
    assert source.spec is not None
    monkeypatch.setattr(proof_reference, "LATENT_PRODUCTS", 60 * source.spec.products)
    for each in (source, replace(source, spec=None)):  # what a live module multiplies is counted in a run
        assert sum(len(case.z) for case in Reference(each).cases) == 60


@pytest.mark.parametrize(
    ("side", "expected"), [(128, [1, 2, 3, 8, 25]), (256, [1, 2, 3, 8, 8, 8, 1]), (512, [1, 2, 3, *[3] * 7, 1])]
)
def test_seeds_without_room_in_a_batch_come_in_further_ones(side: int, expected: list[int]) -> None:
    made = drawn(side)
    assert sizes_of(made) == expected
    assert made[len(expected) - 1].rows[-1] == "seed 24"


def test_however_large_the_images_are_some_are_drawn() -> None:
    made = drawn(8192, CLASSES)
    assert sizes_of(made) == [1, 2, 3]
    assert (sizes_of(made, "zero"), sum(sizes_of(made, "far"))) == ([2], 8)
    assert classes_of(made) == [0, 143, 285, 428, 571, 714, 856, 999]


def test_classes_without_room_are_left_out_evenly() -> None:
    made = drawn(256, CLASSES)
    labels = classes_of(made)
    assert len(labels) == 525 - 24 == len(set(labels))
    assert (labels[0], labels[-1]) == (0, 999)
    assert set(np.diff(labels)) == {1, 2}


class Waves(torch.nn.Module):
    """Draws large images without a network."""

    def __init__(self, image: tuple[int, int, int]) -> None:
        super().__init__()
        self.c, self.h, self.w = image

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        shift = torch.linspace(-1, 1, self.h * self.w).reshape(self.h, self.w)
        return torch.tanh(z[:, : self.c, None, None] + shift + 0.001 * label[:, None, None, None])


class Plain(Generator):
    """Draws with a source's module."""

    provider, sha256 = "fake", ""

    def __init__(self, source: Source) -> None:
        self.module = source.module
        self.contract = Contract(source.interface)

    def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
        image: F32 = self.module(torch.from_numpy(z), torch.from_numpy(label)).numpy()
        return image, to_pixels(image, self.contract.interface.value_range)


@pytest.mark.slow
@pytest.mark.parametrize("n_classes", [40, 400])
def test_memory_does_not_grow_with_the_number_of_images(n_classes: int) -> None:
    """Of 850 images of 128x128 (167 MB) the reference keeps its share, and nothing else keeps any."""
    source = Source(Waves((3, 128, 128)).eval(), Interface(8, (3, 128, 128), n_classes=n_classes))
    reference = Reference(source)
    generator = Plain(source)
    statistics = Statistics(generator.contract, reference.cases)
    tracemalloc.start()
    try:
        assert not run_cases(generator, reference.cases, [statistics, Differences(reference)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(statistics.classes) == n_classes
    batch_bytes = 25 * 3 * 128 * 128 * 4
    assert peak < 8 * batch_bytes
    assert sum(image.nbytes for image in reference._kept.values()) <= KEPT_BYTES


class Stripes(torch.nn.Module):
    """Every other column is brighter: the even ones in even classes. The means of blocks are the same in all."""

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        bright = (torch.arange(32) + label[:, None]) % 2
        return (0.1 * z[:, :3, None, None] + 0.5 * bright[:, None, None, :]).expand(-1, 3, 32, 32)


def test_classes_that_only_pixels_tell_apart() -> None:
    source = Source(Stripes().eval(), Interface(8, (3, 32, 32), n_classes=3))
    reference, generator = Reference(source), Plain(source)
    statistics = Statistics(generator.contract, reference.cases)
    run_cases(generator, reference.cases, [statistics])
    check = next(check for check in check_meaning(generator, statistics, 1e-4) if check.name == "labels matter")
    assert (check.ok, check.value, check.limit) == (False, 2, ">= 3")
    assert check.detail == "seed 0 class 2 gives the image of a lower class"


CHILD = """
import json, resource, sys
from pathlib import Path
import torch
from export.tiny import lively
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.exporting import export_onnx
from gan_export.source import from_spec
from gan_trainer.networks.generator import build
layers = (L.Linear(8, 4 * 16 * 16), L.Reshape((4, 16, 16)), L.Activation("relu"), L.Upsample(64),
          L.Conv(4, 3, 3, 1, 1), L.Activation("tanh"))
spec = GeneratorSpec(Interface(8, (3, 1024, 1024)), layers)
torch.manual_seed(0)
report = export_onnx(from_spec(spec, lively(build(spec))), Path(sys.argv[1]))
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"peak_mb": peak_mb, "report": report.to_json()}))
"""


@pytest.mark.long
@pytest.mark.slow
def test_export_of_images_of_1024_keeps_below_3_gb(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(tmp_path / "g.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    found = json.loads(done.stdout)
    assert found["report"]["ok"], found["report"]
    assert found["report"]["facts"]["parity"]["images"] == 32
    assert found["peak_mb"] < 3000


@pytest.fixture(scope="module")
def many() -> Right:
    """A generator of 1,000 classes."""
    return Right.of(spec_of(n_classes=CLASSES))


def table_edited(right: Right, path: Path, edit: Callable[[Tensor], object]) -> Path:
    """The export of `right` with its table of classes, one row each, edited."""
    (name,) = (tensor.name for tensor in right.model.graph.initializer if CLASSES in tensor.dims)

    def edited(table: Array) -> Array:
        edit(torch.from_numpy(table))
        return table

    return right.file(path, change_weight(right.model, name, edited))


def off(label: int) -> Callable[[Tensor], object]:
    return lambda table: table[label].mul_(1.01)


def as_another(label: int, other: int) -> Callable[[Tensor], object]:
    return lambda table: table[label].copy_(table[other])


ONE_CLASS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "one class off by 1 %": (off(617), "image values"),
    "one class draws what another draws": (as_another(617, 123), "labels matter"),
    "one class is not a number": (lambda table: table[617].fill_(torch.nan), "NaN or Inf"),
}
FASTEST = "one class draws what another draws"


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=() if fault == FASTEST else pytest.mark.long) for fault in ONE_CLASS]
)
def test_fault_in_one_class_of_a_thousand(fault: str, many: Right, tmp_path: Path) -> None:
    edit, expected = ONE_CLASS[fault]
    path = table_edited(many, tmp_path / "g.onnx", edit)
    rejected(many, path, expected)
    alone = {check.name for check in prove(path).failed}
    assert alone == (set() if expected == "image values" else {expected})


@pytest.fixture(scope="module")
def scarce(many: Right) -> Reference:
    """A budget of 300 images, which leaves 284 for the classes."""
    return Reference(many.source, budget=300 * 28 * 28)


def proved_with(reference: Reference, path: Path) -> Report:
    return prove(path, reference.source, reference=reference)


@pytest.mark.slow
def test_a_class_without_room_in_the_budget_is_not_proved(many: Right, scarce: Reference, tmp_path: Path) -> None:
    """What is caught, and what is not: a fault of a class that is drawn, and of one that is not."""
    labels = classes_of(scarce.cases)
    missing = next(label for label in range(500, CLASSES) if label not in labels)
    fine = proved_with(scarce, many.file(tmp_path / "g.onnx"))
    assert fine.ok, fine.verdict()
    assert fine.check("images compared").value == 300
    assert fine.check("batch sizes").value == "1 2 3"
    matter = fine.check("labels matter")
    assert (matter.value, matter.limit, matter.detail) == (284, ">= 284", "284 of 1000 classes generated")
    caught = proved_with(scarce, table_edited(many, tmp_path / "g.onnx", off(labels[100])))
    assert "image values" in {check.name for check in caught.failed}
    assert f"class {labels[100]}," in caught.check("image values").detail
    assert proved_with(scarce, table_edited(many, tmp_path / "g.onnx", off(missing))).ok
    twins = table_edited(many, tmp_path / "g.onnx", as_another(labels[100], labels[7]))
    assert "labels matter" in {check.name for check in proved_with(scarce, twins).failed}
    ignored = table_edited(many, tmp_path / "g.onnx", lambda table: table.copy_(table[:1].expand_as(table)))
    assert proved_with(scarce, ignored).check("labels matter").value == 1
