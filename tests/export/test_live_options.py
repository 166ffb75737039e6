"""The options of `--module`: what they read, and how they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from gan_core.errors import GanportError
from gan_core.said import parse_inputs
from gan_export.answers import Answers
from gan_export.options import export_answers, parse_args, parse_constants

SAID: dict[str, Any] = {
    "args": "[3]", "z_dim": 8, "z_shape": "Dx1x1", "inputs": "y=label,x=z", "classes": 4,
    "constant": ["a=0", "b = [1, 2]"], "output_key": "image", "noise": "fixed",
}  # fmt: skip


def test_nothing_said_is_nothing() -> None:
    assert export_answers() == Answers()


def test_everything_said() -> None:
    live = export_answers(module="n.py:G", **SAID).live
    assert live is not None
    assert live.args == [3]
    assert live.inputs == (("label", "y"), ("z", "x"))
    assert live.constants == (("a", "0"), ("b", "[1, 2]"))
    assert (live.z_dim, live.z_shape, live.n_classes, live.output_key, live.noise) == (8, "Dx1x1", 4, "image", "fixed")


@pytest.mark.parametrize(("name", "value"), [("z_dim", 8), ("classes", 4), ("classes", 0)])
def test_what_any_generator_has_needs_no_module(name: str, value: Any) -> None:
    said = export_answers(**{name: value})
    assert said.live is None
    assert (said.z_dim if name == "z_dim" else said.n_classes) == value


OF_CODE = {name: value for name, value in SAID.items() if name not in ("z_dim", "classes")}


@pytest.mark.parametrize(("name", "value"), [*OF_CODE.items(), ("output_index", 0)])
def test_every_option_of_code_needs_the_module(name: str, value: Any) -> None:
    with pytest.raises(GanportError, match=f"--{name.replace('_', '-')} has no place without --module"):
        export_answers(**{name: value})


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_args, "nz=3", "--args is not JSON"),
        (parse_args, "3", "--args must be an object or a list"),
        (parse_args, '"nz"', "--args must be an object or a list"),
        (parse_args, "{'nz': 3}", "--args is not JSON"),
        (parse_constants, ["noise"], "--constant must be NAME=VALUE"),
        (parse_constants, ["=0"], "--constant must be NAME=VALUE"),
        (parse_constants, ["a b=0"], "--constant must be NAME=VALUE"),
        (parse_constants, ["a=0", "a=1"], "--constant a is given twice"),
        (parse_inputs, "", "`inputs` must list z and label"),
        (parse_inputs, "noise", "`inputs` must list z and label"),
        (parse_inputs, "z,z", "one z and at most one label"),
        (parse_inputs, "label", "one z and at most one label"),
        (parse_inputs, "x=z,label", "by position after one by name"),
        (parse_inputs, "1x=z", "`inputs` must list z and label"),
    ],
)
def test_what_does_not_read(parse: Any, text: Any, message: str) -> None:
    with pytest.raises(GanportError, match=message) as raised:
        parse(text)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_index": 0, "output_key": "x"}, "name two outputs"),
        ({"noise": "white"}, "--noise must be one of zero, fixed"),
    ],
)
def test_what_does_not_go_together(change: dict[str, Any], message: str) -> None:
    with pytest.raises(GanportError, match=message):
        export_answers(module="n.py:G", **change)
