"""What the folder of a run holds, read for its report: what is missing or damaged is left out, with a note. And the run
in words: how it went, in two sentences, what was trained, and what to type next.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files.model_file import check_file, sha256_of
from gan_core.printable import shell_line
from gan_trainer.evaluation.results import Evaluation
from gan_trainer.recipes import UNSCALED
from gan_trainer.rundir import RunDir

log = logging.getLogger(__name__)

MAX_FRAMES = 40
MAX_PNG_BYTES = 48 << 10
"""A sample of more bytes is inlined as lossy WebP, the first and the last excepted."""
MAX_LOSSLESS_BYTES = 1 << 20
MAX_SIDE = 1024
"""Of a picture that is packed."""
EVEN, APART = 0.2, 0.7
"""D's mean probabilities for real and generated images: closer than the one is even, farther than the other too far."""
ALIKE, DIVERSE = 0.6, 0.85
"""The samples' diversity as a share of the data's: below the one they are alike, above the other as the data's."""


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
        from gan_trainer.networks.generator import load_generator

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


def is_number(value: Any) -> bool:
    """Whether a value of a file is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def how_it_went(run: Run) -> str:
    """Two sentences: on the balance of G and D, and on the samples, by their diversity and their distance to the data.
    Nothing of a run without a report."""
    if not run.log:
        return ""
    late = run.log[-max(1, len(run.log) // 3) :]
    if all(is_number(late[-1].get(name)) for name in ("psnr_db", "bicubic_psnr_db")):
        mine, theirs = late[-1]["psnr_db"], late[-1]["bicubic_psnr_db"]
        return (
            f"Images that it was not trained on have a PSNR of {mine:.2f} dB; bicubic interpolation has {theirs:.2f}."
        )
    return f"{_balance(run, late)} {_diversity(run, late)}"


def _balance(run: Run, late: Sequence[Json]) -> str:
    real, fake = _mean(late, "d_x"), _mean(late, "d_g_z1")
    if "d_too_strong" in _noticed(late):
        return (
            "The discriminator told real from generated without error in the end, so that the generator learned little."
        )
    if real is None or fake is None:
        return f"The training made {run.log[-1]['step']:,} steps."
    gap = real - fake
    if run.config["recipe"].get("loss") in UNSCALED:
        return f"In the last third the discriminator put real and generated images {gap:.2g} apart on its own scale."
    numbers = f"in the last third D gave real images {real:.2f} and generated ones {fake:.2f} on average"
    if gap < EVEN:
        return f"The two networks kept each other even: {numbers}."
    if gap > APART:
        return f"The discriminator was far ahead: {numbers}."
    return f"The discriminator was ahead, as is usual: {numbers}."


def _diversity(run: Run, late: Sequence[Json]) -> str:
    diversity = next((line["diversity"] for line in reversed(late) if is_number(line.get("diversity"))), None)
    if "collapse" in _noticed(late[-1:]):
        text = "The samples have become alike"
    elif diversity is None:
        text = "The samples' diversity was not measured"
    else:
        text = "The samples are as diverse as the data"
        if diversity < DIVERSE:
            text = f"The samples are {'much' if diversity < ALIKE else 'somewhat'} less diverse than the data"
    if diversity is not None:
        text += f" ({diversity:.0%} of the data's diversity)"
    measured = [each for each, current in run.evaluations if current]
    return f"{text}; {_distance(measured[0])}." if measured else f"{text}; their distance to the data was not measured."


def _distance(evaluation: Evaluation) -> str:
    name = "Fréchet" if evaluation.metrics.frechet is not None else "sliced Wasserstein"
    found, real = evaluation.metrics.distance, evaluation.floor.distance
    return f"their {name} distance to the data is {found:.3g}, that of real images {real:.3g}"


def what_was_trained(run: Run) -> str:
    """The configuration as sentences."""
    config, recipe = run.config, run.config["recipe"]
    size, channels = recipe.get("size"), {1: "grey ", 3: "RGB "}.get(recipe.get("channels"), "")
    images = f"{config['n_images']:,} " if is_number(config.get("n_images")) else ""
    classes = f" in {len(config['class_names'])} classes" if recipe.get("conditional") is True else ""
    if recipe.get("scale", 1) != 1:
        return (
            f"{images}{channels}images of {size}×{size} from {config.get('data_name', '?')}, a tenth of them (at most "
            f"256) left out. An upscaler by {recipe['scale']} of width {recipe.get('width', '?')}, trained by the "
            f"recipe {recipe.get('name', '?')}; batches of {recipe.get('batch_size', '?')}, Adam at {_rates(recipe)}; "
            f"the seed is {config.get('seed')}."
        )
    networks = {
        "mlp": "fully connected networks", "dcgan": "DCGAN's networks", "resize": "DCGAN's networks with upsampling",
        "resnet": "residual networks",
    }  # fmt: skip
    parts = [f"{networks.get(str(recipe.get('arch')), 'Networks')} of width {recipe.get('width', '?')}"]
    parts += [f"latents of {recipe.get('z_dim', '?')} numbers", f"{recipe.get('loss', '?')} loss"]
    norm = {"spectral": "spectral norm in D", "batch": "batch norm in both"}.get(str(recipe.get("d_norm")))
    parts += [norm] if norm else []
    if recipe.get("penalty") not in (None, "none"):
        parts.append(f"gradient penalty {recipe['penalty']} of weight {recipe.get('penalty_weight')}")
    if recipe.get("augment") not in (None, "none"):
        parts.append(f"images augmented by {recipe['augment']}")
    parts += [f"batches of {recipe.get('batch_size', '?')}", f"Adam at {_rates(recipe)}"]
    limit = config.get("limit")
    wanted = ""
    if isinstance(limit, dict) and is_number(limit.get("amount")):
        wanted = f" for {limit['amount']:g} {limit.get('unit')}"
    weights = "an average of the weights" if recipe.get("ema_beta") is not None else "the last weights"
    text = "; ".join(parts)
    return (
        f"{images}{channels}images of {size}×{size}{classes} from {config.get('data_name', '?')}, trained on{wanted} "
        f"by the recipe {recipe.get('name', '?')}. {text[:1].upper()}{text[1:]}. g.pt holds {weights}; the seed is "
        f"{config.get('seed')}."
    )


def next_commands(run: Run) -> list[str]:
    """What to type next, in order."""
    folder, config = run.folder, run.config
    limit, last = config.get("limit"), run.log[-1] if run.log else {}
    commands = []
    unit, amount = (limit.get("unit"), limit.get("amount")) if isinstance(limit, dict) else (None, None)
    done: Any = last.get({"steps": "step", "epochs": "epoch"}.get(str(unit), "minutes"))
    if is_number(done) and is_number(amount) and done < 0.99 * float(str(amount)):
        commands.append(f"gan-train --resume --out {shell_line([str(folder)])}")
    if not any(current for _, current in run.evaluations):
        commands.append(f"gan-train eval {shell_line([str(folder / 'g.pt')])}")
    name = shell_line([f"{run.name}.onnx"])
    return [
        *commands,
        f"gan-export {shell_line([str(folder / 'g.pt')])} --out {name}",
        f"gan-gen {name} photo.jpg" if config["recipe"].get("scale", 1) != 1 else f"gan-gen --model {name} --n 25",
    ]


def _rates(recipe: Json) -> str:
    g, d = recipe.get("lr_g"), recipe.get("lr_d")
    return f"{g:g}" if g == d and is_number(g) else f"{g} for G and {d} for D"


def _noticed(lines: Sequence[Json]) -> set[str]:
    return {str(each) for line in lines if isinstance(line.get("noticed"), list) for each in line["noticed"]}


def _mean(lines: Sequence[Json], name: str) -> float | None:
    values = [line[name] for line in lines if is_number(line.get(name))]
    return sum(values) / len(values) if values else None
