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
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager
from typing import Any, NoReturn, TextIO, TypeVar, cast

import typer

from gan_core import process
from gan_core.errors import GanportError
from gan_core.printable import json_text, printable
from gan_serve.terminal import layout, pictures, shell
from gan_serve.terminal.layout import Column as Column
from gan_serve.terminal.layout import table as table
from gan_serve.terminal.layout import wrap as wrap
from gan_serve.terminal.shell import explain_stdout

EXIT_INTERRUPTED = 130
PATIENCE_S = 2.0
"""Before a progress bar is shown."""

PREFIXES = ("error", "hint", "warning", "next")
"""What lines on stderr begin with, and is coloured."""

LOGGERS = ("gan_core", "gan_serve", "gan_trainer", "gan_export", "gan_bench")
"""The packages whose log a command prints."""

Report = Callable[[str, str], None]
"""Takes a message and a hint (or an empty one)."""

Part = TypeVar("Part", bound=Sized)

_PARAMETER = re.compile(r"`([a-z_][a-z0-9_]*)(?:=(?:\"([^\"`]*)\"|([^\"`\s]+)))?`")
_running: list[Any] = []
"""The contexts of the commands that run, the innermost last."""


def new_app(help_text: str = "", **settings: Any) -> typer.Typer:
    """A typer application in the house style: plain text help, no rich, no shell-completion options.

    Without `help_text` the callback's docstring says what the command does (typer takes an empty text for one).
    """
    if help_text:
        settings["help"] = help_text
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        **settings,
    )


def note(text: str) -> None:
    """One line for the person at the terminal, on stderr."""
    with contextlib.suppress(OSError, ValueError):  # a stderr that is full, closed or has no reader fails no job
        head, colon, rest = printable(with_options(text)).partition(": ")
        head = layout.state(head) if head in PREFIXES else head
        print(layout.painted(head + colon + rest, sys.stderr), file=sys.stderr, flush=True)


def with_options(text: str) -> str:
    """`text` with the running command's options in the place of the parameters that stand in it in backticks.

    `batch_size` becomes --batch-size, `provider="cpu"` --provider cpu, `tf32=True` --tf32, `ema=False` --no-ema. What
    the command has no option for stays as it is, without the backticks.
    """
    options = _options() if "`" in text else {}

    def shown(match: re.Match[str]) -> str:
        option = options.get(match[1])
        value = match[3] if match[2] is None else match[2]
        if option is None:
            return match[0].strip("`")
        if value == "False":
            return f"--no-{option[2:]}"
        return option if value in (None, "True") else f"{option} {shlex.quote(value)}"

    return _PARAMETER.sub(shown, text)


def _options() -> dict[str, str]:
    """Parameter → option, {"batch_size": "--batch-size"}, by its function's name and its own: of the running command,
    and of the other commands of its group for what only these take."""
    options = {"debug": "--debug"}  # which every command takes, and typer does not know
    for command in _commands() if _running else ():
        for parameter in command.params:
            option = next((name for name in parameter.opts if name.startswith("--")), None)
            if option is not None:
                options.setdefault(parameter.name, option)
                options.setdefault(option.removeprefix("--").replace("-", "_"), option)
    return options


def _commands() -> list[Any]:
    """The running command; where it is one of a group's, the others of the group after it."""
    context = _running[-1]
    group: dict[str, Any] = getattr(context.command, "commands", {})
    named = group.get(context.invoked_subcommand or "")
    return [named, *group.values()] if named else [context.command]


class _Notes(logging.Handler):
    """Prints what is logged, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = " ".join(record.getMessage().split())
        except Exception:
            self.handleError(record)
        else:
            note(f"{'warning' if record.levelno >= logging.WARNING else 'note'}: {text}")


@contextlib.contextmanager
def log_on_stderr() -> Iterator[None]:
    """Within, what ganport's packages log from level INFO on is printed, and goes to no other handler.

    For a process of ours; a program that uses the packages decides itself what becomes of their log.
    """
    handler = _Notes(logging.INFO)
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


def show_json(value: Any) -> None:
    """`value` as JSON on one line of stdout."""
    show(json_text(value))


def shows_pictures(stream: TextIO | None = None) -> bool:
    """Whether stdout, or `stream`, is a terminal that shows pictures."""
    return bool(pictures.protocol_of(os.environ)) and (stream or sys.stdout).isatty()


def show_picture(png: bytes, stream: TextIO | None = None) -> None:
    """A PNG on stdout or `stream`, where that is a terminal that shows pictures; else nothing."""
    protocol = pictures.protocol_of(os.environ)
    if protocol and shows_pictures(stream):
        with explain_stdout():
            print(pictures.sequence(png, protocol), file=stream or sys.stdout, flush=True)


def warn(text: str) -> None:
    """One line that a person should not miss, on stderr."""
    note(f"warning: {text}")


def progress(length: int, label: str) -> AbstractContextManager[Any]:
    """typer's progress bar on stderr, shown only on a terminal. The context's value has `.update(n)`."""
    bar = typer.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())
    return cast("AbstractContextManager[Any]", bar)


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
            elif time.monotonic() >= shows_at and sys.stderr.isatty():
                bar = shown.enter_context(progress(length, label))
                bar.update(done)


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
    not without `takes_signals`, nor where they are ignored.
    `--debug` anywhere among the arguments (or GANPORT_DEBUG=1) lets the traceback through. `report` prints the error
    and its hint in the place of `fail`. What libraries log meanwhile is printed (`log_on_stderr`).
    """
    shell.mend()
    arguments = list(sys.argv[1:] if args is None else args)
    debug = bool(os.environ.get("GANPORT_DEBUG"))
    if "--debug" in arguments:
        arguments.remove("--debug")
        debug = True
    outer = len(_running)
    try:
        with process.handled(ending=takes_signals), log_on_stderr():
            code = exit_code(lambda: _invoke(app, name, arguments), name=name, debug=debug, report=report)
    finally:
        del _running[outer:]
    sys.exit(code)


def leave(done: SystemExit) -> NoReturn:
    """Ends the process at once with the exit code of `done`, everything printed; what is open is the system's to close.

    For a command whose files are written by then: taking the interpreter and onnxruntime apart takes as long as
    drawing two dozen images. Where the code is no number, or something cannot be printed, it ends as usual.
    """
    if not isinstance(done.code, int):
        raise done
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        raise done from None
    os._exit(done.code)


def exit_code(work: Callable[[], int], *, name: str, debug: bool = False, report: Report | None = None) -> int:
    """Runs `work`, prints what goes wrong as one line and a hint on stderr, and returns the exit code."""
    say = report or fail
    try:
        return work()
    except BaseException as error:
        if isinstance(error, typer.Abort) or process.is_interruption(error):
            if not process.by_signal():
                say("interrupted", "")
            return EXIT_INTERRUPTED
        if isinstance(error, BrokenPipeError):
            shell.silence(sys.stdout)
            return 128 + getattr(signal, "SIGPIPE", 13)  # Windows has no such signal
        if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
            error = shell.explained(error)
        if debug or not isinstance(error, Exception):
            raise
        if isinstance(error, GanportError):
            say(str(error), error.hint)
            return error.exit_code
        # typer's own usage errors: unknown option, value out of range, missing argument.
        if hasattr(error, "format_message"):
            context = getattr(error, "ctx", None)
            command = context.command_path if context is not None else name
            say(error.format_message().rstrip("."), f"{command} --help lists what it takes")
            return 2
        say(f"unexpected {type(error).__name__}: {error}", f"run again with --debug and report the traceback ({name})")
        return 1


def fail(message: str, hint: str = "") -> None:
    """Prints `error: …` and, where there is one, `hint: …`; each is one line."""
    note(f"error: {' '.join(message.split())}")
    if hint:
        note(f"hint: {hint}")


def _invoke(app: typer.Typer, name: str, arguments: list[str]) -> int:
    """Not through `command.main`, which has exit codes of its own for Ctrl-C and a closed pipe."""
    shell.refuse_empty(arguments)
    command = typer.main.get_command(app)
    try:
        with command.make_context(name, shell.with_home(arguments)) as context:
            _running.append(context)  # until `run` has told what went wrong
            result = command.invoke(context)
    except typer.Exit as done:
        result = done.exit_code
    with explain_stdout():
        sys.stdout.flush()  # here, so that a closed pipe is met by `exit_code`
    return result if isinstance(result, int) else 0
