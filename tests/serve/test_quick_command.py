"""The quick way to read options gives what typer's own way gives, or leaves it to typer."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.core import TyperCommand

from gan_serve.gen import cli
from gan_serve.gen.quick_command import QuickCommand
from gan_serve.terminal import console

pytestmark = pytest.mark.skipif(
    tuple(map(int, importlib.metadata.version("typer").split(".")[:2])) < (0, 29),
    reason="an older typer is quick itself",
)


@pytest.fixture
def typers_way(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of each call of typer's own way."""
    seen: list[list[str]] = []
    original = TyperCommand.parse_args

    def parse_args(self: TyperCommand, ctx: Any, args: list[str]) -> list[str]:
        seen.append(list(args))
        return original(self, ctx, args)

    monkeypatch.setattr(TyperCommand, "parse_args", parse_args)
    return seen


def values(app: typer.Typer, arguments: list[str], *, quick: bool) -> dict[str, Any]:
    command = typer.main.get_command(app)
    assert isinstance(command, QuickCommand)
    if not quick:
        command.__class__ = TyperCommand  # type: ignore[assignment]
    with command.make_context("gan-gen", list(arguments)) as context:
        return dict(context.params)


PLAIN = [
    "--model g.onnx",
    "-m g.onnx -n 25 -o x.png",
    "--model=a/b.onnx --n=7 --seed 0",
    "--model g.onnx --seed -3 --cols 4 --batch-size 8 --threads 2",
    "--model g.onnx --seeds 0,4-6,100 --out -",
    "--model g.onnx --seeds -4",
    "--model g.onnx --class cat --class 1,2 --truncation 0.7",
    "--model g.onnx --truncation 1 --walk 8 --frames 160",
    "--model g.onnx --selftest --json",
    "--model g.onnx --latents z.npy --info --provider cpu",
    "--model g.onnx --n 1 --n 2",
]


@pytest.mark.parametrize("line", PLAIN)
def test_plain_options_are_read_alike(line: str, typers_way: list[list[str]]) -> None:
    arguments = line.split()
    quick = values(cli.app, arguments, quick=True)
    assert typers_way == []
    slow = values(cli.app, arguments, quick=False)
    assert typers_way == [arguments]
    for either in (quick, slow):
        either.pop("_version")  # never used
        either["class_"] = list(either["class_"] or ())
    assert quick == slow
    assert {name: type(value) for name, value in quick.items()} == {name: type(value) for name, value in slow.items()}


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "--model g.onnx --version",
        "--model g.onnx extra",
        "--model g.onnx --what",
        "--model g.onnx --n",
        "--model g.onnx --n ten",
        "--model g.onnx --n 2.0",
        "--model g.onnx --n 1_000",
        "--model g.onnx --n ١٢",
        f"--model g.onnx --n {10**30}",
        "--model g.onnx --truncation nan",
        "--model g.onnx --truncation 1e-1",
        "--model g.onnx --json=1",
    ],
)
def test_what_is_not_plain_is_left_to_typer(line: str, typers_way: list[list[str]], capsys: Any) -> None:
    def outcome(*, quick: bool) -> object:
        try:
            return values(cli.app, line.split(), quick=quick)
        except (typer.Exit, Exception) as error:
            shown = getattr(error, "format_message", lambda: "")()
            return type(error), shown, capsys.readouterr()

    quick = outcome(quick=True)
    assert typers_way == [line.split()]
    slow = outcome(quick=False)
    assert str(quick) == str(slow)


def check(value: str) -> str:
    return value.upper()


Limited = Annotated[int, typer.Option(min=1)]
Exists = Annotated[Path, typer.Option(exists=True)]
Named = Annotated[str, typer.Option(callback=check)]
FromVariable = Annotated[str, typer.Option(envvar="GANPORT_TEST_VARIABLE")]
Pair = Annotated[tuple[int, int], typer.Option()]
Numbers = Annotated[list[int], typer.Option()]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [(Limited, "3", 3), (Exists, ".", Path()), (Named, "a", "A"), (FromVariable, "a", "a"), (Numbers, "3", [3])],
)
def test_what_typer_checks_further_is_left_to_typer(
    kind: Any, text: str, value: object, typers_way: list[list[str]]
) -> None:
    app = console.new_app()

    def work(option: Any) -> None: ...

    work.__annotations__["option"] = kind
    app.command(cls=QuickCommand)(work)
    assert values(app, ["--option", text], quick=True) == {"option": value}
    assert len(typers_way) == 1
