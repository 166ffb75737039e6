"""Messages between processes: what is written is read again, and what does not fit is one clear error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.made_records import OPENED
from gan_bench.messages import MessageError, read, write
from gan_bench.parity import Difference
from gan_bench.questions import QUESTIONS, Done, Failed, Memory, Open, Prepare, Question, TakeWindow, Unpack, Window
from gan_serve.runtime.onnx_answers import OnnxAnswers

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
        Window(1.5, (1, 2, 3), Difference(1, 2, 3, float("inf")), Memory(1)),
        Window(1.0, (), Difference()),
        Done(),
        Failed("a line\nand another"),
    ],
)
def test_a_message_reads_back(message: Any) -> None:
    line = write(message)
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    assert read(line, *QUESTIONS, type(message)) == message


def test_every_question_has_one_answer() -> None:
    assert all(issubclass(kind, Question) for kind in QUESTIONS)
    assert {kind.__name__: kind.answer().__name__ for kind in QUESTIONS} == {
        "Unpack": "Unpacked", "Open": "Opened", "DrawReference": "Done", "Prepare": "Prepared",
        "TakeWindow": "Window", "ChooseProduct": "Product", "TakeRates": "Rates",
    }  # fmt: skip


WINDOW: dict[str, Any] = json.loads(write(Window(1.0, (1, 2), Difference())))["Window"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seconds": 3}, "Window has no seconds"),
        ({"elapsed_s": "long"}, "Window.elapsed_s is 'long', expected float"),
        ({"elapsed_s": True}, "Window.elapsed_s is 'True', expected float"),
        ({"elapsed_s": None}, "Window.elapsed_s is 'None', expected float"),
        ({"latencies_ns": 5}, r"Window.latencies_ns is '5', expected tuple"),
        ({"latencies_ns": [1, 2.5]}, "Window.latencies_ns is '2.5', expected int"),
        ({"difference": {"max_lsb": "0"}}, "Window.difference.max_lsb is '0', expected int"),
        ({"difference": []}, "Window.difference is '..', expected Difference"),
        ({"peak": {"rss_bytes": 1.5}}, "Window.peak.rss_bytes is '1.5', expected int"),
    ],
)
def test_fields_that_do_not_fit(values: dict[str, Any], message: str) -> None:
    with pytest.raises(MessageError, match=message):
        read(json.dumps({"Window": WINDOW | values}), Window)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "something that is not JSON: ''"),
        ("hello\n", "something that is not JSON: 'hello'"),
        ("[]", "expected Window or Done, got '..'"),
        ("{}", "expected Window or Done, got"),
        ('{"Open": {}}', "expected Window or Done, got '{\"Open"),
        ('{"Done": {}, "Window": {}}', "expected Window or Done"),
        ('{"Done": 5}', "Done is '5', expected Done"),
        ('{"Window": {"elapsed_s": 1.0}}', "Window lacks latencies_ns"),
    ],
)
def test_lines_that_are_no_message(line: str, message: str) -> None:
    with pytest.raises(MessageError, match=message):
        read(line, Window, Done)


def test_a_word_out_of_a_few() -> None:
    line = write(Prepare(1, "png", Path("x"))).replace("png", "gif")
    with pytest.raises(MessageError, match=r"Prepare\.task is 'gif'"):
        read(line, Prepare)


def test_a_field_that_no_message_can_hold() -> None:
    @dataclass(frozen=True)
    class Odd:
        value: object

    with pytest.raises(MessageError, match="a set fits no message"):
        write(Odd({1}))
