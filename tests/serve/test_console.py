"""How commands fail, and what they print."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
from typing import Annotated

import pytest
import typer

from gan_core.errors import GanportError, MissingPackageError, ProofError
from gan_core.installation import install
from gan_serve.terminal import console


def command(error: BaseException | int) -> typer.Typer:
    app = console.new_app()

    @app.command()
    def work(number: int = 1) -> int:
        """Works."""
        if isinstance(error, BaseException):
            raise error
        print("data", number)
        return error

    return app


@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        (0, 0, ""),
        (3, 3, ""),
        (GanportError("a\n b", "do\n this"), 2, "error: a b\nhint: do this\n"),
        (GanportError("a"), 2, "error: a\n"),
        (
            MissingPackageError("x", "video", "this"),
            2,
            f"error: this needs x, which is not installed\nhint: {install('video')}\n",
        ),
        (ProofError("bad"), 1, "error: bad\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (typer.Exit(5), 5, ""),
        (
            RuntimeError("a\nb"),
            1,
            "error: unexpected RuntimeError: a b\nhint: run again with --debug and report the traceback (cmd)\n",
        ),
    ],
)
def test_exit_codes(error: BaseException | int, code: int, stderr: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        console.run(command(error), "cmd", [])
    assert done.value.code == code
    assert capsys.readouterr().err == stderr


def test_debug_lets_the_traceback_through(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GanportError):
        console.run(command(GanportError("a")), "cmd", ["--debug"])
    monkeypatch.setenv("GANPORT_DEBUG", "1")
    with pytest.raises(RuntimeError):
        console.run(command(RuntimeError("a")), "cmd", [])


@pytest.mark.parametrize("arguments", [["--number", "x"], ["--nothing"], ["extra"]])
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        console.run(command(0), "cmd", arguments)
    assert done.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert second == "hint: cmd --help lists what it takes"


def test_usage_errors_of_a_subcommand_name_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    app = command(0)
    app.command("sub")(lambda: 0)
    app.command("other")(lambda: 0)
    with pytest.raises(SystemExit):
        console.run(app, "cmd", ["sub", "--nothing"])
    assert capsys.readouterr().err.splitlines()[1] == "hint: cmd sub --help lists what it takes"


def failing(*errors: GanportError) -> typer.Typer:
    """`cmd` and its command `cmd sub`, with options of their own; each raises the last error, and notes the others."""
    app = console.new_app()

    def fail(*_: object) -> None:
        for error in errors[:-1]:
            console.note(str(error))
        raise errors[-1]

    @app.callback(invoke_without_command=True)
    def main(
        context: typer.Context,
        batch_size: int = 1,
        kinds: Annotated[list[str] | None, typer.Option("--class", "-c")] = None,
        only: Annotated[bool, typer.Option("--only")] = False,
    ) -> None:
        if context.invoked_subcommand is None:
            fail(batch_size, kinds, only)

    app.command("sub")(lambda provider="auto": fail(provider))
    return app


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`batch_size` must be at least 1", "--batch-size must be at least 1"),
        ("`kinds` or `class`, `only=True`", "--class or --class, --only"),
        ('use `kinds="a dog"` or `batch_size=8`', "use --class 'a dog' or --batch-size 8"),
        ("`provider` is not here", "provider is not here"),
        ('`provider="cpu"` or `n=3`', 'provider="cpu" or n=3'),
        ("`pip install x`, `a.b` and ` `", "`pip install x`, `a.b` and ` `"),
    ],
)
def test_a_parameter_is_shown_as_the_commands_option(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        console.run(failing(GanportError(text), GanportError(text, hint=text)), "cmd", [])
    assert capsys.readouterr().err == f"{shown}\nerror: {shown}\nhint: {shown}\n"


def test_a_command_of_a_group_has_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        console.run(failing(GanportError('`provider="x"`', hint="`batch_size`")), "cmd", ["sub"])
    assert capsys.readouterr().err == "error: --provider x\nhint: batch_size\n"
    console.note("`batch_size`")
    assert capsys.readouterr().err == "batch_size\n", "no command runs any more"


def test_an_error_has_a_code() -> None:
    assert ProofError("bad").code == ""
    assert ProofError("bad", "hint", code="psnr").code == "psnr"


def logs() -> None:
    for name in ("gan_serve.runtime", "gan_core", "gan_export.x", "gan_trainer", "gan_bench"):
        logging.getLogger(name).debug("not shown")
    logging.getLogger("gan_serve.runtime").info("no `number` in %s", "a\nb\x1b")
    logging.getLogger("gan_export.x").warning("two")
    logging.getLogger("gan_trainer").error("three")
    logging.getLogger("somebody.else").warning("not ours")


def test_what_libraries_log_is_printed_once(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """`caplog` is a handler of the root logger: it gets what is not ours, and ours outside of a command."""
    app = console.new_app()

    @app.command()
    def work(number: int = 1) -> None:
        logs()
        print("data", number)

    for _ in range(2):  # a second command in the process prints no line twice
        with pytest.raises(SystemExit):
            console.run(app, "cmd", [])
        out, err = capsys.readouterr()
        assert out == "data 1\n"
        assert err == "note: no --number in a b\\x1b\nwarning: two\nwarning: three\n"
    assert [record.getMessage() for record in caplog.records] == ["not ours"] * 2
    caplog.clear()
    logs()
    assert [record.getMessage() for record in caplog.records] == ["two", "three", "not ours"]
    assert capsys.readouterr().err == ""


def bar(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, waited_s: float) -> list[object]:
    shown: list[object] = []

    class Bar:
        def __enter__(self) -> Bar:
            return self

        def update(self, n: int) -> None:
            shown.append(n)

        def __exit__(self, *_: object) -> None:
            shown.append("end")

    clock = iter([0.0, 0.1, waited_s, waited_s, waited_s])
    monkeypatch.setattr("gan_serve.terminal.console.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("gan_serve.terminal.console.sys.stderr.isatty", lambda: terminal)

    def progress(length: int, label: str) -> Bar:
        shown.append((length, label))
        return Bar()

    monkeypatch.setattr(console, "progress", progress)
    assert list(console.with_progress([range(10)] * 3, 100, "drawing")) == [range(10)] * 3
    return shown


def test_progress_shows_after_two_seconds_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bar(monkeypatch, terminal=True, waited_s=2.5) == [(100, "drawing"), 20, 10, "end"]
    assert bar(monkeypatch, terminal=True, waited_s=1.5) == []
    assert bar(monkeypatch, terminal=False, waited_s=9.0) == []


def leaving(program: str) -> subprocess.CompletedProcess[str]:
    code = f"import atexit, sys\nfrom gan_serve.terminal import console\natexit.register(print, 'atexit')\n{program}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_leaving_prints_all_there_is_and_skips_the_rest(code: int) -> None:
    done = leaving(f"print('out'); print('err', file=sys.stderr); console.leave(SystemExit({code}))")
    assert (done.returncode, done.stdout, done.stderr) == (code, "out\n", "err\n")


@pytest.mark.parametrize(("given", "code", "err"), [("None", 0, ""), ("'no number'", 1, "no number\n")])
def test_an_unusual_exit_goes_the_usual_way(given: str, code: int, err: str) -> None:
    done = leaving(f"console.leave(SystemExit({given}))")
    assert (done.returncode, done.stdout, done.stderr) == (code, "atexit\n", err)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_whole_words_and_commands_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    command = "gan-gen --model g.onnx --n 25"
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        console.fail("something that went wrong", command)
        console.note(f"next: {command}")
        broken = "error: something\nthat went wrong\n" if stream.isatty() else "error: something that went wrong\n"
        assert stream.getvalue() == f"{broken}hint: {command}\nnext: {command}\n"


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
def test_a_progress_bar_fits_its_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stderr", stream)
    with console.progress(3, "drawing") as bar:
        for _ in range(3):
            bar.update(1)
    lines = [re.sub(r"\x1b\[[?\d]*[a-zA-Z]", "", line) for line in re.split(r"[\r\n]", stream.getvalue())]
    assert any("100%" in line for line in lines)
    assert max(len(line.rstrip()) for line in lines) <= columns - (columns > 30)


def test_a_warning_takes_the_place_of_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", stream)
    with console.progress(3, "drawing") as bar:
        bar.update(1)
        console.warn("full")
    assert "\r\x1b[Kwarning: full\n" in stream.getvalue()
    console.warn("over")
    assert stream.getvalue().endswith("\nwarning: over\n")


@pytest.mark.parametrize(
    ("terminal", "quiet", "verbose", "shown"),
    [
        (True, False, False, "\r\x1b[Kstep 1\r\x1b[Kstep 2 of a long read\r\x1b[Knote: said\n\r\x1b[Kstep 3\r\x1b[K"),
        (False, False, False, "note: said\n"),
        (True, True, False, ""),
        (True, False, True, "note: step 1\nnote: step 2 of a long\nreading\nnote: said\nnote: step 3\n"),
    ],
)
def test_the_steps_of_a_library_have_the_last_line_of_a_terminal(
    terminal: bool, quiet: bool, verbose: bool, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, log = (Terminal() if terminal else io.StringIO()), logging.getLogger("gan_export.test")
    app = console.new_app()

    @app.command()
    def work() -> None:
        console.set_verbose(verbose)
        with console.steps("gan_export"):
            log.debug("step 1")
            log.debug("step 2 of a long reading")
            log.info("said")
            log.debug("step 3")
        log.debug("after")

    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "22")
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(SystemExit):
        console.run(app, "work", ["--quiet"] * quiet)
    expected = shown + "note: after\n" * verbose
    assert stream.getvalue() == expected
