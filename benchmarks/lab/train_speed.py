"""How fast gan-train trains, beside the classic loop: same pictures, same networks, same machine.

    python -m lab.train_speed --data photos/ --json FILE

Both train DCGAN at 64x64 RGB (the preset dcgan64, and `loops.classic_loop`), each in its own process. They take
turns: one is stopped (SIGSTOP, its DataLoader's workers too) while the other runs a window, so that a machine that
drifts drifts for both. A window's speed is that between the first and the last step that ended inside it. With --marks
both also train to the same numbers of seconds, and what they have learnt by then is measured.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_bench.record import dumps
from gan_bench.windows import spread
from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files import check_outputs
from gan_core.files.atomic import write_text
from gan_serve.terminal import console
from lab import shared
from lab.loops.messages import Train
from lab.loops.taking_turns import Loop, quality_at, take_turns

if TYPE_CHECKING:
    from gan_trainer.evaluation import Evaluator


PACKAGES = ("torch", "torchvision", "pillow")

app = console.new_app("Measure gan-train's speed beside the classic DCGAN loop's.")


@app.command()
def main_command(
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="Pictures, in any depth.")],
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the record here.")] = None,
    windows: Annotated[int, typer.Option(metavar="N", help="Windows of each loop.")] = 5,
    window_s: Annotated[float, typer.Option("--window", metavar="SECONDS", help="Length of a window.")] = 10.0,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images per step.")] = 128,
    width: Annotated[int, typer.Option(metavar="N", help="ngf and ndf.")] = 64,
    workers: Annotated[int, typer.Option(metavar="N", help="The classic loop's DataLoader workers.")] = 2,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]", help="Where both train.")] = "auto",
    amp: Annotated[str, typer.Option(metavar="auto|off|bf16", help="As for gan-train.")] = "auto",
    compiled: Annotated[str, typer.Option("--compile", metavar="auto|off|on", help="As for gan-train.")] = "auto",
    cuda_graphs: Annotated[bool, typer.Option("--cuda-graphs/--no-cuda-graphs", help="As for gan-train.")] = True,
    marks: Annotated[
        str, typer.Option(metavar="S,S,…", help="Train each to these seconds, and measure its images then.")
    ] = "",
    distance: Annotated[
        float | None, typer.Option(metavar="D", help="With --marks: when each first comes this close to the data.")
    ] = None,
    features: Annotated[str, typer.Option(metavar="NAME", help="With --marks: as for gan-train eval.")] = "auto",
    seed: Annotated[int, typer.Option(metavar="N", help="Of weights, latents and order.")] = 0,
) -> None:
    """Measure gan-train's speed beside the classic DCGAN loop's.

    \b
    Examples:
      python -m lab.train_speed --data photos/ --json train-speed-cpu.json
      python -m lab.train_speed --data photos/ --device cuda --workers 8 --marks 30,60,120 --distance 20
    """
    shared.check_numbers(
        {
            "--windows": (windows, 1, 1000), "--batch-size": (batch_size, 2, 1 << 16), "--width": (width, 1, 1024),
            "--workers": (workers, 0, 256),
        }
    )  # fmt: skip
    shared.check_window(window_s)
    at = shared.ascending(marks, "--marks", "seconds") if marks.strip() else []
    if distance is not None and not (distance > 0 and at):
        raise GanportError(
            f"--distance takes a number above 0 and needs --marks, got {distance:g}", hint="add --marks 60,120,300"
        )
    n_images = count_pictures(data, batch_size)
    check_outputs({"--data": data}, {"--json": json_file})
    asked = Train(
        "gan-train", str(data), _device(device, amp, compiled), Path(), seed, batch_size=batch_size, width=width,
        workers=workers, amp=amp, compiled=compiled, cuda_graphs=cuda_graphs,
    )  # fmt: skip
    evaluator = _evaluator(data, features) if at else None  # what it lacks is known before the hours of training
    made = shared.new_record("train_speed", packages=PACKAGES)
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as folder:
        ours = Loop("gan-train", replace(asked, folder=Path(folder)))
        classic = Loop("classic", replace(asked, loop="classic", folder=Path(folder)))
        with ours, classic:
            take_turns((ours, classic), windows, window_s, at)
        reached = quality_at((ours, classic), evaluator) if evaluator else None
    made |= {
        "settings": {
            "batch_size": batch_size, "width": width, "workers": workers, "seed": seed, "device": asked.device,
            "amp": amp, "compile": compiled, "cuda_graphs": cuda_graphs, "preset": "dcgan64", "windows": windows,
            "window_s": window_s,
        },
        "data": {"images": n_images},
        **compare(ours, classic),
        "quality": None if reached is None else reached | {"time_to": time_to(reached, distance)},
    }  # fmt: skip
    if json_file is not None:
        write_text(json_file, dumps(made))
    console.show(render(made))


def count_pictures(folder: Path, batch_size: int) -> int:
    """How many pictures lie below `folder`. Raises `GanportError` for fewer than two batches."""
    if not folder.is_dir():
        raise GanportError(
            f"--data {folder} is not a folder", hint="the classic loop decodes pictures: name their folder"
        )
    shared.require("the loops that are compared")
    from lab.loops.classic_loop import Pictures

    count = len(Pictures(folder, 64))
    if count < 2 * batch_size:
        raise GanportError(
            f"{folder} holds {count} pictures, expected two batches of {batch_size} at least",
            hint="add pictures or lower --batch-size",
        )
    return count


def compare(ours: Loop, classic: Loop) -> Json:
    """Both speeds, and their ratio: the median over pairs of neighbouring windows, and the range."""
    ratios = [mine / theirs for mine, theirs in zip(ours.rates, classic.rates, strict=True)]
    ratio = spread(ratios)
    return {
        "gan_train": ours.to_json(),
        "classic": classic.to_json(),
        "ratio": round(ratio.median, 3),
        "ratio_low": round(ratio.low, 3),
        "ratio_high": round(ratio.high, 3),
    }


def time_to(reached: Json, distance: float | None) -> Json | None:
    """The first mark at which each loop was within `distance` of the data; null where none was."""
    if distance is None:
        return None
    seconds = {
        name: next((mark["active_s"] for mark in reached[name] if mark["distance"] <= distance), None)
        for name in ("gan_train", "classic")
    }
    return {"distance": distance} | {f"{name}_s": value for name, value in seconds.items()}


def render(made: Json) -> str:
    """The comparison as tables."""
    rows = [
        (
            name,
            f"{made[key]['images_per_s']:g}",
            f"{made[key]['images_per_s_low']:g}–{made[key]['images_per_s_high']:g}",
        )
        for name, key in (("gan-train", "gan_train"), ("classic loop", "classic"))
    ]
    rows.append(("ratio", f"{made['ratio']:.2f}", f"{made['ratio_low']:.2f}–{made['ratio_high']:.2f}"))
    text = console.table(("dcgan-64", "images/s", "low–high"), rows, right=(1, 2))
    quality = made["quality"]
    if quality is None:
        return text
    marks = [
        (f"{mine['active_s']:.0f}", f"{mine['distance']:.2f}", f"{theirs['distance']:.2f}")
        for mine, theirs in zip(quality["gan_train"], quality["classic"], strict=True)
    ]
    title = f"seconds, {quality['metric']} on {quality['features']['id']}"
    return f"{text}\n\n{console.table((title, 'gan-train', 'classic loop'), marks, right=(0, 1, 2))}"


def _device(name: str, amp: str, compiled: str) -> str:
    """The device's name, `auto` resolved. Raises `GanportError` here for what a worker would refuse."""
    from gan_trainer.devices import resolve
    from gan_trainer.speed import choose

    device = resolve(name)
    choose(device, exact=True, amp=amp, compiled=compiled)
    return str(device)


def _evaluator(data: Path, features: str) -> Evaluator:
    from gan_trainer.data import open_dataset
    from gan_trainer.evaluation import Evaluator

    return Evaluator(open_dataset(str(data), size=64, channels=3), features)


if __name__ == "__main__":
    console.run(app, "python -m lab.train_speed")
