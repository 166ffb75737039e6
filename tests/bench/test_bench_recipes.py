"""The table of recipes: what the command line names, equal budgets, and a record that grows and is gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gan_bench import recipes
from gan_bench.recipe_variants import parse_data, parse_variant
from gan_serve import console
from gan_serve.errors import GanportError

TINY = ":width=2:z_dim=4:batch_size=32:report_every=4"


@pytest.mark.parametrize(
    ("text", "name", "size"),
    [
        ("digits", "digits", None),
        ("fashion-mnist@32", "fashion-mnist", 32),
        ("folder:some/path@64", "some/path", 64),
        ("folder:odd@name@28", "odd@name", 28),
    ],
)
def test_data(text: str, name: str, size: int | None) -> None:
    data = parse_data(text)
    assert (data.text, data.name, data.size) == (text, name, size)


@pytest.mark.parametrize("text", ["digits@33", "digits@", "digits@big", "", "folder:", "@32"])
def test_wrong_data(text: str) -> None:
    with pytest.raises(GanportError, match="--data"):
        parse_data(text)


def test_variants() -> None:
    recipe = parse_variant("r3gan:augment=translation,cutout:width=48:lr_d=1e-3:betas=[0,0.9]:conditional=true").recipe
    assert (recipe.name, recipe.augment, recipe.width, recipe.lr_d) == ("r3gan", "translation,cutout", 48, 1e-3)
    assert recipe.betas == (0, 0.9)
    assert recipe.conditional
    assert parse_variant("default:ema_beta=null").recipe.ema_beta is None
    assert parse_variant("default:penalty_weight=1:penalty=r1").recipe.penalty_weight == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "unknown preset 'nothing'"),
        ("default:", "expected field=value, got ''"),
        ("default:width", "expected field=value, got 'width'"),
        ("default:colour=1", "expected field=value, got 'colour=1'"),
        ("default:size=32", "expected field=value"),
        ("default:steps=5", "expected field=value"),
        ("default:width=wide", "width must be like 64, got 'wide'"),
        ("default:width=1.5", "width must be like 64"),
        ("default:width=0", "width must be at least 1"),
        ("default:conditional=1", "conditional must be like False"),
        ("default:loss=lsgan", "loss must be one of"),
        ("default:penalty=gp", "penalty gp with weight 0"),
    ],
)
def test_wrong_variants(text: str, message: str) -> None:
    with pytest.raises(GanportError, match=message):
        parse_variant(text)


def test_budgets_are_equal() -> None:
    """As many images drawn in updates of G."""
    for text, steps in (("default", 100), ("default:batch_size=32", 200), ("wgan-gp", 500), ("dcgan96", 64)):
        variant = parse_variant(text)
        assert variant.steps(100) == steps
        updates = steps // variant.recipe.n_critic
        assert abs(updates * variant.recipe.batch_size - 6400) < variant.recipe.batch_size


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        console.run(recipes.app, recipes.NAME, [str(argument) for argument in arguments])
    return int(done.value.code or 0)


def test_a_record_grows_and_is_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANPORT_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "recipes.json"
    common = ("--data", "digits", "--steps", 4, "--features", "swd", "--n", 40, "--device", "cpu", "--json", file)
    good, bad = f"default{TINY}", f"default{TINY}:lr_g=1e30"
    assert run(*common, "--preset", good, "--preset", bad) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    record = json.loads(file.read_text())
    first, second = record["rows"]
    assert (first["status"], first["steps"], first["variant"]) == ("ok", 8, good)
    assert first["distance"] > first["floor"] > 0
    assert first["images_per_s"] > 0
    assert second["status"] == "failed"
    assert "diverged" in second["error"]
    assert f"| `{good}` | {first['distance']:g} |" in printed
    assert f"| `{bad}` | failed |" in printed
    before = file.read_bytes()
    assert run(*common, "--preset", good, "--preset", bad) == 0
    assert "nothing left to do" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert run(*common, "--preset", bad, "--retry", "--preset", f"wgan-gp{TINY}", "--runs", tmp_path / "runs") == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["variant"] for row in rows] == [good, bad, f"wgan-gp{TINY}"]
    assert rows[2]["steps"] == 40
    assert len(list((tmp_path / "runs").glob("*/g.pt"))) == 1


def test_other_files_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.json"
    for text in ("{}", "[]", "no json", '{"schema": 99, "rows": []}'):
        file.write_text(text)
        assert run("--data", "digits", "--preset", "default", "--json", file) == 2
        assert "is not a record of python -m gan_bench.recipes" in capsys.readouterr().err
        assert file.read_text() == text


def test_tables_never_mix_features() -> None:
    def row(variant: str, distance: float, features: str) -> dict[str, Any]:
        return {
            "data": "d", "variant": variant, "budget_steps": 9, "seed": 0, "status": "ok", "distance": distance,
            "floor": 0.1, "features": features, "images_per_s": 10.0, "minutes": 1.0, "noticed": [],
        }  # fmt: skip

    text = recipes.table([row("a", 2.0, "x 1"), row("b", 1.0, "x 1"), row("c", 5.0, "y 2")])
    assert text.count("### d") == 2
    assert text.index("`b`") < text.index("`a`") < text.index("y 2") < text.index("`c`")
    assert recipes.table([]) == ""
