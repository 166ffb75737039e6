"""What the folder of a run holds, read for its report. What is missing or damaged is left out, with a note."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageChops

from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files.model_file import check_file, sha256_of
from gan_trainer.evaluation.results import Evaluation
from gan_trainer.rundir import RunDir

log = logging.getLogger(__name__)

MAX_FRAMES = 40
MAX_PNG_BYTES = 48 << 10
"""A sample of more bytes is inlined as lossy WebP, the first and the last excepted."""
MAX_LOSSLESS_BYTES = 1 << 20
MAX_SIDE = 1024
"""Of a picture that is packed."""


@dataclass(frozen=True)
class Picture:
    """`uri` is a data: URI, `width` and `height` in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Run:
    """A run for its report.

    folder       as it was named
    config       config.json's values
    log          log.jsonl's lines
    samples      (step, picture), in the order of the steps
    compared     the halves of real_vs_fake.png: real, fake; or empty
    evaluations  (evaluation, whether it is of the g.pt that lies here now)
    provenance   (name, value) of what made g.pt
    """

    name: str
    folder: Path
    config: Json
    log: list[Json] = field(default_factory=list)
    samples: tuple[tuple[int, Picture], ...] = ()
    compared: tuple[Picture, ...] = ()
    evaluations: tuple[tuple[Evaluation, bool], ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()


def gather(folder: Path) -> Run:
    """Reads a run's folder. Raises `GanportError` when it is none."""
    if not folder.is_dir():
        what = "a file" if folder.exists() else "no folder"
        raise GanportError(f"{folder} is {what}, expected the folder of a run", hint="gan-train makes one in runs/")
    run = RunDir(folder)
    if run.config.exists():
        check_file(run.config, "configuration", in_folder=_runs_below)
    try:
        config = json.loads(run.config.read_text("utf-8"))
        recipe = dict(config["recipe"])
    except FileNotFoundError as error:
        raise GanportError(f"{folder} holds no run: no config.json", hint=_runs_below(folder)) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GanportError(
            f"{run.config} does not read as a run's configuration: {error}",
            hint="name the folder of a run that gan-train wrote",
        ) from error
    digest = sha256_of(run.generator) if run.generator.is_file() else None
    return Run(
        name=folder.resolve().name,
        folder=folder,
        config={**config, "recipe": recipe},
        log=run.read_log(),
        samples=_samples(run.sample_files()),
        compared=_compared(run.real_vs_fake),
        evaluations=_evaluations(run.evaluation_files(), digest),
        provenance=_provenance(run, digest),
    )


def _runs_below(folder: Path) -> str:
    found = sorted(path.parent for path in folder.glob("*/config.json"))
    return f"runs in it: {', '.join(map(str, found[:5]))}" if found else "name a folder that gan-train wrote"


def _samples(files: Sequence[Path]) -> tuple[tuple[int, Picture], ...]:
    n = min(len(files), MAX_FRAMES)
    chosen = [files[round(i * (len(files) - 1) / max(n - 1, 1))] for i in range(n)]
    found = []
    for file in chosen:
        step = re.search(r"\d+", file.stem)
        try:
            found.append((int(step.group()) if step else 0, _inline(file, whole=file in (chosen[0], chosen[-1]))))
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
            log.info(f"{file.name} is left out: {error}")
    return tuple(found)


def _inline(file: Path, whole: bool) -> Picture:
    data = file.read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        width, height = picture.size
        kind = str(picture.format).lower()
        if len(data) > (MAX_LOSSLESS_BYTES if whole else MAX_PNG_BYTES):
            data, kind = _webp(picture), "webp"
    return Picture(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", width, height)


def _webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture = picture.convert("RGB")
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    picture.save(buffer, "WEBP", quality=82)
    return buffer.getvalue()


def _compared(file: Path) -> tuple[Picture, ...]:
    """The two grids of real_vs_fake.png, without the figure's margins and titles."""
    if not file.exists():
        return ()
    try:
        with Image.open(file) as opened:
            figure = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        log.info(f"{file.name} is left out: {error}")
        return ()
    middle = figure.width // 2
    halves = []
    for box in ((0, 0, middle, figure.height), (middle, 0, figure.width, figure.height)):
        half = _square_part(figure.crop(box))
        buffer = io.BytesIO()
        half.save(buffer, "WEBP", quality=90)
        uri = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        halves.append(Picture(uri, *half.size))
    return tuple(halves)


def _square_part(half: Image.Image) -> Image.Image:
    """What is not white; of that, from below, a square's worth: the title stands above it."""
    white = Image.new("RGB", half.size, "white")
    box = ImageChops.difference(half, white).getbbox()
    if box is None:
        return half
    left, top, right, bottom = box
    return half.crop((left, max(top, bottom - (right - left)), right, bottom))


def _evaluations(files: Sequence[Path], digest: str | None) -> tuple[tuple[Evaluation, bool], ...]:
    found = []
    for file in files:
        try:
            evaluation = Evaluation.from_json(json.loads(file.read_text("utf-8")))
            found.append((evaluation, evaluation.model.get("sha256") == digest))
        except (OSError, ValueError, GanportError) as error:
            log.info(f"{file.name} is left out: {error}")
    return tuple(found)


def _provenance(run: RunDir, digest: str | None) -> tuple[tuple[str, str], ...]:
    """What g.pt says of itself where torch can read it, and its digest."""
    if digest is None:
        return ()
    facts = [("g.pt", f"{run.generator.stat().st_size / 1e6:.2f} MB"), ("sha256", digest)]
    try:
        from gan_trainer.networks.checkpoint import load_generator

        checkpoint = load_generator(run.generator)
    except ImportError:
        return tuple(facts)
    except GanportError as error:
        log.info(f"g.pt is not described: {error}")
        return tuple(facts)
    facts += [
        ("weights", {"ema": "their average (EMA)", "raw": "the last ones"}.get(checkpoint.which, checkpoint.which)),
        ("generator", f"{checkpoint.spec.name}, {checkpoint.spec.parameters:,} parameters"),
    ]
    training = checkpoint.training
    facts += [(name, f"{training[name]:,}") for name in ("steps", "images") if isinstance(training.get(name), int)]
    facts += [(name, str(training[name])) for name in ("minutes", "device") if name in training]
    versions = training.get("versions")
    return (*facts, *((k, str(v)) for k, v in versions.items())) if isinstance(versions, dict) else tuple(facts)
