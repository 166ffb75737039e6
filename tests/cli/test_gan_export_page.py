"""The sheet of candidates as a page, and as a picture in a terminal that shows pictures."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cli.conftest import Run
from export.foreign_networks import settled
from export.tiny import save_checkpoint
from gan_export import asking
from gan_export.answers import Answers
from gan_export.asking import Candidate, candidates_of
from gan_export.identify import Identified, identify
from gan_export.inspection import Advice, Kind, advise, export_command
from gan_export.page import MAX_SIDE, page_of
from gan_serve.terminal import console
from gan_serve.terminal.layout import CHUNK, protocol_of, sequence

HOSTILE = "<img src=x onerror=alert(1)>\u2066'\"&"


class Page(HTMLParser):
    """`tags` in order, with their attributes; `text` of what a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def sources(self) -> list[str]:
        return [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Identified:
    """A generator without BatchNorm, whose file and keys have hostile names."""
    net = settled(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh()))
    path = tmp_path_factory.mktemp("page") / f"{HOSTILE}.pth"
    torch.save({HOSTILE: net.state_dict()}, path)
    return identify(path, Answers())


@pytest.fixture(scope="module")
def candidates(found: Identified) -> list[Candidate]:
    return candidates_of(found)


def test_a_row_for_each_candidate_with_images_and_the_command(found: Identified, candidates: list[Candidate]) -> None:
    assert len(candidates) > 2
    page = Page(page_of(found, advise(found), candidates))
    assert sum(tag == "li" for tag, _ in page.tags) == len(candidates) + 1
    for one in candidates:
        assert export_command(found, "--pick", str(one.number)) in page.text
        assert one.words in page.text
    assert page.text.count("None of these") == 1
    assert "--module FILE.py:CLASS" in page.text
    assert found.reading.sha256 in page.text
    assert found.draft is not None
    for choice in found.draft.choices:
        assert choice.reason in page.text
    sources = page.sources()
    assert len(sources) == 10 * len(candidates)
    with Image.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2]))) as picture:
        assert picture.size == (28, 28)
        assert np.array_equal(np.asarray(picture), candidates[0].pixels[0, ..., 0])


def test_nothing_is_run_or_fetched_and_names_are_escaped(found: Identified, candidates: list[Candidate]) -> None:
    text = page_of(found, advise(found), candidates)
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "form", "a"})
    assert all(source.startswith("data:image/png;base64,") for source in page.sources())
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not re.search(r"https?://|url\(|@import", text)
    assert "\u2066" not in text
    assert "<img src=x onerror=alert(1)>\\u2066'\"&" in page.text
    assert "prefers-color-scheme: dark" in text


def test_large_images_are_made_smaller(found: Identified) -> None:
    large = Candidate(1, 1.0, "", torch.zeros(2, 600, 600, 3, dtype=torch.uint8).numpy())
    sources = Page(page_of(found, advise(found), [large])).sources()
    with Image.open(io.BytesIO(base64.b64decode(sources[1].partition(",")[2]))) as picture:
        assert picture.size == (MAX_SIDE, MAX_SIDE)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(Kind.EXPORT, "Everything is settled."), (Kind.LOOK, "Take the row"), (Kind.NOT, "the draft is likely wrong")],
)
def test_the_page_says_how_far_to_trust_it(kind: Kind, words: str, found: Identified) -> None:
    assert words in Page(page_of(found, Advice(kind, "the draft is likely wrong: x"), [])).text


def test_a_checkpoint_of_ours_has_one_row(tmp_path: Path, run: Run) -> None:
    g, page = save_checkpoint(tmp_path / "g.pt"), tmp_path / "g.html"
    code, out, err = run("inspect", g, "--html", page)
    assert (code, err) == (0, f"the page is in {page}\n")
    assert "\x1b" not in out
    text = Page(page.read_text("utf-8")).text
    assert text.count(f"gan-export {g}") == 1
    assert "--pick" not in text
    assert "None of these" not in text


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("g.pt", "--html", "page.pdf"), "a page's name ends in .html, got page.pdf", "--html page.html"),
        (("g.pt", "--html", "g.pt"), "--html and --ckpt name the same file", "choose another name"),
        (("g.pt", "--html", "."), "is a folder", ""),
        (("g.pt", "--html", "g.pt/p.html"), "cannot write", ""),
        ((".", "--html", "p.html"), "--html has no place with several files", "leave out --html"),
        (("page.pth", "--html", "p.html"), "is an HTML page", "download it again"),
    ],
)
def test_wrong_pages(
    arguments: tuple[str, ...], message: str, hint: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "g.pt")
    (tmp_path / "page.pth").write_bytes(b"<!DOCTYPE html><html>")
    monkeypatch.chdir(tmp_path)
    code, out, err = run("inspect", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert hint in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.pt", "page.pth"]


def test_an_export_that_asks_says_how_to_get_the_page(
    found: Identified, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asking.ask(found, tmp_path / "g.onnx")
    line = next(line for line in capsys.readouterr().err.splitlines() if "as a page" in line)
    assert line.endswith("--html g.candidates.html")
    assert "gan-export inspect " in line


def test_commands_keep_what_was_said(found: Identified) -> None:
    said = Answers(
        activation={"name": "leaky_relu", "slope": 0.2}, z_dim=6, n_classes=0, discriminator=Path("d"), pick=2
    )
    told = replace(found, answers=said)
    before = "gan-export "
    given = "--z-dim 6 --classes 0 --discriminator d --pick 2 --activation leaky_relu:0.2"
    name = export_command(found).removeprefix(before)
    assert export_command(told) == f"{before}{name} {given}"
    picked = given.replace(" --pick 2", "") + " --pick 3"
    assert export_command(told, "--pick", "3") == f"{before}{name} {picked}"
    assert export_command(told, "--module", "m.py:G") == f"{before}{name} --z-dim 6 --classes 0 --module m.py:G"


# -------------------------------------------------------------------------------------------------- terminals


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({}, ""),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, ""),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"KITTY_WINDOW_ID": "1", "TMUX": "/tmp/tmux"}, ""),
        ({"TERM": "screen-256color", "LC_TERMINAL": "iTerm2"}, ""),
    ],
)
def test_terminals_that_show_pictures(environ: dict[str, str], protocol: str) -> None:
    assert protocol_of(environ) == protocol


def test_what_each_protocol_sends() -> None:
    png = bytes(range(256)) * 40
    iterm = sequence(png, "iterm")
    assert iterm.startswith("\x1b]1337;File=inline=1;size=10240;")
    assert base64.b64decode(iterm.removesuffix("\x07").rpartition(":")[2]) == png
    commands = sequence(png, "kitty").split("\x1b\\")[:-1]
    keys, data = zip(*(command.removeprefix("\x1b_G").split(";") for command in commands), strict=True)
    assert keys == ("a=T,f=100,q=2,m=1", "m=1", "m=1", "m=0")
    assert max(map(len, data)) <= CHUNK
    assert base64.b64decode("".join(data)) == png


def test_the_sheet_is_shown_in_such_a_terminal_alone(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    g = save_checkpoint(tmp_path / "g.pt")
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setenv("TERM", "xterm-kitty")
    piped = run("inspect", g)[1]
    assert "\x1b" not in piped
    monkeypatch.setattr(console, "shows_pictures", lambda *_: True)
    shown = run("inspect", g)[1]
    assert shown.startswith(piped)
    assert shown[len(piped) :].startswith("\x1b_Ga=T")
    assert "\x1b" not in run("inspect", g, "--json")[1]
