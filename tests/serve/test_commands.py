"""What every command takes and shows: panels, flags, completion, files in the place of commands, errors as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
import typer

from gan_core import __version__
from gan_core.errors import ContractError, GanportError, JobError, MissingPackageError, ProofError
from gan_serve.terminal import console

Run = Callable[..., tuple[int, str, str]]


def group(error: BaseException | None = None) -> typer.Typer:
    app = console.new_app("Does things.\n\n\b\nExamples:\n  cmd a.pth", default="work")

    @app.command()
    def work(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="The file.")],
        n: Annotated[int | None, typer.Option("--n", metavar="N", help="A number. [default: 3]")] = None,
        name: Annotated[str, typer.Option("--name", metavar="NAME", help="A name.", rich_help_panel="Names")] = "x",
        as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    ) -> None:
        """Works."""
        console.note("a note")
        logging.getLogger("gan_serve").info("logged")
        console.warn("a warning")
        if error is not None:
            raise error
        (console.show_json if as_json else console.show)(f"{file} {n} {name}")

    @app.command()
    def other() -> None:
        """Does something else."""
        raise GanportError("other failed")

    return app


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, app: typer.Typer | None = None) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            console.run(group() if app is None else app, "cmd", arguments)
        out, err = capfd.readouterr()
        assert isinstance(done.value.code, int)
        return done.value.code, out, err

    return call


NOTES = "a note\nnote: logged\nwarning: a warning\n"


@pytest.mark.parametrize("arguments", [("work", "a.pth"), ("a.pth",), ("a/b", "--n", "4"), ("--n", "4", "a")])
def test_a_file_stands_for_the_command_that_takes_it(run: Run, arguments: tuple[str, ...]) -> None:
    file = next(word for word in arguments if word[0] == "a")
    assert run(*arguments) == (0, f"{file} {4 if '4' in arguments else None} x\n", NOTES)


def test_a_file_that_is_there_needs_no_suffix(run: Run, tmp_path: Path) -> None:
    assert run("weights")[0] == 2
    (tmp_path / "weights").touch()
    assert run("weights")[1] == "weights None x\n"
    (tmp_path / "other").touch()
    assert run("other")[2].startswith("error: other failed"), "a command's name is the command"


def test_a_mistyped_command_is_no_file(run: Run) -> None:
    code, _, err = run("othr")
    assert code == 2
    assert "No such command 'othr'. Did you mean 'other'?" in err
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err == "error: expected a file or a command, got none\nhint: cmd FILE, or one of: work, other\n"


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("flag", ["--quiet", "-q"])
def test_quiet_keeps_notes_back_and_nothing_else(run: Run, flag: str, place: int) -> None:
    words = ["work", "a.pth"]
    words.insert(place, flag)
    assert run(*words) == (0, "a.pth None x\n", "warning: a warning\n")
    assert run("work", "--", flag)[1] == f"{flag} None x\n", "behind -- it is a file"
    code, out, err = run(*words, app=group(JobError("it broke", "mend it")))
    assert (code, out, err) == (1, "", "warning: a warning\nerror: it broke\nhint: mend it\n")
    assert run("a.pth")[2] == NOTES, "the next call in the process is not quiet"


def test_no_color(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run("a.pth")[2]
    assert "\x1b[" in run("--help")[1]
    assert run("a.pth", "--no-color")[2] == NOTES
    assert "\x1b[" not in run("--no-color", "--help")[1]
    assert "\x1b[" in run("a.pth")[2]


@pytest.mark.parametrize("arguments", [("--version",), ("-V",), ("work", "-V"), ("other", "--version")])
def test_version(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == (0, f"ganport {__version__}\n", "")


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_help_has_panels_and_fits(run: Run, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = run("work", "-h")
    assert (code, err) == (0, "")
    assert run("work", "--help") == (code, out, err)
    assert max(map(len, out.splitlines())) <= min(columns, 100)
    heads = [line for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert heads == ["Arguments:", "Options:", "Names:", "General:"]
    names = out.partition("Names:")[2]
    assert names.split()[:4] == ["--name", "NAME", "A", "name."]
    assert "[default: x]" in names
    assert "-h, --help" in out.partition("General:")[2]
    assert "--install-completion" not in out
    starts = {
        line.index(text)
        for line in out.splitlines()
        for text in ("The file.", "A name.", "Print the v")
        if text in line
    }
    assert len(starts) == 1, "the texts of all panels begin in one column"
    whole = run("-h")[1]
    assert "--show-completion" in whole
    assert "Commands:\n  work" in whole


def test_completion_is_the_shells(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, out, _ = run("--show-completion", "bash")
    assert code == 0
    assert "_CMD_COMPLETE=complete_bash" in out
    monkeypatch.setenv("_CMD_COMPLETE", "complete_bash")
    for typed, expected in (("cmd ", {"work", "other"}), ("cmd work --na", {"--name"}), ("cmd work --qu", {"--quiet"})):
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
        assert set(run()[1].split()) == expected


CASES = [
    (GanportError("no `name`", "give `n`"), 2, {"error": "no --name", "hint": "give --n", "code": "input"}),
    (GanportError("a", code="classifier"), 2, {"error": "a", "hint": "", "code": "classifier"}),
    (ContractError("a"), 2, {"error": "a", "hint": "", "code": "contract"}),
    (JobError("a"), 1, {"error": "a", "hint": "", "code": "job"}),
    (ProofError("a"), 1, {"error": "a", "hint": "", "code": "proof"}),
    (KeyboardInterrupt(), 130, {"error": "interrupted", "hint": "", "code": "interrupted"}),
]


@pytest.mark.parametrize(("error", "code", "expected"), CASES)
def test_errors_are_json_too(run: Run, error: BaseException, code: int, expected: dict[str, str]) -> None:
    done, out, err = run("a.pth", "--json", app=group(error))
    assert (done, json.loads(out)) == (code, expected)
    assert err.startswith(f"{NOTES}error: {expected['error']}")
    assert run("a.pth", app=group(error))[:2] == (code, ""), "not without --json"


def test_wrong_usage_is_json_too(run: Run) -> None:
    for arguments in (("a.pth", "--json", "--no"), ("work", "--json"), ("a.pth", "--json", "--n", "x")):
        code, out, _ = run(*arguments)
        said = json.loads(out)
        assert (code, said["code"], said["hint"]) == (2, "usage", "cmd work --help lists what it takes")
    assert run("other", "--json")[1] == "", "a command that has no --json"
    assert run("--", "--json")[1] == "--json None x\n", "a file"
    assert run("--", "--json", app=group(JobError("a")))[1] == ""
    missing = json.loads(run("a.pth", "--json", app=group(MissingPackageError("x", "video", "it")))[1])
    assert missing["code"] == "missing-package"
    unexpected = json.loads(run("a.pth", "--json", app=group(ValueError("a\nb")))[1])
    assert (unexpected["error"], unexpected["code"]) == ("unexpected ValueError: a\\nb", "unexpected")


def test_one_object_where_json_is_out_before_the_error(run: Run) -> None:
    app = console.new_app()

    @app.command()
    def work(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        error = ProofError("not proved", "look")
        console.show_json({"ok": not as_json}, failed=error)
        raise error

    code, out, err = run("--json", app=app)
    assert (code, err) == (1, "error: not proved\nhint: look\n")
    assert json.loads(out) == {"ok": False, "error": "not proved", "hint": "look", "code": "proof"}


def test_a_thing_is_named_once() -> None:
    assert console.named_once(None, None, "--n") is None
    assert (
        console.named_once(3, None, "--n") == console.named_once(None, 3, "--n") == console.named_once(3, 3, "--n") == 3
    )
    with pytest.raises(GanportError, match="3 and --n 4 contradict each other") as caught:
        console.named_once(3, 4, "--n")
    assert caught.value.hint == "leave out one of them"
