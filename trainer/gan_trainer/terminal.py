"""The settings as options of gan-train, what it shows, and how processes of a torchrun job speak: as one.

No torch on import, so that `gan-train --help` needs none.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
import socket
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, NoReturn, TextIO

import typer

from gan_core.errors import GanportError
from gan_core.printable import printable
from gan_serve.terminal import console
from gan_serve.terminal.commands import Group
from gan_trainer.presets import DEFAULT
from gan_trainer.progress import Progress
from gan_trainer.settings import LIMITS, RUN, Setting, field_of, settings

PATIENCE = timedelta(seconds=5)
"""How long to wait for the one that speaks."""

BAR_WIDTH = 30
REDRAW_S = 0.1
RATE_WINDOW_S = 5.0


class Bar(Progress):
    """A bar on the last line of a terminal, ten times a second at most; elsewhere the lines stand alone."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.quiet = console.is_quiet()
        self.live = self.stream.isatty() and not self.quiet
        self._drawn = 0.0
        self._rate: list[tuple[float, int]] = []

    def update(self, fraction: float, step: int, images: int) -> None:
        super().update(fraction, step, images)
        now, _ = self._last
        if not self.live or now - self._drawn < REDRAW_S:
            return
        self._drawn = now
        # Where steps take longer than the window, the rate is that of the last one.
        self._rate = [point for point in self._rate if now - point[0] <= RATE_WINDOW_S] or self._rate[-1:]
        self._rate.append((now, images))
        done = round(BAR_WIDTH * fraction)
        bar = f"[{'#' * done}{'-' * (BAR_WIDTH - done)}] {fraction:4.0%}  step {step}"
        self._write(f"\r\x1b[K{'  '.join(filter(None, (bar, self._images_per_s(), self.left)))[: _columns()]}")

    def line(self, text: str, *more: str) -> None:
        """One whole line, above the bar. Of `more` a terminal shows what still fits. Quiet, only what went wrong."""
        if self.quiet and not text.startswith(("warning: ", "hint: ")):
            return
        for part in filter(None, more):
            if not self.live or len(text) + 2 + len(part) <= _columns():
                text = f"{text}  {part}"
        self._write(("\r\x1b[K" if self.live else "") + printable(console.with_options(text)) + "\n")
        self._drawn = 0.0

    def close(self) -> None:
        if self.live:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()

    def _images_per_s(self) -> str:
        (first, before), (last, now) = self._rate[0], self._rate[-1]
        return f"{(now - before) / (last - first):.0f} images/s" if last > first else ""


def _columns() -> int:
    """What a line may take without reaching the terminal's edge."""
    return shutil.get_terminal_size().columns - 1


def launched() -> bool:
    """Whether a launcher started this process as one of a job."""
    return "RANK" in os.environ or "WORLD_SIZE" in os.environ


def run_job(app: typer.Typer, name: str) -> NoReturn:
    """`console.run` for one process of a job: process 0 speaks, but an error is told by the first that meets one.

    The process ends at once. One that fails leaves torch's process group as it is: taking it down may wait for others
    that are gone. And gloo's threads may still hold Python objects: letting go of them aborts a process whose
    interpreter is being taken down. SIGTERM, which torchrun sends to the others, ends a process as it is, too.
    """
    out, err = sys.stdout, sys.stderr
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123

    def report(message: str, hint: str) -> None:
        sys.stderr = err
        tell(message, hint)

    try:
        console.run(app, name, report=report, takes_signals=False)
    except SystemExit as done:
        sys.stdout, sys.stderr = out, err
        console.leave(done)
    except BaseException:
        sys.stderr = err
        raise


def tell(message: str, hint: str) -> None:
    """Prints the error unless another process of the job has. Torchrun ends the others as soon as one has ended, so
    that all wait until it is told.
    """
    try:
        from gan_trainer.distributed import open_store, read_launch

        launch = read_launch()
        socket.create_connection((launch.address, launch.port), PATIENCE.total_seconds()).close()
        store, key = open_store(launch, PATIENCE, host=False), f"ganport/{launch.restarts}"
        first = store.add(f"{key}/failed", 1) == 1
        if not first:
            store.wait([f"{key}/told"], PATIENCE)
            return
    except (ImportError, GanportError, RuntimeError, OSError):  # no job, or nobody to ask: better told twice than never
        first = False
    console.fail(message, hint)
    if first:
        with contextlib.suppress(RuntimeError):
            store.set(f"{key}/told", "")


PLACE = "place"
"""The parameter that takes DATA where it is given without its option."""


def with_settings(command: Callable[..., int]) -> Callable[..., int]:
    """`command`, whose `**options` are settings, as a function that typer gives an option for each of them."""
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    options = [_parameter(name, kind, setting) for name, (kind, setting) in settings().items()]
    first = [one for one in own if one.name in ("ctx", PLACE)]
    made = [*first, *options, *(one for one in own if one not in first)]
    command.__signature__ = signature.replace(parameters=made)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in made} | {"return": int}
    return command


def _parameter(name: str, kind: type, setting: Setting) -> inspect.Parameter:
    """The keyword of the setting `name`, with its option. None is its default: a file, or the preset, may say it."""
    flag = f"--{name.replace('_', '-')}"
    usual = DEFAULT.ema_beta is not None if name == "ema" else setting.default
    if usual is None:
        usual = getattr(DEFAULT, field_of(name) or (name if name in LIMITS else ""), None)
    if kind is bool:
        flag = flag if usual is False and setting.panel == RUN else f"{flag}/--no-{flag[2:]}"
        shown = "" if usual is False else flag.split("/")[0][2:]
    else:
        shown = f"{usual:g}" if kind is float and usual is not None else "" if usual is None else str(usual)
    option = typer.Option(
        flag,
        metavar=setting.metavar or None,
        help=f"{setting.help} [default: {shown}]" if shown else setting.help,
        min=setting.least,
        show_default=False,
        rich_help_panel=setting.panel,
    )
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Annotated[kind | None, option]
    )


class TrainingGroup(Group):
    """A group whose own command takes DATA: what begins with a command's name is that command, all else training."""

    trains = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self.trains = False
        _, rest, _ = self.make_parser(ctx).parse_args([*args])
        self.trains = not (rest and rest[0] in self.commands)
        ctx.allow_interspersed_args = self.trains
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        return params if self.trains else [each for each in params if each.name != PLACE]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if self.trains:
            raise GanportError(
                f"one DATA is trained on, got {ctx.params[PLACE]} and {args[0]}",
                hint=f"a folder may hold several; commands, which stand first: {', '.join(self.commands)}",
            )
        return super().resolve_command(ctx, args)


def refuse_options(ctx: Any) -> None:
    """Raises `GanportError` for what a subcommand would not see: several processes, an option of training before it."""
    command = ctx.invoked_subcommand
    if launched():
        raise GanportError(
            f"{ctx.command_path} {command} runs in one process, this is one of torchrun's",
            hint="start it without torchrun; where there is none, unset RANK and WORLD_SIZE",
        )
    for name in ctx.params:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and name != PLACE:
            option = f"--{name.removeprefix('as_').replace('_', '-')}"
            raise GanportError(
                f"{option} before {command} is an option of training",
                hint=f"options of {command} come after it: {ctx.command_path} {command} --help",
            )
