"""gan-gen --by-class: every seed in every class, a row a class."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from cli.conftest import Gen
from cli.drawing import drawn, names, read, seen, text_of
from gan_core.latents import Seeds
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.runtime.plan import ByClassPlan, SeedPlan
from serve import onnx_files


@pytest.fixture
def gen(gen: Gen, tmp_path: Path) -> Gen:
    """Runs gan-gen --by-class in a folder that holds c.onnx (classes cat, dog, owl)."""
    about = onnx_files.contract(image=(1, 8, 8), n_classes=3, class_names=("cat", "dog", "owl"))
    onnx_files.save(tmp_path / "c.onnx", about)
    return functools.partial(gen, "--model", "c.onnx", "--by-class")


def test_a_row_a_class_a_column_a_seed(gen: Gen) -> None:
    code, out, err = gen()
    assert (code, out) == (0, "c.png\n")
    assert (
        err == "rows: 0 cat, 1 dog, 2 owl\n30 images of 8x8, 7 times as large, seeds 0-9 in each class, on cpu (auto)\n"
    )
    expected = drawn("c.onnx", [*range(10)] * 3, [0] * 10 + [1] * 10 + [2] * 10)
    np.testing.assert_array_equal(read("c.png"), seen(expected, 10))
    assert not np.array_equal(expected[0], expected[10])
    text = text_of("c.png")
    assert (text["gan.seeds"], text["gan.classes"], text["gan.rows"]) == ("0-9", "0,1,2", "classes")


def test_chosen_classes_in_the_order_given(gen: Gen) -> None:
    assert gen("--class", "owl,cat", "--seeds", "7,3", "--truncation", 0.5)[0] == 0
    np.testing.assert_array_equal(read("c.png"), seen(drawn("c.onnx", [7, 3, 7, 3], [2, 2, 0, 0], truncation=0.5), 2))


def test_json_says_that_rows_are_classes(gen: Gen) -> None:
    record = json.loads(gen("--n", 2, "--json", "--out", "o.png")[1])
    assert (record["n"], record["seeds"], record["rows"]) == (6, [0, 1] * 3, "classes")
    assert record["labels"] == [0, 0, 1, 1, 2, 2]
    assert [each["index"] for each in record["classes"]] == [0, 1, 2]


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_arrays_name_seeds_and_labels(gen: Gen, batch_size: int) -> None:
    code, _, err = gen("--seed", 4, "--n", 3, "--out", "o.npz", "--batch-size", batch_size)
    assert code == 0
    assert "rows" not in err
    with np.load("o.npz") as archive:
        assert archive["seeds"].tolist() == [4, 5, 6] * 3
        assert archive["labels"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        np.testing.assert_array_equal(archive["pixels"], drawn("c.onnx", [4, 5, 6] * 3, archive["labels"].tolist()))


def test_a_folder_names_seed_and_class(gen: Gen, tmp_path: Path) -> None:
    assert gen("--n", 2, "--out", "all/")[0] == 0
    assert names(tmp_path / "all") == [f"seed00000{seed}-class{label}.png" for seed in (0, 1) for label in (0, 1, 2)]
    np.testing.assert_array_equal(read("all/seed000001-class2.png"), drawn("c.onnx", [1], [2])[0])
    text = text_of("all/seed000001-class2.png")
    assert (text["gan.seed"], text["gan.class"]) == ("1", "2 owl")


def test_given_latents(gen: Gen) -> None:
    z = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    np.save("z.npy", z)
    assert gen("--latents", "z.npy", "--out", "o.npz")[0] == 0
    expected = OnnxGenerator("c.onnx", "cpu").run(np.concatenate([z] * 3), np.repeat(np.arange(3), 2))[1]
    with np.load("o.npz") as archive:
        assert sorted(archive.files) == ["labels", "pixels"]
        np.testing.assert_array_equal(archive["pixels"], expected)


def test_a_plan_of_a_trillion_images_holds_none_of_them() -> None:
    about = onnx_files.contract(image=(1, 8, 8), n_classes=3, class_names=("cat", "dog", "owl"))
    plan = ByClassPlan(SeedPlan(about, Seeds([range(10**12)])))
    last = 10**12 - 2
    assert plan.n == 3 * 10**12
    assert plan.seeds is not None
    assert plan.seeds.array(last, last + 4).tolist() == [last, last + 1, 0, 1]
    assert plan.labels(last, last + 4).tolist() == [0, 0, 1, 1]
    assert len(plan.latents(last, last + 4)) == 4
    assert plan.latents(5, 5).shape == (0, about.interface.z_dim)
    assert plan.stem(last + 2) == "seed000000-class1"
