"""Tables and colours: at every width, in a pipe, and by the variables that people set."""

from __future__ import annotations

import io
import os
import re

import pytest

from gan_serve.terminal import console
from gan_serve.terminal.layout import Column, painted, state, table, width

PATH = "runs/a folder with a long name/of-a-run/g.pt"
COLUMNS = (
    Column("file", fit="line", least=8),
    Column("images/s", right=True),
    Column("p99 ms", right=True, drop=2),
    Column("where", fit="cut", least=8, drop=1),
    Column("name", fit="middle", least=9),
    Column("", state=True),
)
ROWS = (
    ("g.pt", "1,234,567", "0.123", "in the third node of the graph", "a name that goes on", "ok"),
    "photos/",
    (PATH, "12", "9.5", "", "short", "FAIL"),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TERM", raising=False)


def unmarked(text: str) -> str:
    return painted(text, io.StringIO())


def test_a_pipe_gets_all_of_it() -> None:
    lines = unmarked(table(COLUMNS, ROWS)).splitlines()
    assert len(lines) == 5
    assert lines[2].split("  ")[-1] == "ok"
    assert "in the third node of the graph  a name that goes on" in lines[2]
    assert lines[3] == "photos/"
    assert lines[4].startswith(PATH)


@pytest.mark.parametrize("limit", range(44, 130))
def test_no_line_is_longer_and_no_number_is_broken(limit: int) -> None:
    lines = unmarked(table(COLUMNS, ROWS, limit=limit)).splitlines()
    assert max(len(line) for line in lines) <= limit or max(lines, key=len) == PATH
    text = "\n".join(lines)
    assert PATH in text
    assert "1,234,567" in text
    assert re.search(r"1,234,567.* ok$", text, re.MULTILINE)
    for name, value in (("p99 ms", "0.123"), ("where", "in the")):
        assert (value in text) == (name in lines[0])
        assert (name in lines[-1]) == (name not in lines[0]), "what is left out is named"


def test_columns_go_in_the_order_that_was_given() -> None:
    heads = [unmarked(table(COLUMNS, ROWS, limit=limit)).splitlines()[0] for limit in range(130, 30, -1)]
    first_gone = [min((i for i, head in enumerate(heads) if name not in head), default=99) for name in ("p99", "where")]
    assert first_gone[0] < first_gone[1] < 99
    assert all("images/s" in head for head in heads)


def test_text_is_cut_wrapped_or_kept() -> None:
    def cell(fit: str, text: str, limit: int = 9) -> list[str]:
        return table([Column("", fit=fit, least=3)], [[text]], limit=limit).splitlines()[2:]  # type: ignore[arg-type]

    assert cell("keep", "one two three") == ["one two three"]
    assert cell("cut", "one two three") == ["one two …"]
    assert cell("middle", "one two three") == ["one …hree"]
    assert cell("wrap", "one two three") == ["one two", "three"]
    assert cell("line", "one two three") == ["one two three"]
    assert cell("cut", "図図図図図図") == ["図図図図…"], "two columns each"
    assert cell("cut", "e\u0301" * 9) == ["e\u0301" * 9], "an accent takes none"


def test_a_table_without_rows_and_one_with_heads_only() -> None:
    assert table(["a", "b"], []) == "a  b\n─  ─"
    assert table(["a", "b"], [["x", "10"], ["long", "1"]], right=(1,)) == "a      b\n────  ──\nx     10\nlong   1"
    assert table(["a"], [["x\x1b[31m\ufdd3"]]).splitlines()[-1] == r"x\x1b[31m\ufdd3", "a file brings no colour"


@pytest.mark.parametrize(
    ("environment", "terminal", "coloured"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"CLICOLOR_FORCE": "1"}, False, True),
        ({"CLICOLOR": "0"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colours(environment: dict[str, str], terminal: bool, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if terminal else io.StringIO()
    console.show(table([Column("", state=True), "n"], [["ok", "1"], ["FAIL", "2"], ["weak", "3"], ["eh", "4"]]), stream)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert plain == "      n\n────  ─\nok    1\nFAIL  2\nweak  3\neh    4\n"
    assert stream.getvalue().count("\x1b[0m") == (3 if coloured else 0)


def test_a_line_for_people_has_its_first_word_coloured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    console.fail("a: b", "c")
    console.note("ok: d")
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "\x1b[1;38;5;196merror\x1b[0m: a: b"
    assert second == "\x1b[1mhint\x1b[0m: c"
    assert third == "ok: d"


def test_a_word_has_the_colour_of_what_it_says() -> None:
    marks = {state(word)[0] for word in ("ok", "proved", "strong")}, {state(word)[0] for word in ("FAIL", "WRONG")}
    assert [len(each) for each in marks] == [1, 1]
    assert not marks[0] & marks[1]
    assert state("in between") == "in between"


@pytest.mark.parametrize(("said", "expected"), [("60", 60), ("0", None), ("-5", None), ("wide", None), ("", None)])
def test_the_width_is_what_columns_says(said: str, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", said)
    assert width(io.StringIO()) == expected


def test_the_width_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, other = os.openpty()
    with os.fdopen(other, "w") as stream:
        assert width(stream) == 80, "one that says 0"
        monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((132, 40)))
        assert width(stream) == 132
    os.close(terminal)
