"""Text from files is harmless on a terminal, wherever it comes out."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from gan_core.contract import Contract
from gan_core.errors import ContractError, GanportError
from gan_core.images import text_chunks
from gan_core.interface import Interface
from gan_core.printable import bytes_text, json_text, printable, shell_line
from gan_serve.terminal import console, layout

ROOT = Path(__file__).parents[2]
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
UNSAFE = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *BIDI, "\u2028", "\u2029", "\ud800", "\udc80", "\udfff"]
EVIL = "cat\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202egnp.exe\u2028\r\nerror: fake\tx\udcff"


@pytest.mark.slow
def test_every_unsafe_character_is_written_out_and_nothing_else_is_touched() -> None:
    for character in UNSAFE:
        shown = printable(f"a{character}b")
        assert shown.startswith("a\\")
        assert shown.endswith("b")
        assert shown.isprintable()
        assert printable(shown) == shown
    assert {c for c in map(chr, range(sys.maxunicode + 1)) if printable(c) != c} >= {
        c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")
    }
    for text in ("Füße", "猫", "قط", "👩\u200d🔬", "a b", "50\u00a0%", r"C:\new", "—∞×"):
        assert printable(text) == text
    assert printable("\n\r\t\x1b\x7f\x9b\u202e\udcff") == r"\n\r\t\x1b\u007f\u009b\u202e\udcff"


def test_json_stays_the_same_json() -> None:
    values = {"name": EVIL, "猫": [*UNSAFE, "猫"]}
    for indent in (None, 2):
        text = json_text(values, indent=indent)
        assert json.loads(text) == values
        assert printable(text, keep="\n") == text
        text.encode("utf-8")
        assert "猫" in text


def test_a_command_with_unsafe_names_can_be_copied() -> None:
    words = ["printf", "%s|", "plain", "two words", "it's", "a\\b\x1b[2J'\n", "\u202egnp", os.fsdecode(b"caf\xe9")]
    line = shell_line(words)
    assert printable(line) == line
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout == b"".join(os.fsencode(word) + b"|" for word in words[2:])
    assert shell_line(words[:4]) == "printf '%s|' plain 'two words'"


def test_notes_errors_and_hints_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = GanportError(f"no class {EVIL}", hint=f"try {EVIL}")
    assert printable(str(error)) == str(error)
    console.note(EVIL)
    console.warn(EVIL)
    console.fail(EVIL, EVIL)
    console.fail(str(error), error.hint)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 6
    assert printable(err, keep="\n") == err
    assert r"\x1b[2J\u009b31m\u007f\u202egnp.exe" in err


def test_pages_keep_their_own_lines_and_only_those(capsys: pytest.CaptureFixture[str]) -> None:
    console.show(console.table(("name", "n"), [(EVIL, "1"), ("猫", "2")]))
    console.show(console.wrap(EVIL, first="* ", rest="  "))
    console.show_json({"name": EVIL})
    out = capsys.readouterr().out
    assert printable(out, keep="\n") == out
    assert not any(line.startswith("error") for line in out.splitlines())
    assert json.loads(out.splitlines()[-1]) == {"name": EVIL}


def test_wrapping_follows_the_terminal_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "word " * 60 + "a" * 150
    for columns, widest in (("80", 80), ("300", layout.WIDEST)):
        monkeypatch.setenv("COLUMNS", columns)
        *lines, whole = console.wrap(text, first="  ", rest="    ").splitlines()
        assert widest - 8 < max(map(len, lines)) <= widest
        assert whole.strip() == "a" * 150


def test_a_contract_keeps_any_text_and_png_text_is_safe() -> None:
    about = Contract(Interface(2, (1, 4, 4), n_classes=1, class_names=(EVIL,)), source={"file": EVIL})
    metadata = about.to_metadata()
    assert all(printable(text) == text for text in metadata.values())
    read = Contract.from_metadata(metadata)
    assert read is not None
    assert read.interface.class_names == (EVIL.replace("\udcff", r"\udcff"),)
    assert read.to_metadata() == metadata
    written = text_chunks({"gan.class": EVIL})
    assert b"\x1b" not in written
    assert rb"cat\x1b]0;owned" in written


def test_a_damaged_contract_says_so_on_one_line() -> None:
    with pytest.raises(ContractError) as caught:
        Contract.from_metadata({"gan.contract": "1", f"gan.{EVIL}": "{"}, where=EVIL)
    assert printable(str(caught.value)) == str(caught.value)


@pytest.mark.slow
def test_only_the_console_prints() -> None:
    """What prints by itself would have to remember to make text harmless. A probe's answer is for its parent."""
    children = {"serve_cli/gan_serve/runtime/probe.py"}
    found = set()
    for package in ("core", "serve_cli", "trainer", "export", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    "print", "typer.echo", "click.echo", "sys.stdout.write", "sys.stderr.write", "typer.secho",
                ):  # fmt: skip
                    found.add(str(path.relative_to(ROOT)))
    assert found == {"serve_cli/gan_serve/terminal/console.py", *children}


def test_sizes_of_files() -> None:
    sizes = (0, 999, 1500, 2e6, 3_210_000_000, 4e15)
    assert [*map(bytes_text, sizes)] == ["0 bytes", "999 bytes", "1.5 kB", "2 MB", "3.21 GB", "4 PB"]
