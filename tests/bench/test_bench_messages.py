"""Messages between processes: what is written is read again, and what does not fit is one clear error."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path
from typing import Any

import pytest

from bench.made_records import OPENED
from gan_bench.parity import Difference
from gan_bench.questions import (
    ChooseProduct,
    DrawReference,
    Failed,
    MessageError,
    Open,
    Prepare,
    Question,
    Rates,
    TakeRates,
    TakeWindow,
    Unpack,
    Window,
    read,
    write,
)
from gan_core.said import OnnxAnswers

QUESTIONS: tuple[type[Question[Any]], ...] = (
    Unpack, Open, DrawReference, Prepare, TakeWindow, ChooseProduct, TakeRates,
)  # fmt: skip
ANSWERS = OnnxAnswers(
    (0.0, 1.0), (3, 8, 8), "uniform", 16, 10, (("a", "z"), ("b", None)), (("psi", 0.7), ("x", 1.0)), "y"
)


@pytest.mark.parametrize(
    "message",
    [
        Unpack(Path("g.pt"), Path("folder"), None, True),
        Unpack(Path("g.pt"), Path("folder"), Path("g.onnx"), False, trust_script=True),
        Open("ganport", Path("a folder/g.onnx"), "cpu", None),
        Open("compile", Path("g.pt"), "cuda", 2, "fp16", True, (1, 8)),
        Open("ganport", Path("g.onnx"), "cpu", None, answers=ANSWERS),
        Prepare(8, "png", Path("x.npz")),
        TakeWindow(1, 1.0, 34),
        OPENED,
        Window(1.5, (1, 2, 3), Difference(1, 2, 3, float("inf")), 1),
        Window(1.0, (), Difference()),
        None,
        Failed("a line\nand another"),
    ],
)
def test_a_message_reads_back(message: Any) -> None:
    line = write(message)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert read(line, *QUESTIONS, type(message)) == message


def test_every_question_has_one_answer() -> None:
    assert {kind.__name__: kind.answer().__name__ for kind in QUESTIONS} == {
        "Unpack": "Unpacked", "Open": "Opened", "DrawReference": "NoneType", "Prepare": "Prepared",
        "TakeWindow": "Window", "ChooseProduct": "Product", "TakeRates": "Rates",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "expected Window or Rates, got something else: ''"),
        ("hello\n", "something else: 'hello'"),
        ("x" * 1000, "something else: 'x{60}'$"),
        (base64.b64encode(b"no pickle").decode(), "something else"),
        (write(Rates(1.0, None))[:-9], "something else"),
        (base64.b64encode(pickle.dumps(Rates(1.0, None)).replace(b"Rates", b"Gates")).decode(), "something else"),
        (write(Failed("")), "expected Window or Rates, got Failed"),
        (write({"Rates": {}}), "expected Window or Rates, got dict"),
    ],
)
def test_lines_that_are_no_message(line: str, message: str) -> None:
    with pytest.raises(MessageError, match=message):
        read(line, Window, Rates)
