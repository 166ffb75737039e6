"""gan-gen without a stdout or a stderr, with full ones, in encodings that lack characters; and `~` in any option."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import Gen
from cli.drawing import names
from gan_serve.runtime.runtimes import DEFAULT_MODEL
from gan_serve.terminal import shell

pytestmark = pytest.mark.slow

START = (sys.executable, "-c", "from gan_serve.gen.cli import main; main()")


def closing(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


def run(folder: Path, *arguments: object, encoding: str = "utf-8", **options: object) -> tuple[int, bytes, bytes]:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    done = subprocess.run(  # type: ignore[call-overload]
        [*START, *map(str, arguments)], cwd=folder, env=environment, timeout=60, check=False, **pipes
    )
    return done.returncode, done.stdout or b"", done.stderr or b""


# ── closed ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("out", "closed"),
    # A file opened next gets a closed one's number: each way of writing with none of the three and without stdout.
    [(out, closed) for out in ("g.png", "g.npy", "many/", "g.webp") for closed in ((1,), (0, 1, 2))]
    + [("g.png", (2,)), ("g.png", (1, 2))],
)
def test_a_daemon_draws_the_same_picture(
    closed: tuple[int, ...], out: str, gen: Gen, model: Path, tmp_path: Path
) -> None:
    for folder in ("open", "closed"):
        (tmp_path / folder).mkdir()
    arguments = ("--model", model, "--n", 4, "--out")
    assert gen(*arguments, f"open/{out}")[0] == 0
    code, shown, said = run(tmp_path / "closed", *arguments, out, preexec_fn=closing(*closed))
    assert code == 0
    assert shown == (b"" if 1 in closed else f"{out.rstrip('/')}\n".encode())
    assert (said == b"") == (2 in closed)
    whole = [path for path in (tmp_path / "open").rglob("*") if path.is_file()]
    assert len(whole) == (4 if out == "many/" else 1)
    for path in whole:
        assert (tmp_path / "closed" / path.relative_to(tmp_path / "open")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize(
    ("arguments", "code"), [(("--selftest",), 0), (("--info", "--json"), 0), (("--help",), 0), (("--n", "x"), 2)]
)
def test_nothing_fails_for_want_of_a_stream(
    closed: tuple[int, ...], arguments: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    found, _, said = run(tmp_path, *arguments, preexec_fn=closing(*closed))
    assert found == code
    assert b"Traceback" not in said
    assert names(tmp_path) == []


def test_a_png_on_a_stdout_that_is_closed_is_one_line(model: Path, tmp_path: Path) -> None:
    code, _, said = run(tmp_path, "--model", model, "--out", "-", preexec_fn=closing(1))
    assert (code, said.decode()) == (
        2, "error: stdout is closed, so nothing can be written to it\nhint: name a file: --out FILE.png\n",
    )  # fmt: skip


# ── full ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "arguments", [("--out", "-"), ("--info",), ("--selftest", "--json"), ("--help",), ("--n", "1")]
)
def test_a_full_stdout_is_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, said = run(tmp_path, *arguments, stdout=full)
    lines = said.decode().splitlines()
    assert (code, lines[-2:]) == (
        2,
        ["error: cannot write to stdout: No space left on device", "hint: free some disk space, or send it elsewhere"],
    )
    assert "Exception ignored" not in said.decode()


@pytest.mark.parametrize("where", ["/dev/full", "/dev/null"])
def test_notes_that_cannot_be_written_fail_nothing(where: str, model: Path, tmp_path: Path) -> None:
    with Path(where).open("rb" if where == "/dev/null" else "wb") as stream:  # /dev/null: open, but to read
        assert run(tmp_path, "--model", model, stderr=stream)[:2] == (0, b"g.png\n")


# ── characters ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "ascii:surrogateescape", "utf-8"])
def test_a_table_is_shown_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    code, shown, said = run(tmp_path, "--selftest", encoding=encoding)
    assert (code, b"Traceback" in said) == (0, False)
    rule = shown.decode(encoding.partition(":")[0]).splitlines()[1]
    assert set(rule) == ({"─", " "} if encoding == "utf-8" else {"-", " "})


def test_json_stays_the_same_json(model: Path, tmp_path: Path) -> None:
    link = tmp_path / "gärten 图 🌱.onnx"
    link.symlink_to(model)
    expected = json.loads(run(tmp_path, "--model", link, "--info", "--json")[1])
    for encoding in ("ascii", "cp1252"):
        code, shown, _ = run(tmp_path, "--model", link, "--info", "--json", encoding=encoding)
        assert code == 0
        assert json.loads(shown.decode(encoding)) == expected
    assert Path(expected["file"]).name == link.name


def test_the_fallback_is_for_encoding_only() -> None:
    shell.mend()
    assert "é─∞🌱".encode("ascii", "ganport-escape") == rb"\u00e9-\u221e\ud83c\udf31"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("utf-8", "ganport-escape")


# ── home ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "arguments", [("--out=~/x.png",), ("--out", "~/x.png"), ("-o~/x.png",), ("-o", "~/x.png")], ids=" ".join
)
def test_home_is_home_in_any_option(
    arguments: tuple[str, ...], gen: Gen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "g.onnx").symlink_to(DEFAULT_MODEL)
    code, out, _ = gen("--model=~/g.onnx", "--n", 1, *arguments)
    assert (code, out) == (0, f"{tmp_path}/home/x.png\n")
    assert names(tmp_path) == ["home"]


@pytest.mark.parametrize("out", ["~nobody-here/x.png", "~nobody-here/"])
def test_the_home_of_nobody_is_refused(out: str, gen: Gen, tmp_path: Path) -> None:
    code, _, err = gen(f"--out={out}")
    assert (code, err.splitlines()) == (
        2, [f"error: {out}: there is no home folder ~nobody-here", f"hint: a name that begins so is ./{out}"],
    )  # fmt: skip
    assert names(tmp_path) == []
    assert gen(f"--out=./{out}", "--n", 1)[0] == 0
    assert names(tmp_path) == ["~nobody-here"]


@pytest.mark.parametrize("value", ["~a", "a~/b", "~a~"])
def test_a_tilde_that_is_no_home_is_left_alone(value: str, gen: Gen) -> None:
    code, _, err = gen("--class", value)
    assert code == 2
    assert value in err
    assert "home" not in err


# ── places that the system refuses ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("option", ["--model", "--out", "--latents"])
@pytest.mark.parametrize("name", ["x" * 300 + ".npy", "circle.npy", "file/below.npy"])
def test_names_that_name_nothing(option: str, name: str, gen: Gen, tmp_path: Path) -> None:
    (tmp_path / "circle.npy").symlink_to("circle.npy")
    (tmp_path / "file").touch()
    code, _, err = gen(option, name)
    lines = err.splitlines()
    assert code == 2, err
    assert "unexpected" not in err
    assert [line.split(":")[0] for line in lines[-2:]] == ["error", "hint"]
