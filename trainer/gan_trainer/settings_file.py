"""run.yaml: the settings of a run as a file, which every run writes and `--config` reads back. No torch here."""

from __future__ import annotations

import importlib
import io
import os
from pathlib import Path
from typing import Any

import gan_core
from gan_core.errors import GanportError, MissingPackageError
from gan_core.fields import shown
from gan_core.files.model_file import check_file
from gan_core.printable import printable
from gan_trainer.config import RunConfig, TrainRequest
from gan_trainer.presets import PRESETS, preset
from gan_trainer.recipes import Recipe
from gan_trainer.settings import PLACES, Settings, checked, field_of, settings

NAME = "run.yaml"
MAX_BYTES = 1 << 20
HEAD = f"""\
# The settings of this run, written by gan-train {gan_core.__version__}. It makes the same run again with
#   gan-train --config {NAME}
# Options beside it override it. What begins with "#" is as the preset has it, or the default.
"""


def load_settings(path: Path) -> Settings:
    """The settings in a YAML file, or in the run.yaml of a run's folder.

    Raises `GanportError`, which names the file, the line and the key, for a key that is no setting or stands there
    twice, and for a value that a training cannot have.
    """
    file = path / NAME if path.is_dir() else path
    check_file(file, "configuration", in_folder=lambda folder: f"name the file in it: {folder}/{NAME}")
    if file.stat().st_size > MAX_BYTES:
        raise GanportError(
            f"{file} has {file.stat().st_size:,} bytes, a configuration has at most {MAX_BYTES:,}",
            hint=f"a run's settings are in its {NAME}",
        )
    found: dict[str, Any] = {}
    for key, value, line in _pairs(file):
        name = str(key).replace("-", "_")
        where = f"{file}, line {line}"
        if name in found:
            raise GanportError(f"{where}: {name} stands there twice", hint="leave one of them out")
        if isinstance(value, (list, dict)):
            raise GanportError(f"{where}: {name} must be one value, got {shown(value)}", hint=f"such as {name}: …")
        try:
            checked({name: _meant(name, value)})
        except GanportError as error:
            raise _placed(where, error) from error
        found[name] = _meant(name, value)
    values = checked(found)
    try:
        request = TrainRequest.of(values)
        if not request.resume:
            request.recipe()
    except GanportError as error:
        raise _placed(str(file), error) from error
    return values


def dump_settings(config: RunConfig, asked: TrainRequest) -> str:
    """The text of a run's run.yaml: its settings, those of its preset and the defaults as comments.

    `config` is what the run is, `asked` how it was asked for: on what machine it runs.
    """
    recipe, start = config.recipe, PRESETS.get(config.recipe.name)
    values = {
        "data": config.data, "preset": recipe.name, "seed": config.seed, config.limit.unit: config.limit.amount,
        "init": config.init, **_of_recipe(recipe),
    }  # fmt: skip
    usual = {} if start is None else _of_recipe(preset(recipe.name, recipe.channels))
    if not config.films:
        usual.pop("sample_every", None)
    if values["lr"] != usual.get("lr"):
        usual.pop("lr_d", None)  # it is D's, too, where nothing else is said
    machine = {"compile": asked.compiled, **vars(asked)}
    lines, panel = [HEAD], ""
    for name, (kind, setting) in settings().items():
        if name in values:
            value, quiet = values[name], name in usual and usual[name] == values[name]
        elif name in machine and name not in PLACES:
            value = setting.default if machine[name] is None else machine[name]
            quiet = value == setting.default
        else:
            continue
        if setting.panel != panel:
            panel = setting.panel
            lines.append(f"\n# {panel}\n")
        if value is not None:
            text = _line(name, os.fspath(value) if kind is str else value)
            lines.append(f"# {text}" if quiet else text)
    return "".join(lines)


def _of_recipe(recipe: Recipe) -> dict[str, Any]:
    of_fields = {name: getattr(recipe, field) for name in settings() if (field := field_of(name))}
    return {**of_fields, "task": recipe.task, "ema": recipe.ema_beta is not None}


def _line(name: str, value: Any) -> str:
    made: str = _yaml().safe_dump({name: value}, allow_unicode=True, width=10**6)
    return made


def _pairs(file: Path) -> list[tuple[Any, Any, int]]:
    """Keys, values and lines of the mapping that a YAML file is; nothing of an empty file."""
    yaml = _yaml()
    try:
        loader = yaml.SafeLoader(io.StringIO(file.read_text("utf-8")))
        node = loader.get_single_node()
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            raise GanportError(f"{file} holds no settings", hint="one a line: NAME: VALUE, such as width: 32")
        return [
            (
                loader.construct_object(key, deep=True),
                loader.construct_object(value, deep=True),
                key.start_mark.line + 1,
            )
            for key, value in node.value
        ]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = printable(str(error.problem))
        raise GanportError(f"{file}{line} is no YAML: {problem}", hint="one setting a line: NAME: VALUE") from error
    except (yaml.YAMLError, UnicodeError, ValueError, TypeError, RecursionError) as error:
        text = printable(" ".join(str(error).split())[:100])
        raise GanportError(f"{file} is no YAML: {text}", hint="one setting a line: NAME: VALUE") from error


def _yaml() -> Any:
    try:
        return importlib.import_module("yaml")
    except ImportError as error:
        raise MissingPackageError("yaml", "train", NAME) from error


def _meant(name: str, value: Any) -> Any:
    """What a person meant whom YAML misunderstands: it reads 1e-4 as a text, and `amp: off` as no."""
    kind = settings()[name][0] if name in settings() else None
    if kind is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    if kind is str and isinstance(value, bool):
        return "on" if value else "off"
    return value


def _placed(where: str, error: GanportError) -> GanportError:
    return GanportError(f"{where}: {error}".replace("`", ""), hint=error.hint)
