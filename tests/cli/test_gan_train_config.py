"""gan-train's settings: DATA without its option, run.yaml written and read back, and the same settings from Python."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from PIL import Image

import gan_trainer
from cli.conftest import TINY, GanTrain
from gan_core.errors import GanportError
from gan_trainer import pictures
from gan_trainer.networks.generator import load_generator
from gan_trainer.pictures import Gallery
from gan_trainer.settings import checked, merged, settings
from gan_trainer.settings_file import load_settings

SMALL: dict[str, Any] = {"width": 2, "z_dim": 4, "batch_size": 8, "device": "cpu", "size": 28, "steps": 2}


def recipe(folder: str) -> dict[str, object]:
    values: dict[str, object] = json.loads(Path(folder, "config.json").read_text())["recipe"]
    return values


@pytest.mark.slow
def test_data_without_its_option_and_a_run_made_again(gan_train: GanTrain, photos: Path) -> None:
    first = gan_train(str(photos), "--size", "28", "--steps", "2", "--lr", "1e-3", "--out", "a", *TINY, "--cuda-graphs")
    assert (first.code, first.out) == (0, "a/g.pt\n"), first.err
    text = Path("a/run.yaml").read_text()
    values = yaml.safe_load(text)
    assert values == {
        "data": str(photos), "size": 28, "channels": 3, "preset": "default", "width": 2, "z_dim": 4, "batch_size": 8,
        "lr": 1e-3, "lr_d": 1e-3, "seed": 0, "steps": 2, "device": "cpu",
    }  # fmt: skip
    assert {"# augment: translation", "# ema: true", "# compile: auto", "# n_critic: 1"} < set(text.splitlines())
    again = gan_train("--config", "a", "--out", "b")
    assert again.code == 0, again.err
    assert Path("b/run.yaml").read_text() == text
    assert Path("b/config.json").read_text() == Path("a/config.json").read_text()
    on = gan_train("--config", "b/run.yaml", "--out", "b", "--resume", "--steps", "3")
    assert on.code == 0, on.err
    assert yaml.safe_load(Path("b/run.yaml").read_text())["steps"] == 3


@pytest.mark.slow
def test_options_override_a_file(gan_train: GanTrain, photos: Path) -> None:
    Path("s.yaml").write_text(
        f"data: {photos}\npreset: r3gan\nbatch-size: 8\nlr_d: 1e-4\namp: off\nz_dim: 4\nepochs: 100\nsize: 28\nema: no"
    )
    done = gan_train("--config", "s.yaml", "--width", "2", "--lr", "3e-4", "--steps", "1", "--out", "r")
    assert done.code == 0, done.err
    wanted = {"name": "r3gan", "width": 2, "batch_size": 8, "lr_g": 3e-4, "lr_d": 3e-4, "ema_beta": None, "channels": 3}
    assert wanted.items() <= recipe("r").items()
    assert "amp: 'off'" in Path("r/run.yaml").read_text()


WRONG = [
    ("widht: 3", "s.yaml, line 1: no setting is called 'widht'", "did you mean width?"),
    ("\n\nbatchsize: 3", "s.yaml, line 3: no setting is called 'batchsize'", "did you mean batch_size?"),
    ("colour: red", "no setting is called 'colour'", "settings: data, "),
    ("3: red", "no setting is called '3'", "settings: data, "),
    ("width: wide", "line 1: width must be a whole number, got 'wide'", "leave it out"),
    ("width: 3.0", "width must be a whole number, got 3.0", "leave it out"),
    ("width: yes", "width must be a whole number, got True", "leave it out"),
    ("width: [1, 2]", "line 1: width must be one value, got [1, 2]", "such as width"),
    ("width: {a: 1}", "width must be one value, got an object of 1", "such as width"),
    ("lr: fast", "lr must be a number, got 'fast'", "leave it out"),
    ("ema: 3", "ema must be true or false, got 3", "leave it out"),
    ("data: 3", "data must be a text, got 3", "such as DATA"),
    ("width: 1\nwidth: 2", "line 2: width stands there twice", "leave one of them out"),
    ("threads: 0", "threads must be at least 1, got 0", "leave it out"),
    ("width: 0", "s.yaml: width must be at least 1, got 0", "leave it out"),
    ("size: 65", "s.yaml: no network for size 65", "sizes: 28"),
    ("arch: stylegan", "s.yaml: arch must be one of mlp, dcgan, resize, resnet, got 'stylegan'", "leave it out"),
    ("preset: r3gn", "s.yaml: unknown preset 'r3gn'", "did you mean r3gan?"),
    ("steps: 5\nminutes: 5", "s.yaml: steps and minutes exclude each other", "give one"),
    ("seed: -1", "s.yaml: seed must lie in 0", "any whole number"),
    ("- width", "s.yaml holds no settings", "NAME: VALUE"),
    ("width 3", "s.yaml holds no settings", "NAME: VALUE"),
    ("width: 3\n size: 4", "s.yaml, line 2 is no YAML", "NAME: VALUE"),
    ("width: !!python/object:os.system 3", "line 1 is no YAML", "NAME: VALUE"),
    ("[" * 1000, "is no YAML", "NAME: VALUE"),
    ("size: &a [*a]", "is no YAML", "NAME: VALUE"),
    ("width: \x00", "is no YAML", "NAME: VALUE"),
]


@pytest.mark.parametrize(("text", "message", "hint"), WRONG, ids=[each[0][:20] for each in WRONG])
def test_a_wrong_file(text: str, message: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(text)
    with pytest.raises(GanportError) as caught:
        load_settings(Path("s.yaml"))
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_files_that_are_none(gan_train: GanTrain) -> None:
    Path("empty").mkdir()
    Path("photo.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    Path("large.yaml").write_bytes(b"#" * 2_000_000)
    for path, message in (
        ("nowhere.yaml", "no configuration at nowhere.yaml"),
        ("empty", "no configuration at empty/run.yaml"),
        ("photo.yaml", "photo.yaml is no YAML"),
        ("large.yaml", "large.yaml has 2,000,000 bytes"),
    ):
        result = gan_train("--config", path, "--out", "r")
        assert (result.code, result.out) == (2, "")
        assert message in result.err
        assert result.err.splitlines()[-1].startswith("hint: ")
    assert not Path("r").exists()
    Path("nothing.yaml").write_text("# no settings\n")
    assert load_settings(Path("nothing.yaml")) == {}


def test_every_setting_is_an_option_and_a_key(gan_train: GanTrain) -> None:
    shown = gan_train("--help").out
    for name, (kind, setting) in settings().items():
        assert f"--{name.replace('_', '-')}" in shown
        assert setting.help
        assert bool(setting.metavar) == (kind is not bool)


def test_layers_of_settings() -> None:
    assert merged({"epochs": 3, "lr": 1.0, "lr_d": 2.0}, {"minutes": 1, "lr": 5.0}) == {"minutes": 1, "lr": 5.0}
    assert merged({"lr_d": 2.0}, {"lr_d": None, "seed": 0}) == {"lr_d": 2.0, "seed": 0}
    assert checked({"ema": False, "width": None}) == {"ema": False}


@pytest.mark.slow
def test_training_from_python(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANPORT_CACHE", str(tmp_path / "cache"))
    seen: list[tuple[float, int, dict[str, float]]] = []
    done = gan_trainer.train(
        data=photos, out="r", report_every=1, on_progress=lambda *told: seen.append((told[0], told[1], dict(told[2]))),
        **SMALL,
    )  # fmt: skip
    assert (done.run, done.checkpoint, done.steps, done.interrupted) == (Path("r"), Path("r/g.pt"), 2, False)
    assert done.checkpoint.is_file()
    assert set(done.losses) == {"loss_d", "loss_g", "d_x", "d_g_z1", "d_g_z2"}
    assert [(fraction, step) for fraction, step, _ in seen] == [(0.5, 1), (1.0, 2)]
    assert set(seen[1][2]) == set(done.losses)
    more = gan_trainer.train(config="r", out="r", resume=True, steps=3)
    assert (more.steps, more.images) == (3, 8 + 4 + 8)
    assert capsys.readouterr() == ("", "")


def test_wrong_settings_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong: list[tuple[dict[str, object], str]] = [
        ({"widht": 3}, "no setting is called 'widht'"),
        ({"width": "3"}, "`width` must be a whole number, got '3'"),
        ({"steps": 1, "epochs": 1}, "`steps` and `epochs` exclude each other"),
        ({"seed": 2**53}, "`seed` must lie in"),
        ({"data": "nowhere"}, "no data set and no folder is called nowhere"),
    ]
    for settings_, message in wrong:
        with pytest.raises(GanportError, match=message):
            gan_trainer.train(**settings_)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_bar_in_a_notebook(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars = []

    class Bar:
        def __init__(self, total: int, unit: str, desc: str) -> None:
            self.n, self.total, self.closed = 0.0, total, False
            assert (unit, desc) == ("%", "training")
            bars.append(self)

        def set_postfix(self, values: dict[str, float], refresh: bool) -> None:
            assert values["step"] in (1, 2)
            assert not refresh

        def update(self, n: float) -> None:
            self.n += n

        def close(self) -> None:
            self.closed = True

    class Shell:
        kernel = object()

    class Module:
        tqdm = Bar
        get_ipython = Shell
        version_info = (9, 0)  # which matplotlib looks at, where it is imported here

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(__import__("sys").modules, "IPython", Module)
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", Module)
    monkeypatch.setattr("gan_trainer.progress.find_spec", lambda _: object())
    gan_trainer.train(data=photos, out="r", **SMALL)
    assert [(bar.n, bar.closed) for bar in bars] == [(100.0, True)]


@pytest.mark.slow
def test_a_run_by_the_clock(gan_train: GanTrain, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder says the steps that were made, it is filmed by time, and it ends with what to type next."""
    monkeypatch.setattr(pictures, "FRAME_EVERY_S", 0.0)
    monkeypatch.setattr(pictures, "FRAME_SHARE", 0.0)
    monkeypatch.setattr(pictures, "PICTURE_SHARE", 1e9)
    wanted = (str(photos), "--size", "28", *TINY)
    timed = gan_train(*wanted, "--minutes", "0.002", "--out", "my run")
    assert timed.code == 0, timed.err
    step = json.loads(Path("my run/log.jsonl").read_text().splitlines()[-1])["step"]
    values = recipe("my run")
    assert (values["steps"], values["epochs"]) == (None, None)
    assert load_generator("my run/g.pt").training["steps"] == step
    assert [file.name for file in sorted(Path("my run/samples").iterdir())] == [
        f"step-{each:07d}.png" for each in range(step + 1)
    ]
    images = load_generator("my run/g.pt").training["images"]
    last = timed.err.splitlines()[-3:]
    assert last[0].startswith(f"trained {step:,} steps ({images:,} images) in 0.0 minutes")
    assert last[1:] == ["next: gan-train report 'my run'", "      gan-export 'my run/g.pt'"]
    quiet = gan_train(*wanted, "--steps", "2", "--sample-every", "5", "--out", "b", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "b/g.pt\n", "")
    assert [file.name for file in sorted(Path("b/samples").iterdir())] == ["step-0000000.png", "step-0000002.png"]
    assert recipe("b")["steps"] == 2


def test_frames_come_closely_at_first_and_never_cost_much() -> None:
    gallery = Gallery.__new__(Gallery)
    gallery._framed, gallery._frame_cost = 0.0, 0.0
    times = []
    for second in range(3600):
        gallery.state = SimpleNamespace(seconds=float(second))  # type: ignore[assignment]
        if gallery.frame_due:
            gallery._framed = float(second)
            times.append(second)
    assert times[:3] == [3, 6, 9]
    assert 40 <= sum(time <= 300 for time in times) <= 60
    assert len(times) < 120
    gallery._frame_cost = 10.0
    gallery.state = SimpleNamespace(seconds=gallery._framed + 190)  # type: ignore[assignment]
    assert not gallery.frame_due
    gallery.state = SimpleNamespace(seconds=gallery._framed + 200)  # type: ignore[assignment]
    assert gallery.frame_due


def test_the_animation_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_FRAMES", 6)
    frames = [tmp_path / f"{index:03d}.png" for index in range(8)]
    for index, frame in enumerate(frames):
        Image.new("RGB", (1200, 900), (97 * index % 256, 0, 0)).save(frame)
    pictures.animate(frames, tmp_path / "film.webp")
    with Image.open(tmp_path / "film.webp") as film:
        assert film.size == (640, 480)
        assert getattr(film, "n_frames") == 6  # noqa: B009
