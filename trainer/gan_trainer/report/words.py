"""A run in words: how it went, in two sentences, what was trained, and what to type next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gan_core.fields import Json
from gan_core.printable import shell_line
from gan_trainer.evaluation.results import Evaluation
from gan_trainer.recipes import UNSCALED
from gan_trainer.report.gather import Run

EVEN, APART = 0.2, 0.7
"""D's mean probabilities for real and generated images: closer than the one is even, farther than the other too far."""
ALIKE, DIVERSE = 0.6, 0.85
"""The samples' diversity as a share of the data's: below the one they are alike, above the other as the data's."""


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
    return f"{_balance(run, late)} {_samples(run, late)}"


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


def _samples(run: Run, late: Sequence[Json]) -> str:
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
