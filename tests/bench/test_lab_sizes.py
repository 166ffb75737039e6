"""lab.sizes counts what lies in the clone, and what a command calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.running import run
from lab import sizes


@pytest.mark.slow
def test_the_table_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(sizes.app) == 0
    rows = {line[:13].strip(): line[13:].split() for line in capsys.readouterr().out.splitlines()[2:]}
    assert set(rows) == {*sizes.PACKAGES, "the wheel", "its limits", "tests"}
    for column in (0, 1, 3, 4):
        assert int(rows["the wheel"][column]) == sum(int(rows[name][column]) for name in sizes.SHIPPED)
    for of_wheel, limit in zip(rows["the wheel"], rows["its limits"], strict=True):
        assert int(of_wheel) <= int(limit), "docs/architecture.md, Sizes: say it once, or raise the limit with a reason"


def test_a_command_is_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    called = sizes.traced(["gan-gen", "--n", "1", "--out", "g.png"])
    assert (tmp_path / "g.png").is_file()
    functions = {f"{Path(file).name}:{name}" for file, names in called.items() for name in names}
    assert {"outputs.py:write_picture", "latents.py:latents"} <= functions
    assert not any("gan_export" in file for file in called)


def test_a_command_of_somebody_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(sizes.app, "--trace", "ls -l") == 2
    assert "ls is no command of ganport's" in capsys.readouterr().err
