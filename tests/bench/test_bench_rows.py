"""Which rows the options ask for, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_bench.options import parse_batches, parse_tf32, parse_threads
from gan_bench.rows import MAX_ROWS, PNG_IMAGES, Row, Selection
from gan_core.errors import GanportError


def test_lists() -> None:
    assert parse_batches("1,8,25,64") == (1, 8, 25, 64)
    assert parse_batches(" 3 , 2 ") == (3, 2)
    assert parse_threads("auto") == (None,)
    assert parse_threads("auto,1,2") == (None, 1, 2)


@pytest.mark.parametrize("text", ["0", "a", "", "1,,2", "1,", ",1", "-1", "1.5", "1e3", "65537", "9" * 40, "²", "1 2"])
def test_bad_batches(text: str) -> None:
    with pytest.raises(GanportError, match="--batch takes whole numbers from 1 to 65536, got") as caught:
        parse_batches(text)
    assert "--batch 1,8,25,64" in caught.value.hint


@pytest.mark.parametrize("text", ["0", "all", "", "1,,2", "-2", "2.0", "1025", "auto,", "AUTO"])
def test_bad_threads(text: str) -> None:
    with pytest.raises(GanportError, match="--threads takes whole numbers from 1 to 1024, got") as caught:
        parse_threads(text)
    assert "auto" in caught.value.hint


MODEL = Path("g.onnx")


def test_rows_are_every_combination_once_with_batches_fastest() -> None:
    chosen = Selection((MODEL,), ("cpu", "openvino", "cpu"), (None, 2), (1, 8, 1))
    assert chosen.rows() == tuple(
        Row(provider, count, batch, model=MODEL)
        for provider in ("cpu", "openvino")
        for count in (None, 2)
        for batch in (1, 8)
    )


def test_files_of_other_precisions_are_rows_of_their_own() -> None:
    chosen = Selection((MODEL, Path("g.fp16.onnx")), ("cpu",), end_to_end=True)
    rows = chosen.rows()
    assert [row.model for row in rows] == [MODEL, Path("g.fp16.onnx")] * 2
    assert [row.task for row in rows] == ["pixels", "pixels", "png", "png"]
    assert rows[2].batch == PNG_IMAGES
    assert str(rows[3]) == "ganport g.fp16.onnx cpu, threads auto, 256 PNG files"


def test_peers_follow_the_providers() -> None:
    peers = ("eager", "stock", "openvino")
    on_cpu = Selection((MODEL,), ("cpu", "openvino"), ckpt=Path("g.pt"), peers=peers).rows()[2:]
    assert [(row.runtime, row.provider, row.precision) for row in on_cpu] == [
        ("eager", "cpu", "fp32"), ("stock", "cpu", "fp32"), ("openvino", "cpu", "fp32"),
    ]  # fmt: skip
    assert all(row.model is None for row in on_cpu)
    auto = Selection((MODEL,), ckpt=Path("g.pt"), peers=peers)
    assert [row.provider for row in auto.rows("cpu")[1:]] == ["cpu"] * 3
    on_cuda = [(row.runtime, row.precision) for row in auto.rows("cuda")[1:]]
    assert on_cuda == [("eager", "fp32"), ("eager", "fp16"), ("stock", "fp32")]


def test_tf32_makes_rows_where_there_is_tf32() -> None:
    chosen = Selection((MODEL,), ("cpu", "cuda"), tf32=(False, True), ckpt=Path("g.pt"), peers=("eager",))
    found = [(row.runtime, row.provider, row.precision, row.tf32) for row in chosen.rows()]
    assert found == [
        ("ganport", "cpu", None, False), ("ganport", "cuda", None, False), ("ganport", "cuda", None, True),
        ("eager", "cpu", "fp32", False), ("eager", "cuda", "fp32", False), ("eager", "cuda", "fp32", True),
        ("eager", "cuda", "fp16", False),
    ]  # fmt: skip


def test_tf32_is_about_fp32_alone() -> None:
    chosen = Selection((MODEL, Path("g.fp16.onnx")), ("cuda",), tf32=(False, True))
    found = [(str(row.model), row.tf32) for row in chosen.rows("cuda", ["fp32", "fp16"])]
    assert found == [("g.onnx", False), ("g.onnx", True), ("g.fp16.onnx", False)]


@pytest.mark.parametrize(("text", "values"), [("off", (False,)), ("on", (True,)), ("off, on", (False, True))])
def test_tf32(text: str, values: tuple[bool, ...]) -> None:
    assert parse_tf32(text, ["cuda"]) == values


@pytest.mark.parametrize(
    ("text", "provider", "message"),
    [
        ("", "cuda", "--tf32 takes off, on"),
        ("yes", "cuda", "got 'yes'"),
        ("on,", "cuda", "got ''"),
        ("on", "cpu", "--tf32 on needs a provider that has TF32"),
        ("off,on", "auto", "--tf32 on needs a provider"),
    ],
)
def test_bad_tf32(text: str, provider: str, message: str) -> None:
    with pytest.raises(GanportError, match=message):
        parse_tf32(text, [provider])


def test_too_many_rows() -> None:
    assert len(Selection((MODEL,), ("cpu",), batches=tuple(range(1, MAX_ROWS + 1))).rows()) == MAX_ROWS
    with pytest.raises(GanportError, match=f"{MAX_ROWS + 1} rows asked for"):
        Selection((MODEL,), ("cpu",), batches=tuple(range(1, MAX_ROWS + 2))).rows()
