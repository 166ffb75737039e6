"""The count of operations, held against torch's own counter, and the limits made of it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.made_records import WORK, limit
from bench.tiny_models import SIDE, Z_DIM
from gan_bench.limits import Kind, Work, kind_of, kinds_of, limit_of, work_of, work_of_graph, work_of_spec
from gan_bench.tasks import FLOAT, FLOAT16, Machine, product_model
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec
from gan_serve.runtime.providers import import_onnxruntime
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import build

GROUPED = GeneratorSpec(
    Interface(8, (1, 9, 9), n_classes=3),
    (
        L.LabelEmbedding(3, 8, merge="multiply"),
        L.Reshape((8, 1, 1)),
        L.ConvTranspose(8, 8, 3, groups=4),
        L.Conv(8, 4, 3, padding=1, groups=2),
        L.ConvTranspose(4, 1, 3, stride=4, padding=1, output_padding=0, dilation=1),
    ),
)


@pytest.mark.parametrize(
    "spec",
    [network_spec("mlp", 28, 1, width=8), network_spec("dcgan", 64, 3, width=4), network_spec("dcgan", 96, 3, width=4),
     GROUPED],
    ids=["mlp", "dcgan64", "dcgan96", "grouped"],
)  # fmt: skip
def test_operations_are_those_that_torch_counts(spec: GeneratorSpec) -> None:
    module = build(spec).eval()
    label = torch.zeros(1, dtype=torch.int64) if spec.interface.n_classes else None
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, spec.interface.z_dim), label)
    assert work_of_spec(spec.to_json()).flops_per_image == counter.get_total_flops()


def test_dcgan_64_is_what_everybody_says() -> None:
    work = work_of_spec(network_spec("dcgan", 64, 3).to_json())
    assert work.flops_per_image == pytest.approx(0.21e9, rel=0.01)
    assert work.source == "spec"
    assert work.parameters == network_spec("dcgan", 64, 3).parameters
    assert work.bytes_per_call(10, "fp32") == 4 * work.parameters + 10 * (4 * 100 + 3 * 64 * 64)
    assert work.bytes_per_call(10, "fp16") == 2 * work.parameters + 10 * (4 * 100 + 3 * 64 * 64)


def test_a_label_reads_one_row_of_its_table() -> None:
    assert work_of_spec(GROUPED.to_json()).parameters == GROUPED.parameters - 24


def test_a_graph_is_counted_where_there_is_no_spec(model: Path) -> None:
    work = work_of(None, model, Z_DIM, (1, SIDE, SIDE))
    assert work is not None
    assert (work.flops_per_image, work.source) == (2 * Z_DIM * SIDE * SIDE, "graph")
    assert work.parameters >= Z_DIM * SIDE * SIDE
    assert work_of(None, None, Z_DIM, (1, SIDE, SIDE)) is None
    assert work_of(None, Path("g.ts"), Z_DIM, (1, SIDE, SIDE)) is None


@pytest.mark.slow
def test_convolutions_of_a_graph_are_counted_as_those_of_the_spec(tmp_path: Path) -> None:
    from gan_bench.peers.checkpoint import export_stock
    from gan_export.source import from_spec

    export_stock(from_spec(GROUPED, build(GROUPED)), tmp_path / "g.onnx")
    counted = work_of_graph(tmp_path / "g.onnx", 8, (1, 9, 9))
    assert counted is not None
    assert counted.flops_per_image == work_of_spec(GROUPED.to_json()).flops_per_image


def test_a_damaged_spec_falls_back_to_the_graph(model: Path) -> None:
    work = work_of({"layers": "none"}, model, Z_DIM, (1, SIDE, SIDE))
    assert work is not None
    assert work.source == "graph"


@pytest.mark.parametrize("element", [FLOAT, FLOAT16])
def test_the_handwritten_product_is_a_model(element: int) -> None:
    model = onnx.load_from_string(product_model(300, element))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    import_onnxruntime().InferenceSession(product_model(300), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("use_torch", [False, True])
def test_the_machine_multiplies_and_copies(monkeypatch: pytest.MonkeyPatch, use_torch: bool) -> None:
    monkeypatch.setattr("gan_bench.tasks.SIZES", {"cpu": (64,)})
    monkeypatch.setattr("gan_bench.tasks.TRIAL_S", 0.01)
    machine = Machine("cpu", "fp32", 2, 100, use_torch)
    product, copy = machine.window(0.03)
    assert product > 0.01
    assert copy is not None
    assert copy > 0.01
    assert machine.copy_bytes == 1 << 20
    assert machine.library in ("numpy", "onnxruntime", "torch")


def test_a_machine_without_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_bench.tasks.SIZES", {"cuda": (64,)})
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(RuntimeError, match="nothing here multiplies fp16 matrices on cuda"):
        Machine("cuda", "fp16", 1, 100, True)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (("cpu", "fp32", False, 2), Kind("cpu", "fp32", 2)),
        (("cpu", "fp16", False, 2), Kind("cpu", "fp32", 2)),
        (("openvino", "int8", False, 1), Kind("cpu", "fp32", 1)),
        (("cuda", "fp32", False, 2), Kind("cuda", "fp32", None)),
        (("cuda", "fp32", True, 2), Kind("cuda", "tf32", None)),
        (("tensorrt", "fp16", False, 2), Kind("cuda", "fp16", None)),
        (("coreml", "fp32", False, 2), None),
        ((None, "fp32", False, 2), None),
    ],
)
def test_which_limit_a_row_is_held_against(row: tuple[str | None, str, bool, int], kind: Kind | None) -> None:
    assert kind_of(*row) == kind
    assert kinds_of([row, row]) == ([] if kind is None else [kind])


def test_a_row_is_limited_by_products_or_by_bytes() -> None:
    """150 GFLOP/s and 20 GB/s: 0.2 GFLOP an image; 14 MB of parameters a call."""
    kind = limit().kind
    alone = limit_of(kind, [limit()], WORK, 1, "fp32")
    assert alone == {"limit_images_per_s": 750.0, "limited_by": "products"}
    slow_copy = limit(gb_per_s=[2.0, 2.0, 2.0])
    assert limit_of(kind, [slow_copy], WORK, 1, "fp32") == {
        "limit_images_per_s": pytest.approx(2e9 / (14e6 + 400 + 9216), rel=1e-3),
        "limited_by": "bytes",
    }
    assert limit_of(kind, [slow_copy], WORK, 64, "fp32")["limited_by"] == "products"
    assert limit_of(kind, [slow_copy], WORK, 1, "int8")["limit_images_per_s"] > 500


@pytest.mark.parametrize(
    ("kind", "work"), [(None, WORK), (Kind("cpu", "fp32", 7), WORK), (Kind("cpu", "fp32", 2), None)]
)
def test_a_limit_that_is_not_known(kind: Kind | None, work: Work | None) -> None:
    assert limit_of(kind, [limit(), limit(gflop_per_s=[])], work, 1, "fp32") == {
        "limit_images_per_s": None, "limited_by": None
    }  # fmt: skip


def test_a_limit_as_json() -> None:
    values = limit().to_json()
    assert values["product_gflop_per_s"] == 150.0
    assert (values["copy_gb_per_s_low"], values["copy_gb_per_s_high"]) == (19.0, 21.0)
    assert values["stable"] is True
    failed = limit(gflop_per_s=[], gb_per_s=[], failure="no device").to_json()
    assert failed["product_gflop_per_s"] is failed["copy_gb_per_s"] is None
    assert failed["reason"] == "no device"
