"""How the commands are built: options in panels on their help pages, what every command takes, what may be left out.

An option's panel is its `rich_help_panel`; those without stand under Options. Every command takes `--version`,
`--quiet`, `--no-color` and `--debug`, anywhere on its line.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from gan_core import __version__
from gan_core.errors import GanportError
from gan_serve.terminal import layout

T = TypeVar("T")

GENERAL = "General"
"""The panel of what every command takes."""
HELP_WIDTH = 100
running: list[Any] = []
"""The contexts of the commands that run, the innermost last."""

_PARAMETER = re.compile(r"`([a-z_][a-z0-9_]*)(?:=(?:\"([^\"`]*)\"|([^\"`\s]+)))?`")
OPTION_WIDTH = 30
"""Columns that the names of options have on a help page, at most."""


def new_app(help_text: str = "", *, default: str = "", cls: Any = None, **settings: Any) -> typer.Typer:
    """A typer application in ganport's style: plain text help in panels, what every command takes, shell completion.

    Without `help_text` the callback's docstring says what the command does (typer takes an empty text for one).
    `default` is the command of a group that a file's name stands for, where no command is named; `cls` a
    kind of `Group`.
    """
    if help_text:
        settings["help"] = help_text
    if default:
        settings["subcommand_metavar"] = "FILE | COMMAND [ARGS]..."
    return _App(
        cls=cls or type("Group", (Group,), {"default": default}),
        add_completion=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        **settings,
    )


def named_once(argument: T | None, option: T | None, name: str) -> T | None:
    """What was named by its place on the line, or by the option `name`. Raises `GanportError` where the two differ."""
    if argument is not None and option is not None and argument != option:
        raise GanportError(f"{argument} and {name} {option} contradict each other", hint="leave out one of them")
    return option if argument is None else argument


def in_panel(name: str) -> Callable[..., Any]:
    """`typer.Option` for the options of one panel."""
    return functools.partial(typer.Option, rich_help_panel=name)


def answered_by(parse: Callable[..., Any]) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Gives a command the options that `parse` takes in place of its parameter `answers`, and what `parse` makes of
    them for it. An option that the command has itself is its own.

    A function that is itself a `parse` adds its options to another's in the same way.
    """
    every = inspect.signature(parse, eval_str=True).parameters

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        own = inspect.signature(command, eval_str=True).parameters
        taken = {name: parameter for name, parameter in every.items() if name not in own}

        @functools.wraps(command)
        def run(**given: object) -> T:
            said = {name: given.pop(name) for name in taken if name in given}
            return command(**given, answers=parse(**said))

        listed = [p for name, q in own.items() for p in (taken.values() if name == "answers" else (q,))]
        listed = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in listed]
        del run.__wrapped__  # typer would read the signature of the function inside
        run.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in listed}
        return run

    return decorate


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
    for command in _commands() if running else ():
        for parameter in command.params:
            option = next((name for name in parameter.opts if name.startswith("--")), None)
            if option is not None:
                options.setdefault(parameter.name, option)
                options.setdefault(option.removeprefix("--").replace("-", "_"), option)
    return options


def _commands() -> list[Any]:
    """The running command; where it is one of a group's, the others of the group after it."""
    context = running[-1]
    group: dict[str, Any] = getattr(context.command, "commands", {})
    named = group.get(context.invoked_subcommand or "")
    return [named, *group.values()] if named else [context.command]


class _App(typer.Typer):
    def command(self, *args: Any, **settings: Any) -> Any:
        return super().command(*args, **{"cls": _Command} | settings)


class _Paged:
    """A typer command whose options stand in panels, those of every command in the last."""

    def get_params(self, ctx: Any) -> list[Any]:
        own = list(super().get_params(ctx))  # type: ignore[misc]
        completion = [each for each in own if each.name in ("install_completion", "show_completion")]
        for each in completion:
            each.rich_help_panel = GENERAL
        rest = [each for each in own if each not in completion]
        return [*rest[:-1], *_general(), *completion, *rest[-1:]]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        return [piece.strip("{}") for piece in pieces]  # typer's braces around what must be given

    def get_help_option_names(self, *_: Any) -> list[str]:
        return ["-h", "--help"]

    def make_context(self, *args: Any, **extra: Any) -> Any:
        settings = {"max_content_width": HELP_WIDTH, "color": layout.colours(sys.stdout)}
        return super().make_context(*args, **settings | extra)  # type: ignore[misc]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                panel = GENERAL if parameter.name == "help" else getattr(parameter, "rich_help_panel", None)
                name = record[0].partition(" <")[0] if is_argument else record[0]  # typer adds its type: FILE <path>
                panels.setdefault(panel or ("Arguments" if is_argument else "Options"), []).append((name, record[1]))
        longest = max(len(name) for rows in panels.values() for name, _ in rows)
        column = min(longest, OPTION_WIDTH, formatter.width // 3)  # the same in all panels
        general = panels.pop(GENERAL)
        for panel, rows in [*panels.items(), (GENERAL, general)]:
            if panel == GENERAL and isinstance(self, TyperGroup):
                self.format_commands(ctx, formatter)
            with formatter.section(typer.style(panel, bold=True) if layout.colours(sys.stdout) else panel):
                formatter.write_dl([(name.ljust(column), text) for name, text in rows], col_max=column)


class _Command(_Paged, TyperCommand):
    pass


class Group(_Paged, TyperGroup):
    """A command of several."""

    default = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if self.default and not args and not ctx.resilient_parsing:
            raise GanportError(
                "expected a file or a command, got none",
                hint=f"{ctx.command_path} FILE, or one of: {', '.join(self.commands)}",
            )
        if self.default and args and args[0] not in self.commands:
            options = {option for parameter in self.get_params(ctx) for option in parameter.opts}
            is_option = args[0].startswith("-")
            if args[0].partition("=")[0] not in options if is_option else _names_a_file(args[0]):
                args = [self.default, *args]
        return super().parse_args(ctx, args)


def _names_a_file(word: str) -> bool:
    return os.sep in word or bool(Path(word).suffix) or os.path.lexists(word)


def _print_version(asked: bool) -> None:
    if asked:
        from gan_serve.terminal import console  # which imports this module

        console.show(f"ganport {__version__}")
        raise typer.Exit


@functools.cache
def _general() -> tuple[Any, ...]:
    """The options of every command. All but `--version` are taken off its line before (`console.run`)."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    def option(*names: str, text: str, **settings: Any) -> Any:
        return typer.Option(False, *names, help=text, rich_help_panel=GENERAL, expose_value=False, **settings)

    @app.command()
    def general(
        quiet: bool = option("--quiet", "-q", text="No notes and no progress, only warnings and errors."),
        no_color: bool = option("--no-color", text="No colours, like the variable NO_COLOR."),
        debug: bool = option("--debug", text="Show the traceback of an error."),
        version: bool = option("--version", "-V", text="Print the version.", is_eager=True, callback=_print_version),
    ) -> None:
        pass

    return tuple(typer.main.get_command(app).params)


UNSAID = "What the file does not say"
"""The panel of what an ONNX file does not say of itself."""
of_unsaid = in_panel(UNSAID)

ValueRange = Annotated[
    str | None,
    of_unsaid("--value-range", metavar="LO,HI", help="The output's values of black and white: 0,1."),
]
Latent = Annotated[
    str | None,
    of_unsaid(
        "--latent", metavar="NAME", help="Latent distribution: normal, N(0, 1); uniform, U(-1, 1); uniform01, U(0, 1)."
    ),
]
ZDim = Annotated[int | None, of_unsaid("--z-dim", metavar="N", min=1, help="Numbers in a latent.")]
Classes = Annotated[int | None, of_unsaid("--classes", metavar="N", min=1, help="Number of classes.")]


def unsaid(
    value_range: ValueRange = None,
    image: Annotated[
        str | None, of_unsaid("--image", metavar="CxHxW", help="The images' size, such as 1x28x28, of a flat output.")
    ] = None,
    latent: Latent = None,
    z_dim: ZDim = None,
    n_classes: Classes = None,
    inputs: Annotated[
        str | None,
        of_unsaid("--inputs", metavar="LIST", help="Which input is the latent, which the class: NAME=z,NAME=label."),
    ] = None,
    constant: Annotated[
        list[str] | None,
        of_unsaid("--constant", metavar="NAME=NUMBER", help="Another input, one number for all: psi=0.7. Repeats."),
    ] = None,
    output_key: Annotated[
        str | None, of_unsaid("--output-key", metavar="NAME", help="Which output is the image.")
    ] = None,
) -> dict[str, Any]:
    """All of them, as `gan_core.said.parse_answers` takes them (`answered_by`)."""
    return locals()
