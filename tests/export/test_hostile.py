"""Files made to do harm: no payload runs, no claim makes memory grow, each is refused in one line, exit code 2."""

from __future__ import annotations

import functools
import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export import reading_bombs, reading_payloads
from export.reading_bombs import BOMBS, LONG, READABLE
from export.reading_nets import generator, same
from export.reading_payloads import CANARY, COMMAND, PAYLOADS, Calls, as_legacy, as_zip, saved
from gan_core.errors import GanportError
from gan_export.reading import read_checkpoint
from gan_export.reading.inert import Budget
from gan_export.reading.legacy import no_persistent
from gan_export.reading.unpickler import Stream, load
from gan_serve.terminal import console


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(path: Path) -> GanportError:
    with pytest.raises(GanportError) as caught:
        read_checkpoint(path)
    error = caught.value
    assert error.exit_code == 2
    assert "\n" not in str(error)
    assert len(str(error)) < 600
    assert error.hint
    assert not Path(CANARY).exists()
    return error


# ----------------------------------------------------------------------------------------------------------- payloads


@pytest.fixture(scope="module")
def singing() -> list[str]:
    """The payloads that work on a victim that trusts them, found by trying in a process of its own."""
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(tests), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, reading_payloads.__file__], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", PAYLOADS)
def test_the_payload_is_live(singing: list[str], name: str) -> None:
    """Else its refusal would prove nothing."""
    assert name in singing


@pytest.mark.parametrize("name", PAYLOADS)
@pytest.mark.parametrize("container", [bytes, as_zip, as_legacy])
def test_no_payload_runs_and_each_is_named(tmp_path: Path, name: str, container: Callable[[bytes], bytes]) -> None:
    payload, named = PAYLOADS[name]
    path = tmp_path / "netG.pth"
    path.write_bytes(container(payload))
    error = refused(path)
    assert named in str(error)


@pytest.mark.parametrize("name", ["os.system", "torch.utils", "numpy runstring", "functools.partial"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_payload_beside_good_weights_spoils_the_file(tmp_path: Path, name: str, legacy: bool) -> None:
    reduced = {
        "os.system": Calls(os.system, COMMAND),
        "torch.utils": Calls(torch.utils.collect_env.run, COMMAND),
        "numpy runstring": Calls(np.testing.runstring, reading_payloads.CODE, {}),
        "functools.partial": Calls(functools.partial(os.system, COMMAND)),
    }[name]
    path = tmp_path / "netG.pth"
    path.write_bytes(saved({"netG": generator(), "extra": [reduced]}, _use_new_zipfile_serialization=not legacy))
    error = refused(path)
    assert "nothing of it was run" in str(error)
    assert "torch.load" in error.hint


def test_the_command_line_says_it_in_two_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "netG.pth"
    path.write_bytes(PAYLOADS["os.system"][0])

    def work() -> int:
        read_checkpoint(path)
        return 0

    assert console.exit_code(work, name="gan-export") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "hint"]


def test_functions_of_other_packages_are_not_called_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's names are as likely his classes as an attack: they are kept as records, and the weights are read."""
    (tmp_path / "gadget.py").write_text(
        "import os\n\ndef run(command):\n    os.system(command)\n\nclass Box:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    gadget = importlib.import_module("gadget")

    payload = saved({"netG": generator(), "x": Calls(gadget.run, COMMAND), "y": gadget.Box()})
    torch.load(io.BytesIO(payload), weights_only=False)
    assert Path(CANARY).exists()
    Path(CANARY).unlink()
    monkeypatch.delitem(sys.modules, "gadget")
    (tmp_path / "netG.pth").write_bytes(payload)
    assert same(read_checkpoint(tmp_path / "netG.pth").tensors, generator())
    assert not Path(CANARY).exists()
    assert "gadget" not in sys.modules


def test_trusting_is_what_runs_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "netG.pth"
    path.write_bytes(saved({"netG": generator(), "x": Calls(os.system, COMMAND)}))
    refused(path)
    read_checkpoint(path, trust_pickle=True)
    assert Path(CANARY).exists()
    assert "runs the code in it with your rights" in caplog.text


@pytest.mark.parametrize(
    "opcodes",
    [
        b"\x80\x02]q\x00h\x00a.",  # a list in itself
        b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",  # a dictionary in itself
        b"\x80\x04\x82\x01.",  # EXT1
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"\x80\x02(.",  # a mark alone
        b"\x80\x02.",  # nothing
        b"\x80\x02h\x05.",  # a memo that is not there
        b"\x80\x020.",  # POP of nothing
        b"\x80\x02K\x01K\x02a.",  # appends to a number
        b"\x80\x02K\x01K\x02K\x03s.",  # sets items of a number
        b"\x80\x02K\x01K\x02R.",  # calls a number with a number
        b"\x80\x02K\x01)R.",  # calls a number
        b"\x80\x02)\x81.",  # NEWOBJ of nothing
        b"\x80\x02K\x01K\x02b.",  # BUILD of a number
        b"\x80\x04K\x01K\x02\x93.",  # a name of numbers
        b"\x80\x02K\x01Q.",  # a number as persistent id
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",  # too few arguments
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))\x89}tR.",  # a number as storage
        b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00f4tRK\x01b.",  # a dtype with a number as state
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01K\x01K\x01K\x01tb.",
    ],
)
def test_nonsense_is_an_error_of_ours(tmp_path: Path, opcodes: bytes) -> None:
    for wrap in (bytes, as_zip, as_legacy):
        (tmp_path / "g.pth").write_bytes(wrap(opcodes))
        refused(tmp_path / "g.pth")


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    name = "\x1b[2Jmain\n.weight"
    torch.save({name: torch.ones(3, 3) * float("nan"), "b.weight": torch.ones(3, 3, 4, 4)}, tmp_path / "g.pth")
    assert "\x1b" not in str(refused(tmp_path / "g.pth"))
    (tmp_path / "g.pth").write_bytes(b"\x80\x04\x8c\x02os\x8c\x06\x1b[2Jsy\x93.")
    assert "\x1b" not in str(refused(tmp_path / "g.pth"))


# -------------------------------------------------------------------------------------------------------------- bombs


@pytest.fixture(scope="module")
def exploded(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the reader said of each bomb that is asked for, in a process of at most a gibibyte and ten seconds; nothing
    where it died.
    """
    folder = tmp_path_factory.mktemp("bombs")
    asked = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    for index, (name, (make, _)) in enumerate(BOMBS.items()):
        if name in asked:
            (folder / f"{index:03}").write_bytes(make())
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    }
    done = subprocess.run(
        [sys.executable, reading_bombs.__file__, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    told = {line["file"]: line for line in map(json.loads, done.stdout.splitlines())}
    return {name: told.get(f"{index:03}") for index, name in enumerate(BOMBS)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, id=name, marks=pytest.mark.long if name in LONG else ()) for name in BOMBS]
)
def test_no_claim_is_believed(exploded: dict[str, Any], name: str) -> None:
    told = exploded[name]
    assert told is not None, "killed: over ten seconds, or out of memory"
    if name in READABLE:
        return
    assert told["code"] == 2
    assert told["hint"]
    assert BOMBS[name][1] in told["text"]
    assert "more memory" not in told["text"]
    assert len(told["text"]) < 600


def test_steps_are_counted() -> None:
    """The limit itself, with a small budget: millions of cheap opcodes end, whatever they do."""
    budget = Budget(operations=1000)
    with pytest.raises(GanportError, match="steps"):
        load(Stream(memoryview(b"\x80\x02" + b"N0" * 1000 + b"N.")), no_persistent, budget)
    assert load(Stream(memoryview(b"\x80\x02" + b"N0" * 400 + b"N.")), no_persistent, Budget(operations=1000)) is None


def test_an_expanded_bias_is_no_bomb(tmp_path: Path) -> None:
    content: dict[str, Any] = dict(generator()) | {"noise": torch.ones(1).expand(64, 64)}
    torch.save(content, tmp_path / "g.pth")
    assert torch.equal(read_checkpoint(tmp_path / "g.pth").tensors["noise"], torch.ones(64, 64))


@pytest.mark.slow
def test_many_expanded_tensors_are_one(tmp_path: Path) -> None:
    torch.save({f"{n}.weight": torch.ones(1).expand(200, 300) for n in range(900)}, tmp_path / "g.pth")
    assert "would take" in str(refused(tmp_path / "g.pth"))
