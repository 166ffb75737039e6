"""A run's folder and last.pt: what a kill leaves behind, what damage is told as, what never is overwritten."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.errors import GanportError
from gan_trainer.config import Limit, RunConfig, TrainRequest
from gan_trainer.report.gather import gather
from gan_trainer.rundir import RunDir, default_name, newest, next_free
from gan_trainer.state import TrainState, load_networks, read_last
from trainer.conftest import CPU, TINY, StartRun

pytestmark = pytest.mark.slow


def config(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "data": "digits", "data_name": "digits", "fingerprint": "ab" * 32, "n_images": 42, "recipe": TINY, "seed": 1,
        "limit": Limit("epochs", 3),
    }  # fmt: skip
    return RunConfig(**values | changes)


def test_config_survives_json() -> None:
    assert RunConfig.from_json(json.loads(json.dumps(config().to_json()))) == config()


@pytest.mark.parametrize("damage", [{"seed2": 1}, {"limit": {"unit": "steps"}}, {"recipe": 3}, {"limit": None}])
def test_damaged_config(damage: dict[str, Any]) -> None:
    with pytest.raises(GanportError, match="does not read"):
        RunConfig.from_json(config().to_json() | damage)


@pytest.mark.parametrize(
    ("unit", "amount", "message"),
    [
        ("steps", 0, "`steps` must be a number above 0, got 0"),
        ("steps", -1, "`steps` must be a number above 0, got -1"),
        ("epochs", 1.5, "`epochs` must be a whole number, got 1.5"),
        ("minutes", float("nan"), "`minutes` must be a number above 0, got nan"),
        ("minutes", float("inf"), "`minutes` must be a number above 0, got inf"),
        ("hours", 1, "a limit counts steps, epochs, minutes"),
    ],
)
def test_limits_out_of_range(unit: Any, amount: float, message: str) -> None:
    with pytest.raises(GanportError, match=message):
        Limit(unit, amount)


def test_limits() -> None:
    assert [Limit("steps", 10).fraction(step, 1e9, 3) == 1 for step in (9, 10)] == [False, True]
    assert [Limit("epochs", 2).fraction(step, 1e9, 5) == 1 for step in (9, 10)] == [False, True]
    assert [Limit("minutes", 2).fraction(10**9, seconds, 3) == 1 for seconds in (119.9, 120.0)] == [False, True]
    assert Limit("epochs", 2).fraction(5, 0, 5) == 0.5
    assert Limit("minutes", 2).fraction(5, 30, 5) == 0.25
    assert str(Limit("minutes", 1.5)) == "1.5 minutes"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (TrainRequest(preset="dcgan64"), 'started with `preset="tiny"`, asked is `preset="dcgan64"`'),
        (TrainRequest(changes={"arch": "mlp"}), '`arch="dcgan"`, asked is `arch="mlp"`'),
        (TrainRequest(changes={"size": 64}), "`size=28`, asked is `size=64`"),
        (TrainRequest(changes={"channels": 3}), "`channels=1`, asked is `channels=3`"),
        (TrainRequest(changes={"width": 8}), "`width=2`, asked is `width=8`"),
        (TrainRequest(changes={"z_dim": 8}), "`z_dim=6`, asked is `z_dim=8`"),
        (TrainRequest(changes={"batch_size": 64}), "`batch_size=8`, asked is `batch_size=64`"),
        (TrainRequest(changes={"lr_g": 1e-3}), "`lr=0.0002`, asked is `lr=0.001`"),
        (TrainRequest(ema=False), "`ema=True`, asked is `ema=False`"),
        (TrainRequest(seed=0), "`seed=1`, asked is `seed=0`"),
    ],
)
def test_what_a_resumed_run_must_keep(asked: TrainRequest, message: str) -> None:
    with pytest.raises(GanportError, match=message):
        config().check_resumed("ab" * 32, asked)


def test_what_a_resumed_run_may_repeat() -> None:
    changes = {"lr_g": 2e-4, "lr_d": 2e-4, "arch": None, "report_every": 7}
    config().check_resumed("ab" * 32, TrainRequest(preset="tiny", changes=changes, ema=True, seed=1))


def test_other_data() -> None:
    with pytest.raises(GanportError, match=r"trained on other data: .* digest abababababab…, these have cdcdcdcdcdcd…"):
        config().check_resumed("cd" * 32, TrainRequest())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a training state"),
        (b'{"a": 1}', "cannot be read as a training state"),
        (pickle.dumps(print), "cannot be read as a training state"),
        ({"weights": 1}, "is not a training state written by gan-train"),
        ([1, 2], "is not a training state written by gan-train"),
        ({"ganport_run": 2}, "has format 2, this ganport reads 1"),
        ({"ganport_run": 1}, "is damaged"),
        ({"ganport_run": 1, "config": "{"}, "is damaged"),
        ({"ganport_run": 1, "config": "{}"}, "the run's configuration does not read"),
    ],
)
def test_last_pt_that_is_not_one(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(GanportError, match=message):
        read_last(path)


def flipped(path: Path, entry: str) -> None:
    """Flips a bit in the middle of a zip entry's bytes."""
    with zipfile.ZipFile(path) as archive:
        found = next(each for each in archive.infolist() if each.filename.endswith(entry))
    data = bytearray(path.read_bytes())
    names, extra = struct.unpack("<HH", data[found.header_offset + 26 : found.header_offset + 30])
    data[found.header_offset + 30 + names + extra + found.file_size // 2] ^= 8
    path.write_bytes(data)


def test_truncated_last_pt(start_run: StartRun) -> None:
    training = start_run(limit=Limit("steps", 1))
    training.run()
    last = training.run_dir.last
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.raises(
        GanportError, match=r"last\.pt cannot be read as a training state: it is a zip archive cut"
    ) as caught:
        load_networks(last)
    assert (
        caught.value.hint
        == f"put a copy of it back, or start a new run; {last.with_name('g.pt')} still holds the generator"
    )


@pytest.mark.parametrize("entry", ["/data/0", "/data/7"])
def test_a_flipped_bit_is_noticed_and_not_trained_on(entry: str, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    TrainState.fresh(config(), CPU).save(path)
    read_last(path)
    flipped(path, entry)
    torch.load(path, weights_only=True)  # torch itself does not notice
    with pytest.raises(GanportError, match=f"it is damaged, the checksum of '.*{entry}' does not fit") as caught:
        read_last(path)
    assert caught.value.hint == "start a new run"


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.serialization.set_crc32_options(False)
    try:
        TrainState.fresh(config(), CPU).save(path)
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(path) as archive:
        assert {entry.CRC for entry in archive.infolist()} == {0}
    assert read_last(path)[1]["step"] == 0


def test_a_last_pt_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last.pt")
    with pytest.raises(GanportError, match="is not a regular file, expected a training state"):
        read_last(tmp_path / "last.pt")


def test_a_packed_last_pt_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("last/data.pkl", bytes(1 << 20))
    with pytest.raises(GanportError, match="a compressed zip archive"):
        read_last(path)


def test_missing_last_pt(tmp_path: Path) -> None:
    with pytest.raises(GanportError, match="nothing to resume") as caught:
        read_last(tmp_path / "last.pt")
    assert caught.value.hint == "start it without `resume`"


@pytest.mark.parametrize("key", ["generator", "optimizer_d", "z_rng", "history", "step", "ema"])
def test_a_state_that_lacks_a_part(key: str, tmp_path: Path) -> None:
    state = TrainState.fresh(config(), CPU)
    state.save(tmp_path / "last.pt")
    found, content = read_last(tmp_path / "last.pt")
    content[key] = None
    with pytest.raises(GanportError, match="does not fit its own configuration"):
        TrainState.fresh(found, CPU).restore(content, "last.pt")


def test_rewind_forgets_what_came_after(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.start({"a": 1})
    run.samples.mkdir()
    for step in (0, 10, 11):
        run.sample(step).write_bytes(b"png")
        run.append_log({"step": step})
    elsewhere = "ganport-0123abcd-77-89abcdef"  # another machine's: the folder's lock says that nobody writes them
    leftovers = [run.path / f".last.{elsewhere}.pt", run.samples / f".step-0000030.{elsewhere}.png"]
    kept = [run.path / ".notes.old.txt", run.path / f".report.{elsewhere}.html", run.samples / "step-by-step.md"]
    for file in leftovers + kept:
        file.write_bytes(b"")
    run.rewind(10)
    assert [line["step"] for line in run.read_log()] == [0, 10]
    assert [file.name for file in run.sample_files()] == ["step-0000000.png", "step-0000010.png"]
    assert not any(file.exists() for file in leftovers)
    assert all(file.exists() for file in kept)


@pytest.mark.parametrize("tail", ['{"step": 3, "los', "\x00\x00", "[]\n", '{"step": "3"}\n', "null\n"])
def test_a_log_cut_short(tail: str, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.append_log({"step": 1})
    run.append_log({"step": 2})
    with run.log.open("a") as log:
        log.write(tail)
    assert [line["step"] for line in run.read_log()] == [1, 2]
    run.rewind(2)
    run.append_log({"step": 3})
    assert [line["step"] for line in run.read_log()] == [1, 2, 3]


def test_out_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GanportError, match="is a file, expected a folder"):
        RunDir(tmp_path / "file").start({})


def test_out_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GanportError, match="cannot make the folder"):
        RunDir(tmp_path / "file" / "run").start({})


def test_two_at_work_in_one_folder(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with run.lock(), pytest.raises(GanportError, match="another gan-train is at work"), RunDir(run.path).lock():
        pass
    with RunDir(run.path).lock():
        pass


def test_names(tmp_path: Path) -> None:
    assert default_name("my photos (2)", "dcgan", 64) == "my-photos-2-dcgan64"
    assert default_name("…", "mlp", 28) == "images-mlp28"
    base = tmp_path / "digits-dcgan32"
    assert next_free(base) == newest(base) == base
    base.mkdir()
    assert (next_free(base).name, newest(base).name) == ("digits-dcgan32-2", "digits-dcgan32")
    next_free(base).mkdir()
    assert (next_free(base).name, newest(base).name) == ("digits-dcgan32-3", "digits-dcgan32-2")


def test_pipes_in_a_runs_folder_are_not_waited_for(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.start({"a": 1})
    run.samples.mkdir()
    for pipe in (run.log, run.sample(3), run.evaluation("swd")):
        os.mkfifo(pipe)
    assert (run.read_log(), run.sample_files(), run.evaluation_files()) == ([], [], [])
    run.config.unlink()
    os.mkfifo(run.config)
    with pytest.raises(GanportError, match=r"config\.json is not a regular file, expected a configuration file"):
        gather(run.path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ganport_run", torch.ones(2)), ("config", "[" * 100_000), ("step", float("inf")), ("step", -1), ("step", "x"),
        ("seconds", float("nan")), ("history", torch.ones(2)), ("history", {"stride": float("inf")}),
        ("optimizer_g", {"state": {}, "param_groups": torch.ones(1)}), ("generator", [1]), ("z_rng", None),
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_one_line(field: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    TrainState.fresh(config(), CPU).save(path)
    torch.save(torch.load(path, weights_only=True) | {field: value}, path)
    with pytest.raises(GanportError) as caught:
        TrainState.fresh(config(), CPU).restore(read_last(path)[1], str(path))
    assert str(path) in str(caught.value)
    assert caught.value.hint
