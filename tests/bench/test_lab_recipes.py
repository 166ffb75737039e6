"""The table of recipes: what the command line names, equal budgets, rows that are trained, gone on with and timed."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from bench import running
from gan_core.errors import GanportError
from gan_trainer.evaluation import sliced
from lab.loops.messages import Ready, Train
from lab.recipes import command as recipes
from lab.recipes import record as recipe_record
from lab.recipes.variants import name_of, parse_data, parse_variant, steps_of

run = functools.partial(running.run, recipes.app)
TINY = ":width=2:z_dim=4:batch_size=32:report_every=4"


@pytest.mark.parametrize(
    ("text", "name", "size"),
    [
        ("digits", "digits", None),
        ("fashion-mnist@32", "fashion-mnist", 32),
        ("folder:some/path@64", "some/path", 64),
        ("folder:odd@name@28", "odd@name", 28),
        ("folder:../up@28", "../up", 28),
    ],
)
def test_data(text: str, name: str, size: int | None) -> None:
    data = parse_data(text)
    assert (data.text, data.name, data.size) == (text, name, size)


def test_a_record_names_no_folder_of_the_machine() -> None:
    data = parse_data("folder:/home/somebody/my pictures@64")
    assert (data.text, data.name, data.size) == ("folder:my pictures@64", "/home/somebody/my pictures", 64)
    assert parse_data("/home/somebody/faces").text == "faces"


@pytest.mark.parametrize("text", ["digits@33", "digits@", "digits@big", "", "folder:", "@32"])
def test_wrong_data(text: str) -> None:
    with pytest.raises(GanportError, match="--data"):
        parse_data(text)


def test_variants() -> None:
    recipe = parse_variant(
        "r3gan:augment=translation,cutout:width=48:lr_d=1e-3:betas=[0,0.9]:conditional=true"
    ).recipe()
    assert (recipe.name, recipe.augment, recipe.width, recipe.lr_d) == ("r3gan", "translation,cutout", 48, 1e-3)
    assert recipe.betas == (0, 0.9)
    assert recipe.conditional
    assert parse_variant("default:ema_beta=null").recipe().ema_beta is None
    assert parse_variant("default:penalty_weight=1:penalty=r1").recipe().penalty_weight == 1


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("default", "default"),
        ("default:lr_g=4e-4", "default"),
        ("default:report_every=7", "default"),
        ("default:ema_beta=null:lr_d=2e-4", "default:lr_d=0.0002:ema_beta=null"),
        ("r3gan:augment=translation,cutout:betas=[0,0.9]", "r3gan:augment=translation,cutout:betas=[0,0.9]"),
        ("wgan-gp:conditional=true:width=48:penalty_weight=5", "wgan-gp:width=48:conditional=true:penalty_weight=5"),
    ],
)
def test_a_recipe_has_one_name(typed: str, name: str) -> None:
    assert named(typed) == name
    assert named(name) == name
    assert name_of(parse_variant(name).recipe(channels=1, size=64).to_json()) == name


def named(typed: str) -> str | None:
    return name_of(parse_variant(typed).recipe().to_json())


def test_the_name_of_a_recipe_for_rgb() -> None:
    """What a preset does with RGB of its own accord is not in the name there, and is elsewhere."""
    for typed, in_rgb, in_grey in (
        ("default", "default", "default"),
        ("default:augment=translation", "default", "default:augment=translation"),
        ("default:augment=none", "default:augment=none", "default"),
        ("r3gan:penalty_weight=10", "r3gan", "r3gan:penalty_weight=10"),
        ("r3gan:penalty_weight=1", "r3gan:penalty_weight=1", "r3gan"),
    ):
        variant = parse_variant(typed)
        assert name_of(variant.recipe(channels=3).to_json()) == in_rgb
        assert name_of(variant.recipe(channels=1).to_json()) == in_grey


def test_recipes_without_a_name() -> None:
    recipe = parse_variant("default").recipe().to_json()
    assert name_of(recipe | {"name": "gone"}) is None
    assert name_of(recipe | {"field": "gone"}) is None
    assert name_of({}) is None


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
        ("default:width=0", "`width` must be at least 1"),
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
        recipe = parse_variant(text).recipe()
        assert steps_of(recipe, 100) == steps
        updates = steps // recipe.n_critic
        assert abs(updates * recipe.batch_size - 6400) < recipe.batch_size


@pytest.mark.long
@pytest.mark.slow
def test_a_record_grows_and_is_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sliced, "PATCHES", 1024)
    monkeypatch.setattr(sliced, "DIRECTIONS", 16)
    file = tmp_path / "recipes.json"
    common = ("--data", "digits", "--steps", 4, "--features", "swd", "--n", 40, "--device", "cpu", "--json", file)
    typed, diverging = f"default{TINY}", f"default{TINY}:lr_g=1e30"
    good, bad, rgb, wgan = (str(named(each)) for each in (typed, diverging, f"dcgan64{TINY}", f"wgan-gp{TINY}"))
    seeds = ("--seed", 3, "--seed", 0, "--seed", 3)
    assert run(*common, "--preset", typed, "--preset", good, *seeds) == 0, capsys.readouterr().err
    record = json.loads(file.read_text())
    first, second = record["rows"]
    assert [(row["status"], row["steps"], row["seed"]) for row in record["rows"]] == [("ok", 8, 3), ("ok", 8, 0)]
    assert first["distance"] > first["floor"] > 0
    assert first["distance"] != second["distance"]
    assert first["threads"] > 0
    low, high = sorted((first["distance"], second["distance"]))
    median = (low + high) / 2
    assert f"| `{good}` | {median:.4g} ({low:.4g}–{high:.4g}) | 2 |" in capsys.readouterr().out
    before = file.read_bytes()
    assert run(*common, "--preset", good) == 0
    assert "nothing left to do" in capsys.readouterr().err
    assert file.read_bytes() == before, "a command that adds nothing leaves no trace"
    # Timed by themselves: nothing is trained again, and the rows stay as they are.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    timing = ("--speed", "--windows", 2, "--window", 0.05, "--device", "cpu")
    assert run(*timing, "--json", file) == 0, capsys.readouterr().err
    timed = json.loads(file.read_text())
    assert timed["rows"] == record["rows"]
    [speed] = timed["speeds"]
    assert (speed["data"], speed["device"], speed["threads"], speed["environment"]) == ("digits", "cpu", 1, 1)
    assert "--speed --windows 2" in timed["environments"][1]["command"]
    assert timed["environments"][1]["took_s"] > 0
    [row] = speed["rows"]
    assert row["variant"] == good
    assert len(row["images_per_s_windows"]) == 2
    assert 0 < row["images_per_s_low"] <= row["images_per_s"] <= row["images_per_s_high"]
    assert "2 windows of 0.05 s in turn" in capsys.readouterr().out
    # What failed, images of another kind than a preset's, and a command with its own environment.
    runs = ("--runs", tmp_path / "runs")
    assert run(*common, "--preset", diverging, "--preset", rgb, "--preset", wgan, *runs) == 0
    assert f"| `{bad}` | failed | 0 of 1 |" in capsys.readouterr().out
    record = json.loads(file.read_text())
    third, fourth, fifth = record["rows"][2:]
    assert third["status"] == "failed"
    assert "diverged" in third["error"]
    assert (fourth["status"], fourth["recipe"]["channels"], fourth["recipe"]["size"]) == ("ok", 1, 32)
    assert fifth["steps"] == 40
    assert [row["environment"] for row in record["rows"]] == [0, 0, 2, 2, 2]
    assert [diverging in around["command"] for around in record["environments"]] == [False, False, True]
    assert len(list((tmp_path / "runs").glob("*/g.pt"))) == 2
    assert run(*common, "--preset", bad, "--retry") == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["variant"] for row in rows] == [good, good, rgb, wgan, bad]
    assert rows[-1]["environment"] == 3
    assert str(tmp_path) not in file.read_text(), "no folder of the machine"

    # Timed again: the newer pass takes the older one's place.
    monkeypatch.setattr("lab.recipes.training.Loop", _Fake)
    monkeypatch.setattr("lab.recipes.training.take_turns", lambda *_: None)
    assert run(*timing, "--data", "digits", "--json", file) == 0
    [speed] = json.loads(file.read_text())["speeds"]
    assert [row["variant"] for row in speed["rows"]] == [good, rgb, wgan], "what failed is left out"
    assert [row["images_per_s"] for row in speed["rows"]] == [1.0, 1.0, 1.0]
    # Features of the same kind from another network.
    record["rows"][0]["features"] = "swd 000000000000"
    file.write_text(json.dumps(record))
    assert run(*common, "--preset", f"r3gan{TINY}") == 2
    assert "measures digits by swd 000000000000, here it is swd" in capsys.readouterr().err
    # Images of the same name that are others.
    record["rows"][0]["evaluation"]["data"]["fingerprint"] = "0" * 64
    file.write_text(json.dumps(record))
    for what in (timing, (*common[2:8], "--preset", f"r3gan{TINY}")):
        assert run("--data", "digits", *what, "--json", file) == 2
        assert "digits holds other images than" in capsys.readouterr().err


class _Fake:
    """A loop that says it drew one image a second."""

    def __init__(self, name: str, asked: Train) -> None:
        assert asked.loop == "steps"
        assert asked.folder.is_dir()
        self.name, self.ready = name, Ready(0.0, threads=1)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def to_json(self) -> dict[str, object]:
        return {"images_per_s": 1.0, "images_per_s_windows": [1.0]}


def test_other_files_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.json"
    for text in ("{}", "[]", "no json", '{"schema": 99, "rows": []}', '{"schema": 2, "rows": [], "tool": "gan-bench"}'):
        file.write_text(text)
        for rest in (("--data", "digits", "--preset", "default"), ("--speed",), ()):
            assert run(*rest, "--json", file) == 2
            assert "is not a record of lab.recipes" in capsys.readouterr().err
        assert file.read_text() == text


TRAIN = ("--data", "digits", "--preset", "default")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "digits"), "--data needs --preset, to train, or --speed, to time"),
        (("--preset", "default"), "--preset needs --data"),
        (("--preset", "default", "--speed"), "--preset needs --data"),
        (("--steps", 5), "--steps needs --data and --preset"),
        (("--speed", "--seed", 0), "--seed needs --data and --preset"),
        (("--n", 9), "--n needs"),
        (("--features", "swd"), "--features needs"),
        (("--speed", "--runs", "r"), "--runs needs"),
        (("--retry",), "--retry needs"),
        ((*TRAIN, "--windows", 2), "--windows needs --speed"),
        ((*TRAIN, "--window", 2), "--window needs --speed"),
        (("--device", "cpu"), "--device needs --preset or --speed"),
        (("--root", "."), "--root needs --preset or --speed"),
        (("--speed", "--window", 0), "--window takes seconds"),
        (("--speed", "--window", "nan"), "--window takes seconds"),
        (("--speed", "--windows", 0), "--windows"),
        ((*TRAIN, "--steps", 0), "--steps"),
        ((*TRAIN, "--seed", -1), "--seed"),
        ((*TRAIN, "--seed", 0, "--seed", "x"), "--seed"),
        ((*TRAIN, "--n", 0), "--n"),
        ((*TRAIN, "--json", "b.json"), "one --json is written, got 2"),
        (("--speed", "--json", "b.json"), "one --json is written, got 2"),
        ((), "no record at"),
        (("--speed",), "no record at"),
    ],
)
def test_wrong_command_lines(
    words: tuple[object, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "new.json"
    assert run(*words, "--json", file) == 2
    assert message in capsys.readouterr().err
    assert not file.exists()


def test_nothing_to_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipes.json"
    failed = {"data": "digits", "variant": "default", "budget_steps": 9, "seed": 0, "status": "failed", "error": "e",
              "recipe": {}}  # fmt: skip
    recipe_record.add(file, "rows", failed, {"date": "2026-01-01"})
    assert run("--speed", "--json", file) == 2
    assert "the record holds no trained recipe" in capsys.readouterr().err
    assert run("--speed", "--data", "mnist", "--json", file) == 2
    assert "no trained recipe on mnist" in capsys.readouterr().err


@pytest.mark.slow
def test_a_preset_that_has_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is held goes on under the name that its recipe has now; where none fits, one name is one recipe."""
    file = tmp_path / "recipes.json"
    recipe = parse_variant("default").recipe().to_json() | {"lr_d": 0.5, "size": 32, "report_every": 7}
    row = {"data": "digits", "variant": "default", "budget_steps": 9, "seed": 0, "status": "failed", "error": "e",
           "recipe": recipe}  # fmt: skip
    recipe_record.add(file, "rows", row, {"date": "2026-01-01"})
    assert [held["variant"] for held in recipe_record.read(file)["rows"]] == ["default:lr_d=0.5"]
    recipe_record.add(file, "rows", row | {"recipe": recipe | {"gone": 1}}, {"date": "2026-01-02"})
    assert run(*TRAIN, "--seed", 1, "--json", file) == 2
    assert "the record holds default on digits with gone 1, now it is" in capsys.readouterr().err
