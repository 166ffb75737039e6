"""Two checkouts beside each other: this one with itself, and what is no checkout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.running import run
from gan_core.errors import GanportError
from lab import beside
from lab.processes import Command


@pytest.mark.long
@pytest.mark.slow
def test_this_checkout_beside_itself(tmp_path: Path, model: Path) -> None:
    target = tmp_path / "beside.json"
    options = ("--other", beside.ROOT, "--model", model, "--n", 30, "--runs", 1, "--json", target)
    assert run(beside.app, *options) == 0
    made = json.loads(target.read_text())
    assert (made["tool"], made["images"]) == ("lab.beside", 30)
    assert list(made["tasks"]) == ["picture", "folder", "drawing"]
    for task in made["tasks"].values():
        assert task["ratio"] == pytest.approx(task["this"]["wall_s"] / task["other"]["wall_s"], rel=0.01)
        assert task["ratio_low"] == task["ratio"] == task["ratio_high"]
    assert [task["pixels_max_lsb"] for task in made["tasks"].values()] == [0, 0, None]
    assert made["commits"]["this"] == made["commits"]["other"]


def test_the_ratio_is_of_runs_that_came_one_after_the_other(tmp_path: Path) -> None:
    """A machine that becomes twice as slow half-way changes both runs, not their ratio."""
    this = Command("this", [], tmp_path, [1.1, 2.2, 2.2], [1, 1, 1])
    other = Command("other", [], tmp_path, [1.0, 2.0, 1.0], [1, 1, 1])
    made = beside.compare(this, other)
    assert (made["ratio"], made["ratio_low"], made["ratio_high"]) == (1.1, 1.1, 2.2)
    text = beside.render({"tasks": {"picture": made}, "commits": {"this": "abc", "other": "def"}})
    assert text.splitlines()[-1] == "this takes, times the other: picture 1.100 (1.100–2.200)"


def test_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(GanportError, match="is no checkout of this project") as caught:
        beside.project_of(tmp_path)
    assert "git worktree" in caught.value.hint
