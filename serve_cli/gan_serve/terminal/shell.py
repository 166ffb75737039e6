"""A command's arguments and streams as a shell leaves them: `~`, an unset variable, a stdout that is closed or full.

A daemon or `>&-` starts a command with some of them closed. The next file that is opened would get the free number, and
what is printed would go into that file.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TextIO, cast

from gan_core.errors import GanportError

_ESCAPE = "ganport-escape"
_PLAIN = {"─": "-"}
"""What a table is ruled with."""

_USAGE = {
    "Input should be a valid integer, unable to parse string as an integer": "expected a whole number",
    "Input should be a valid number, unable to parse string as a number": "expected a number",
    "Input should be greater than or equal to": "expected at least",
    "Input should be less than or equal to": "expected at most",
}
"""What typer says of a value, and what is printed."""

FLAGS = {"--quiet": "--quiet", "-q": "--quiet", "--no-color": "--no-color", "--debug": "--debug"}

_closed: set[int] = set()


def mend() -> None:
    """Opens the null device in the place of what is closed, and lets no character fail to be printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _closed.add(number)
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(number, True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    codecs.register_error(_ESCAPE, _escaped)
    if getattr(sys.stdout, "errors", "") in ("strict", "surrogateescape") and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors=_ESCAPE)


def in_plain_words(message: str) -> str:
    """typer's message on a wrong argument, as one of ours."""
    for theirs, ours in _USAGE.items():
        message = message.replace(theirs, ours)
    return message.rstrip(".")


def refuse_closed_stdout() -> None:
    """Raises `GanportError` when the command was started without a stdout."""
    if 1 in _closed:
        raise GanportError("stdout is closed, so nothing can be written to it", hint='name a file: `out="FILE.png"`')


@contextlib.contextmanager
def explain_stdout() -> Iterator[None]:
    """Turns the system's refusals to write to stdout, but for a reader that has gone, into a `GanportError`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise refused(error) from error


def refused(error: OSError) -> GanportError:
    """Why stdout cannot be written to; from here on it is not tried again."""
    silence(sys.stdout)
    return GanportError(
        f"cannot write to stdout: {error.strerror or error}", hint="free some disk space, or send it elsewhere"
    )


def silence(stream: TextIO) -> None:
    """Sends what `stream` still holds nowhere, so that the end of the process does not fail on it again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""A character that the encoding lacks as JSON writes it, `\u221e`, so that JSON stays the same JSON."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    units: Any = memoryview(character.encode("utf-16-be", "surrogatepass")).cast("B")
    words = (f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
    return _PLAIN.get(character) or "".join(words), error.start + 1


def without_flags(arguments: Sequence[str]) -> tuple[list[str], set[str]]:
    """(the arguments without what every command takes anywhere, those of `FLAGS` that were among them)."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    found = {FLAGS[word] for word in arguments[:end] if word in FLAGS}
    return [word for at, word in enumerate(arguments) if at >= end or word not in FLAGS], found


def refuse_empty(arguments: Sequence[str]) -> None:
    """Raises `GanportError` for `--out "$UNSET"`: an empty path would be the current folder. Nothing takes one."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        if not argument or (option.startswith("--") and equals and not value):
            named = option or before
            what = f"{named} is empty, expected a value" if named.startswith("-") else "an argument is empty"
            raise GanportError(what, hint="a variable of the shell that is not set?")


def explained(error: OSError) -> OSError | GanportError:
    """The system's refusal to read or write some place, as far as it says which; what else it means is a bug."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        return GanportError(
            f"cannot use {os.fsdecode(error.filename)}: {reason}", hint="check the path, and its permissions"
        )
    of_a_stream = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EBADF, errno.EIO)
    return refused(error) if of_a_stream else error


def with_home(arguments: Sequence[str]) -> list[str]:
    """The arguments with `~` as the home folder where a shell leaves it: `--out=~/g.png`, `-o~/g.png`, `'~/g.png'`.

    Raises `GanportError` for the home of nobody: a folder called `~name` would be made.
    """
    expanded = []
    for argument in arguments:
        option, value = cast("re.Match[str]", _VALUE.fullmatch(argument)).groups()
        if value.startswith("~"):
            home = os.path.expanduser(value)  # noqa: PTH111 (a Path would lose a final slash)
            if home == value and ("/" in value or value == "~"):
                raise GanportError(
                    f"{value}: there is no home folder {value.split('/')[0]}",
                    hint=f"a name that begins so is ./{value}",
                )
            argument = (option or "") + home
        expanded.append(argument)
    return expanded


_VALUE = re.compile(r"(--[\w-]+=|-[A-Za-z](?=~))?(.*)", re.DOTALL)


def takes_json(command: Any, arguments: Sequence[str]) -> bool:
    """Whether `--json` is among the arguments, and an option of the command; one that names a file names stdout."""
    words = arguments[: arguments.index("--") if "--" in arguments else None]
    if "--json" not in words:
        return False
    to_stdout = words[words.index("--json") + 1 :][:1] == ["-"]
    group: dict[str, Any] = getattr(command, "commands", {})
    named = next((word for word in arguments if word in group), getattr(command, "default", ""))
    parameters = group.get(named, command).params
    return any("--json" in parameter.opts and (parameter.is_flag or to_stdout) for parameter in parameters)


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
