"""What all five commands share at the terminal: how they start, fail and report.

stdout carries data (paths, tables and JSON that were asked for); everything else goes to stderr. `run`
turns every failure into one line and a hint, with the exit code of its class (see `gan_core.errors`).
Nothing reaches the terminal but through here, so that text from files is made harmless here (`gan_core.printable`).

What libraries have to say they log, below their package's name: a running command prints it as `note: …` and
`warning: …`. A parameter that a library names in backticks (`batch_size`, `provider="cpu"`) is printed as the option of
the running command that carries it (--batch-size, --provider cpu).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, NoReturn, TextIO, TypeVar

import typer

from gan_core import process
from gan_core.errors import ContractError, GanportError, JobError, MissingPackageError, ProofError
from gan_core.printable import json_text, printable
from gan_serve.terminal import layout, shell
from gan_serve.terminal.commands import named_once as named_once
from gan_serve.terminal.commands import new_app as new_app
from gan_serve.terminal.commands import running
from gan_serve.terminal.commands import with_options as with_options
from gan_serve.terminal.layout import Column as Column
from gan_serve.terminal.layout import table as table
from gan_serve.terminal.layout import wrap as wrap
from gan_serve.terminal.shell import explain_stdout
from gan_serve.terminal.shell import leave as leave

EXIT_INTERRUPTED = 130
PATIENCE_S = 2.0
"""Before a progress bar is shown."""
BESIDE_BAR = 25
"""Columns that brackets, a share and a time take beside a progress bar."""

PREFIXES = ("error", "hint", "warning", "next")
"""What lines on stderr begin with, and is coloured."""
COMMANDS = ("hint: ", "next: ", "  as a page: ")
"""Lines that have commands to copy: a terminal breaks them, not we."""

LOGGERS = ("gan_core", "gan_serve", "gan_trainer", "gan_export", "gan_bench")
"""The packages whose log a command prints."""

Report = Callable[[str, str], None]
"""Takes a message and a hint (or an empty one)."""

Part = TypeVar("Part", bound=Sized)

CODES = {
    ProofError: "proof",
    JobError: "job",
    ContractError: "contract",
    MissingPackageError: "missing-package",
    GanportError: "input",
}
"""What JSON has as an error's code where the error itself has none; the first that fits."""


@dataclass
class _Call:
    """How a command was called, and whether its JSON is out."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False
    debug: bool = False
    shown: bool = False
    bar: bool = False
    """Whether a progress bar, or a step, stands on the terminal's last line."""


_calls = [_Call()]
"""Of the commands that run, the innermost last; the first is of no command."""


def note(text: str) -> None:
    """One line for the person at the terminal, on stderr; with `--quiet`, nothing."""
    if not _calls[-1].quiet:
        _say(text)


def is_quiet() -> bool:
    """Whether the running command was asked for nothing but its data and what goes wrong (`--quiet`)."""
    return _calls[-1].quiet


def set_verbose(asked: bool) -> None:
    """For a command with `--verbose`: whether it was given. What libraries log for debugging is printed then, too."""
    if asked and is_quiet():
        raise GanportError("`verbose` and --quiet contradict each other", hint="leave out one of them")
    _calls[-1].verbose = asked
    for name in LOGGERS if asked else ():
        logging.getLogger(name).setLevel(logging.DEBUG)  # until `log_on_stderr` sets it back


def is_verbose() -> bool:
    """Whether the running command was asked for everything it could say (`--verbose`)."""
    return _calls[-1].verbose


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a stderr that is full, closed or has no reader fails no job
        text = printable(with_options(text))
        if sys.stderr.isatty() and not text.startswith(COMMANDS):
            text = layout.filled(text, layout.width(sys.stderr))
        head, colon, rest = text.partition(": ")
        head = layout.state(head) if head in PREFIXES else head
        clear = "\r\x1b[K" if _calls[-1].bar else ""
        print(clear + layout.painted(head + colon + rest, sys.stderr), file=sys.stderr, flush=True)


class _Notes(logging.Handler):
    """Prints what is logged, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = " ".join(record.getMessage().split())
        except Exception:
            self.handleError(record)
        else:
            told = record.levelno >= logging.INFO or is_verbose()
            warn(text) if record.levelno >= logging.WARNING else note(f"note: {text}") if told else _show_step(text)


@contextlib.contextmanager
def log_on_stderr() -> Iterator[None]:
    """Within, what ganport's packages log from level INFO on is printed, and goes to no other handler.

    For a process of ours; a program that uses the packages decides itself what becomes of their log.
    """
    handler = _Notes(logging.DEBUG)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False  # or a handler that somebody gave the root logger would print it again
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


def show(text: str, stream: TextIO | None = None) -> None:
    """What was asked for: a path, a table, a page, on stdout or `stream`. Its line breaks are its own.

    Text from a file that goes into a page is made one line before, by `table`, `wrap` or `printable`.
    """
    stream = stream or sys.stdout
    with explain_stdout():
        print(layout.painted(printable(text, keep="\n" + layout.MARKS), stream), file=stream)


def show_path(path: str | os.PathLike[str]) -> None:
    """The path of what was written, on one line of stdout."""
    show(printable(os.fspath(path)))


def show_json(value: Any, failed: GanportError | None = None) -> None:
    """`value` as JSON on one line of stdout. An object of a command that is about to fail gets what an error has, too:
    the caller raises `failed` then."""
    _calls[-1].shown = True
    show(json_text(value if failed is None else value | _as_json(str(failed), failed.hint, _code(failed))))


def _as_json(message: str, hint: str, code: str) -> dict[str, str]:
    return {"error": printable(with_options(message)), "hint": printable(with_options(hint)), "code": code}


def _code(error: GanportError) -> str:
    return error.code or next(code for kind, code in CODES.items() if isinstance(error, kind))


def shows_pictures(stream: TextIO | None = None) -> bool:
    """Whether stdout, or `stream`, is a terminal that shows pictures."""
    return bool(layout.protocol_of(os.environ)) and (stream or sys.stdout).isatty()


def show_picture(png: bytes, stream: TextIO | None = None) -> None:
    """A PNG on stdout or `stream`, where that is a terminal that shows pictures; else nothing."""
    protocol = layout.protocol_of(os.environ)
    if protocol and shows_pictures(stream):
        with explain_stdout():
            print(layout.sequence(png, protocol), file=stream or sys.stdout, flush=True)


def warn(text: str) -> None:
    """One line that a person should not miss, on stderr."""
    _say(f"warning: {text}")


@contextlib.contextmanager
def progress(length: int, label: str) -> Iterator[Any]:
    """typer's progress bar on stderr, shown only on a terminal. The context's value has `.update(n)`."""
    width = min(36, max((layout.width(sys.stderr) or layout.WIDEST) - len(label) - BESIDE_BAR, 4))
    shown = sys.stderr.isatty() and not is_quiet()
    with typer.progressbar(length=length, label=label, width=width, file=sys.stderr, hidden=not shown) as bar:
        _calls[-1].bar = shown
        try:
            yield bar
        finally:
            _calls[-1].bar = False


def with_progress(parts: Iterable[Part], length: int, label: str) -> Generator[Part, None, None]:
    """`parts` as they are, of `length` members together; after two seconds, on a terminal, a bar counts them."""
    done, shows_at = 0, time.monotonic() + PATIENCE_S
    with contextlib.ExitStack() as shown:
        bar: Any = None
        for part in parts:
            yield part
            done += len(part)
            if bar is not None:
                bar.update(len(part))
            elif time.monotonic() >= shows_at and sys.stderr.isatty() and not is_quiet():
                bar = shown.enter_context(progress(length, label))
                bar.update(done)


@contextlib.contextmanager
def steps(package: str) -> Iterator[None]:
    """Within, on a terminal, the last line says at which step a library is: what `package` logs for debugging. It is
    gone at the end. With `--verbose` each step has a line of its own, as ever; with `--quiet` there are none."""
    logger = logging.getLogger(package)
    before = logger.level
    if sys.stderr.isatty() and not (is_quiet() or is_verbose()):
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(before)
        if _calls[-1].bar:
            _show_step("")


def _show_step(text: str) -> None:
    width = layout.width(sys.stderr) or layout.WIDEST
    with contextlib.suppress(OSError, ValueError):
        print(f"\r\x1b[K{printable(text)[: width - 1]}", end="", file=sys.stderr, flush=True)
        _calls[-1].bar = bool(text)


def run(
    app: typer.Typer,
    name: str,
    args: Sequence[str] | None = None,
    *,
    report: Report | None = None,
    takes_signals: bool = True,
) -> NoReturn:
    """Runs `app` as the command `name` and exits: 0 done, 1 job failed, 2 wrong input, 130 interrupted.

    SIGTERM and SIGHUP end it as Ctrl-C does, temporary files deleted, but for that the process then dies of the signal;
    not without `takes_signals`, nor where they are ignored. Anywhere among the arguments, `--debug` (or
    GANPORT_DEBUG=1) lets the traceback through, `--quiet` keeps notes back, `--no-color` colours. `report` prints the
    error and its hint in the place of `fail`. Where a command with `--json` fails, stdout has the error as JSON, too.
    What libraries log meanwhile is printed (`log_on_stderr`).
    """
    shell.mend()
    arguments, flags = shell.without_flags(list(sys.argv[1:] if args is None else args))
    debug = bool(os.environ.get("GANPORT_DEBUG")) or "--debug" in flags
    command = typer.main.get_command(app)
    if f"_{name.replace('-', '_').upper()}_COMPLETE" in os.environ:
        command.main([], prog_name=name)
    outer = len(running)
    _calls.append(_Call("--quiet" in flags, json=shell.takes_json(command, arguments), debug=debug))
    try:
        with (
            process.handled(ending=takes_signals),
            log_on_stderr(),
            layout.uncoloured("--no-color" in flags),
        ):
            code = exit_code(lambda: _invoke(command, name, arguments), name=name, report=report)
    finally:
        del running[outer:], _calls[-1]
    sys.exit(code)


def exit_code(work: Callable[[], int], *, name: str, report: Report | None = None) -> int:
    """Runs `work`, prints what goes wrong as one line and a hint on stderr, and returns the exit code."""
    try:
        return work()
    except BaseException as error:
        if isinstance(error, BrokenPipeError):
            shell.silence(sys.stdout)
            return 128 + getattr(signal, "SIGPIPE", 13)  # Windows has no such signal
        interrupted = isinstance(error, typer.Abort) or process.is_interruption(error)
        if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
            error = shell.explained(error)
        if not interrupted and (_calls[-1].debug or not isinstance(error, Exception)):
            raise
        message, hint, code, status = ("interrupted", "", "interrupted", EXIT_INTERRUPTED)
        if not interrupted:
            message, hint, code, status = _told(error, name)
        if not (interrupted and process.by_signal()):
            (report or fail)(message, hint)
        if _calls[-1].json and not _calls[-1].shown:
            with contextlib.suppress(GanportError, BrokenPipeError):  # stdout may be what failed
                show_json(_as_json(message, hint, code))
        return status


def _told(error: BaseException, name: str) -> tuple[str, str, str, int]:
    """(message, hint, code, exit code) of what went wrong."""
    if isinstance(error, GanportError):
        return str(error), error.hint, _code(error), error.exit_code
    # typer's own usage errors: unknown option, value out of range, missing argument.
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else name
        return shell.in_plain_words(error.format_message()), f"{command} --help lists what it takes", "usage", 2
    report = f"run again with --debug and report the traceback ({name})"
    return f"unexpected {type(error).__name__}: {error}", report, "unexpected", 1


def fail(message: str, hint: str = "") -> None:
    """Prints `error: …` and, where there is one, `hint: …`; each is one line."""
    _say(f"error: {' '.join(message.split())}")
    if hint:
        _say(f"hint: {hint}")


def _invoke(command: Any, name: str, arguments: list[str]) -> int:
    """Not through `command.main`, which has exit codes of its own for Ctrl-C and a closed pipe."""
    shell.refuse_empty(arguments)
    try:
        with command.make_context(name, shell.with_home(arguments)) as context:
            running.append(context)  # until `run` has told what went wrong
            result = command.invoke(context)
    except typer.Exit as done:
        result = done.exit_code
    with explain_stdout():
        sys.stdout.flush()  # here, so that a closed pipe is met by `exit_code`
    return result if isinstance(result, int) else 0
