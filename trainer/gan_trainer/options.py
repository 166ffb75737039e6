"""The settings of a training as options of the command line, and DATA before them. No torch on import."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gan_core.errors import GanportError
from gan_serve.terminal.commands import Group
from gan_trainer.presets import DEFAULT
from gan_trainer.settings import LIMITS, RUN, Setting, field_of, settings
from gan_trainer.terminal import launched

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
    usual = (
        DEFAULT.ema_beta is not None
        if name == "ema"
        else getattr(DEFAULT, field_of(name) or (name if name in LIMITS else ""), None)
    )
    if usual is None:
        usual = setting.default
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
