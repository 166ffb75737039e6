"""`gan-export inspect`: its options, what it does and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_core.errors import GanportError
from gan_core.files import check_outputs
from gan_export.answers import Answers, given_of
from gan_export.command import Ckpt, of_output
from gan_export.front import require_packages
from gan_export.options import checkpoint_answers
from gan_serve.terminal import console
from gan_serve.terminal.commands import answered_by


@answered_by(checkpoint_answers)
def inspect_command(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE|FOLDER", help="A checkpoint; or several, or a folder: a table."),
    ] = None,
    ckpt: Ckpt = None,
    answers: Answers = Answers(),
    as_json: Annotated[bool, of_output("--json", help="Print JSON instead of text, errors too.")] = False,
    out: Annotated[
        Path | None,
        of_output(metavar="FILE.spec.json", help="Write the draft as a spec, to edit and pass back with --spec."),
    ] = None,
    html: Annotated[
        Path | None,
        of_output("--html", metavar="FILE.html", help="Write the sheet of candidates as a page."),
    ] = None,
) -> None:
    """Say what a checkpoint is, and on what evidence.

    The last line is the next command. Nothing in the file is run. Names and shapes prove most of a generator;
    activations, eps and the latent distribution are found from the running statistics of its BatchNorms
    (docs/forensics.md). For a folder or several files, it prints a table that says what each is, from its shapes
    alone.

    \b
    Examples:
      gan-export inspect netG_epoch_24.pth
      gan-export inspect downloads/
      gan-export inspect latest.ckpt --key generator --json
      gan-export inspect stranger.pth --out stranger.spec.json
      gan-export inspect stranger.pth --html sheet.html
    """
    named = list(dict.fromkeys(files or ()))
    if bool(named) == (ckpt is not None):
        raise GanportError(
            f"expected a checkpoint, got {'FILE and --ckpt, which name two' if named else 'none'}",
            hint="gan-export inspect FILE, or FOLDER to see what is in it",
        )
    if len(named) > 1 or (named and named[0].is_dir()):
        _survey(named, [*given_of(answers), *["out"] * bool(out), *["html"] * bool(html)], as_json)
        return
    ckpt = ckpt or named[0]
    check_outputs({"--ckpt": ckpt}, {"--out": out, "--html": html})
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise GanportError(f"a page's name ends in .html, got {html}", hint=f"--html {html.with_suffix('.html')}")
    require_packages("inspecting a checkpoint")
    from gan_core.files.atomic import write_text
    from gan_export import inspection
    from gan_export.asking import candidates_of, sheet_of
    from gan_export.identify import NotUnderstoodError, identify
    from gan_export.inspection import advise
    from gan_export.page import page_of

    try:
        with console.steps("gan_export"):
            identified = identify(ckpt, answers)
    except NotUnderstoodError as error:
        reading = error.reading
        if as_json:
            console.show_json(inspection.reading_json(reading), error)
        else:
            console.show(inspection.render_unknown(reading, error.hint or ""))
        raise
    advice = advise(identified)
    if as_json:
        written = [str(path) for path in (out, html) if path is not None]
        console.show_json(inspection.to_json(identified, advice) | {"files": written})
    else:
        console.show(inspection.render(identified, advice))
    if html is not None or (not as_json and console.shows_pictures()):
        candidates = candidates_of(identified)
        if not as_json:
            console.show_picture(sheet_of(candidates))
        if html is not None:
            write_text(html, page_of(identified, advice, candidates))
            console.note(f"the page is in {html}")
    if out is not None:
        write_text(out, inspection.spec_of(identified).dumps())
        console.note(f"the spec is in {out}")


def _survey(named: list[Path], given: list[str], as_json: bool) -> None:
    """The table of what is in a folder, or of several files."""
    for name in given:
        raise GanportError(f"`{name}` has no place with several files", hint=f"leave out `{name}`, or name one file")
    require_packages("inspecting checkpoints")
    from gan_export import inspection
    from gan_export.survey import files_of, look, paired

    files, left_out = files_of(named)
    looked = console.with_progress(([look(path)] for path in files), len(files), "reading")
    entries = paired([entry for part in looked for entry in part])
    if as_json:
        console.show_json(inspection.survey_json(entries, left_out))
    else:
        console.show(inspection.render_survey(entries, left_out, named[0] if len(named) == 1 else None))
