"""gan-train report: one page that stands alone, whatever the run's folder holds."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_core.files.model_file import sha256_of
from gan_serve.terminal import console
from gan_trainer.cli import NAME, app
from gan_trainer.evaluation import Evaluation, FeaturesInfo, Metrics

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]
EVIL = "<script>alert('x')</script>&amp;\"</title>"
CONFIG: dict[str, Any] = {
    "data": EVIL, "data_name": EVIL, "fingerprint": "f" * 64, "n_images": 12, "seed": 0, "class_names": [EVIL],
    "limit": {"unit": "steps", "amount": 20},
    "recipe": {"name": "default", "arch": "dcgan", "size": 28, "channels": 3, "ema_beta": None, "betas": [0.0, 0.9]},
}  # fmt: skip


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            console.run(app, NAME, ["report", *map(str, args)])
        printed = capsys.readouterr()
        return int(done.value.code or 0), printed.out, printed.err

    return run


def line(step: int, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "images": step,
        "loss_d": 1.0 / (step + 1),
        "loss_g": 1.0,
        "d_x": 0.5,
        "images_per_s": 9.0,
        **more,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run as gan-train leaves it, with a hostile name."""
    path = tmp_path / "run <i>&lt; 1"
    (path / "samples").mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "log.jsonl").write_text("".join(json.dumps(line(step)) + "\n" for step in range(1, 21)))
    rng = np.random.default_rng(0)
    for step in (0, 10, 20):
        Image.fromarray(rng.integers(0, 256, (62, 62, 3), np.uint8)).save(path / f"samples/step-{step:07d}.png")
    figure = np.full((200, 400, 3), 255, np.uint8)
    figure[60:190, 30:160], figure[60:190, 240:370] = 10, 90
    figure[20:30, 60:120] = 0  # a title
    Image.fromarray(figure).save(path / "real_vs_fake.png")
    (path / "g.pt").write_bytes(b"not a checkpoint")
    return path


class Page(HTMLParser):
    """Open tags that are never closed, and everything that a tag refers to."""

    VOID = ("meta", "link", "img", "input", "line", "polyline", "circle")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.refers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.refers += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(folder: Path) -> tuple[str, Page]:
    text = (folder / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.open == []
    return text, page


def test_the_page_stands_alone_and_every_text_is_escaped(report: Run, folder: Path) -> None:
    code, out, err = report(folder)
    assert (code, out) == (0, f"{folder}/report.html\n")
    assert "g.pt is not described" in err
    text, page = page_of(folder)
    assert page.refers
    assert all(target.startswith("data:") for target in page.refers)
    assert not re.search(r"https?:|url\(|@import", text)
    assert page.tags.count("script") == 2, "ours and its data"
    assert page.tags.count("i") == 0
    assert "&lt;script&gt;alert" in text
    assert page.tags.count("svg") == 3
    assert page.tags.count("h2") == 6


def test_history_holds_every_sample_as_it_is(report: Run, folder: Path) -> None:
    report(folder)
    text, _ = page_of(folder)
    frames = re.search(r'<script type="application/json">(.*?)</script>', text)
    assert frames
    steps = json.loads(frames[1])
    assert [step for step, _ in steps] == [0, 10, 20]
    first = base64.b64decode(steps[0][1].removeprefix("data:image/png;base64,"))
    assert first == (folder / "samples/step-0000000.png").read_bytes()


def test_many_large_samples_are_thinned_and_packed(report: Run, folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    for step in range(100, 190):
        Image.fromarray(noise).save(folder / f"samples/step-{step:07d}.png")
    report(folder)
    text, _ = page_of(folder)
    frames = json.loads(re.search(r'<script type="application/json">(.*?)</script>', text)[1])  # type: ignore[index]
    assert len(frames) == 40
    assert (frames[0][0], frames[-1][0]) == (0, 189)
    assert frames[20][1].startswith("data:image/webp")
    assert len(text) < 4_000_000


def test_real_and_generated_are_cut_from_the_figure(report: Run, folder: Path) -> None:
    report(folder)
    text, _ = page_of(folder)
    grids = re.findall(r'alt="A grid of images: (\w+)" width="(\d+)" height="(\d+)"', text)
    assert grids == [("real", "130", "130"), ("generated", "130", "130")]


def test_rows_of_samples_are_named_where_they_are_classes(report: Run, folder: Path) -> None:
    report(folder)
    assert "One row for each class" not in page_of(folder)[0]
    classes = [EVIL, *map(str, range(30))]
    config = {**CONFIG, "class_names": classes, "recipe": {**CONFIG["recipe"], "conditional": True}}
    (folder / "config.json").write_text(json.dumps(config))
    report(folder)
    text, page = page_of(folder)
    assert re.search(r"One row for each class, from the top: &lt;script&gt;.*, 0, 1, .*, 18\.</p>", text)
    assert page.tags.count("script") == 2


@pytest.mark.parametrize(("loss", "title"), [("hinge", "Probability of real"), ("wasserstein", "Output of D")])
def test_a_probability_is_shown_only_where_there_is_one(report: Run, folder: Path, loss: str, title: str) -> None:
    config = {**CONFIG, "recipe": {**CONFIG["recipe"], "loss": loss}}
    (folder / "config.json").write_text(json.dumps(config))
    lines = [line(step) | {"d_x": -37.5 if loss == "wasserstein" else 0.5} for step in (1, 2)]
    (folder / "log.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    report(folder)
    text, _ = page_of(folder)
    assert re.findall(r"<h3>((?:Probability|Output)[\w ]*)", text)[0].startswith(title)


def test_evaluations_say_whether_they_are_of_this_generator(report: Run, folder: Path) -> None:
    def kept(name: str, sha256: str, metrics: Metrics) -> None:
        info = FeaturesInfo(name, "abcdef012345", 64, f"features of {EVIL}")
        model = {"file": "g.pt", "sha256": sha256, "steps": 7000}
        found = Evaluation(model, {"name": "d", "class_names": []}, info, 50, 50, 0, metrics, metrics, 50)
        (folder / f"eval-{name}.json").write_text(found.dumps())

    kept("classifier", sha256_of(folder / "g.pt"), Metrics(1.25, 0.5, 0.1, 0.9, 0.8, 0.7, 0.6))
    kept("swd", "0" * 64, Metrics(sliced=((28, 3.5),)))
    (folder / "eval-inception.json").write_text("{}")
    _, _, err = report(folder)
    assert "eval-inception.json is left out" in err
    text, page = page_of(folder)
    assert page.tags.count("table") == 2, "numbers of different features share no table"
    assert text.count("Of an earlier g.pt at step 7,000") == 1
    assert "1.250" in text
    assert "3.50" in text
    assert text.count("50 images against 50 real ones of d.") == 2


def test_an_empty_run_has_a_page(report: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert report(tmp_path)[0] == 0
    _, page = page_of(tmp_path)
    assert page.tags.count("h2") == 2


def test_damaged_parts_are_left_out_with_a_note(report: Run, folder: Path) -> None:
    (folder / "samples/step-0000010.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    (folder / "real_vs_fake.png").write_bytes(b"")
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"step": 21, "loss_d": NaN, "loss_g": Infinity, "new_number": 1.5}\n{"step": 22, "lo')
    code, _, err = report(folder)
    assert code == 0
    assert "step-0000010.png is left out" in err
    assert "real_vs_fake.png is left out" in err
    text, page = page_of(folder)
    assert page.tags.count("svg") == 4, "a number that this version does not know has a curve too"
    assert "new number" in text
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<style>.*?</style>", "", text, flags=re.S))


def test_out(report: Run, folder: Path, tmp_path: Path) -> None:
    assert report(folder, "--out", tmp_path / "sub" / "page.html")[0] == 0
    assert (tmp_path / "sub" / "page.html").exists()
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (("nowhere",), "nowhere is no folder, expected the folder of a run", "gan-train makes one"),
        (("file.txt",), "file.txt is a file", "gan-train makes one"),
        ((".",), ". holds no run: no config.json", "runs in it: broken, list, run"),
        (("empty",), "empty holds no run", "name a folder"),
        (("broken",), "does not read as a run's configuration", ""),
        (("list",), "does not read as a run's configuration", ""),
        ((), "Missing argument", "--help"),
        (("run", "--out", "page.pdf"), "a report's name ends in .html, got page.pdf", "--out"),
        (("run", "--out", "file.txt/page.html"), "cannot write", ""),
    ],
)
def test_wrong_input(
    args: tuple[str, ...], message: str, hint: str, report: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    folder.rename("run")
    Path("empty").mkdir()
    for name, text in (("broken", "{"), ("list", "[]")):
        Path(name).mkdir()
        Path(name, "config.json").write_text(text)
    Path("file.txt").write_text("")
    code, out, err = report(*args)
    assert (code, out) == (2, "")
    assert message in err
    assert hint in err


def logged(folder: Path, **more: Any) -> None:
    (folder / "log.jsonl").write_text("".join(json.dumps(line(step, **more)) + "\n" for step in range(1, 21)))


@pytest.mark.parametrize(
    ("more", "loss", "said"),
    [
        (
            {"d_x": 0.52, "d_g_z1": 0.47, "diversity": 0.9},
            "hinge",
            ("kept each other even", "0.52", "as diverse as", "90%"),
        ),
        ({"d_x": 0.7, "d_g_z1": 0.3, "diversity": 0.7}, "bce", ("was ahead, as is usual", "somewhat less diverse")),
        ({"d_x": 0.95, "d_g_z1": 0.02, "diversity": 0.4}, "bce", ("was far ahead", "much less diverse")),
        ({"d_x": 4.0, "d_g_z1": 1.0}, "wasserstein", ("3 apart on its own scale", "diversity was not measured")),
        ({"noticed": ["d_too_strong", "collapse"]}, "bce", ("without error in the end", "have become alike")),
        ({"d_x": "high", "diversity": True, "noticed": 3}, "bce", ("made 20 steps", "not measured")),
    ],
)
def test_how_a_run_went_is_said(
    more: dict[str, Any], loss: str, said: tuple[str, ...], report: Run, folder: Path
) -> None:
    config = {**CONFIG, "recipe": {**CONFIG["recipe"], "loss": loss}}
    (folder / "config.json").write_text(json.dumps(config))
    logged(folder, **more)
    report(folder)
    told = re.search(r'<p class="told">(.*?)</p>', page_of(folder)[0])
    assert told
    assert told[1].count(". ") == 1, "two sentences"
    assert all(part in told[1] for part in said), told[1]
    assert "their distance to the data was not measured" in told[1]


def test_the_configuration_in_words_and_what_comes_next(report: Run, folder: Path) -> None:
    logged(folder)
    report(folder)
    text, page = page_of(folder)
    assert "12 RGB images of 28×28 from" in text
    assert "trained on for 20 steps by the recipe default." in text
    assert page.tags.count("pre") == 3
    assert "gan-train eval &#x27;" in text
    assert "gan-gen --model" in text
    config = {**CONFIG, "limit": {"unit": "steps", "amount": 40}}
    (folder / "config.json").write_text(json.dumps(config))
    report(folder)
    assert "gan-train --resume --out" in page_of(folder)[0]


def test_two_runs_beside_each_other(report: Run, folder: Path) -> None:
    other = folder.with_name("other")
    other.mkdir()
    config = {**CONFIG, "seed": 7, "recipe": {**CONFIG["recipe"], "width": 8}}
    (other / "config.json").write_text(json.dumps(config))
    (other / "log.jsonl").write_text("".join(json.dumps(line(step)) + "\n" for step in range(100, 200)))
    code, out, _ = report(folder, other)
    made = folder.parent / f"{folder.name}-and-other.html"
    assert (code, out) == (0, f"{made}\n")
    text = made.read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert page.tags.count("h1") == 2
    assert page.tags.count("svg") == 4, "each number has a chart with both runs in it"
    assert text.count('<span class="key c1">other</span>') == 4
    rows = dict(re.findall(r'<tr><th scope="row">(\w+)</th><td>(.*?)</td></tr>', text))
    assert rows == {"seed": "0</td><td>7", "width": "not set</td><td>8"}
    code, _, err = report(folder, "nowhere")
    assert (code, "nowhere is no folder" in err) == (2, True)
    (other / "config.json").write_text(json.dumps(CONFIG))
    report(folder, other, "--out", folder / "same.html")
    assert "In no setting." in (folder / "same.html").read_text()


def test_needs_no_torch(folder: Path) -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom gan_trainer.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "report", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sha256" in page_of(folder)[0]
