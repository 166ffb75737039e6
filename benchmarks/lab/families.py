"""Known generators at the sizes that people train: export time and memory, then images/s beside PyTorch.

    python -m lab.families --json FILE

Each network is built from its family's numbers with random weights, and random slopes of PReLU: equal ones are faster.
The export is a process of its own, with the proof. The rows are those of gan-bench: their windows are interleaved, all
pixels compared. `ratio` is ganport's images/s, divided by those of the faster one of eager PyTorch and torch.compile at
that batch.
Networks that take images take examples of 128x128, or of 256x256 where they keep the size. Large networks are timed in
fewer rounds, by the time that their products take (`rounds`).
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from gan_bench.measure import measure
from gan_bench.record import Settings, dumps
from gan_bench.rows import Selection
from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_core.files.atomic import write_text
from gan_serve.terminal import console
from lab import shared
from lab.processes import Command, run_once

BATCHES = (1, 8)
PEERS = ("eager", "compile")
PACKAGES = ("onnxruntime", "torch", "onnx", "onnxscript")
SETTINGS = Settings(window_s=0.4, max_rounds=6, quick=False, timeout_s=900, min_calls_per_window=1, roofline=False)
QUICK = Settings(window_s=0.1, max_rounds=2, quick=True, timeout_s=900, min_calls_per_window=1, roofline=False)

TIMED_S, FEWEST_ROUNDS, FLOPS_PER_S = 20.0, 3, 1e11
"""About how long the windows of a network at one batch take in all, and what a processor of two cores computes."""

app = console.new_app("Export known generators at full size, and time them beside PyTorch.")


def networks() -> dict[str, Any]:
    """Name → the network, as its family builds it."""
    from gan_export.families import (
        biggan,
        fastgan,
        gfpgan,
        lucidrains,
        mimicry,
        pggan,
        r3gan,
        rosinality,
        stylegan2,
        stylegan3,
        u_nets,
    )
    from gan_export.families import image_to_image as translation
    from gan_export.families import super_resolution as upscaling

    def taking(network: Any, side: int) -> Any:
        """The network, with example images of `side` pixels."""
        face = network.interface
        return replace(network, interface=replace(face, image=(face.channels, *[side * face.input.scale] * 2)))

    def alias_free() -> Any:
        """StyleGAN 3, configuration T, 256x256."""
        layers, size, before, taken = [], 36, 512, 16
        made = (*[(36, 512)] * 3, *[(52, 512)] * 2, *[(84, 512)] * 2, *[(148, 512)] * 2, (148, 362))
        for index, (after, out) in enumerate((*made, (276, 256), (276, 181), (276, 128), (256, 128))):
            rate = 256 if index == 13 else after - 20
            up = 2 * max(rate // taken, 1)
            name = f"L{index}_{after}_{out}"
            layers.append(stylegan3.Layer(name, before, out, after, 3, up, 6 * up, 2, 12))
            size, before, taken = after, out, rate
        layers.append(stylegan3.Layer("L14_256_3", before, 3, size, 1, 1, 1, 1, 1))
        return stylegan3.NvlabsStyleGan3().network(stylegan3.Numbers(0, (512,) * 3, 0, 256, tuple(layers), 16.0))

    stage, deep = r3gan.Stage, (2048, 2048, 2048, 2048, 1024, 1024, 512, 512, 256, 256, 128)
    return {
        "pggan-128": pggan.PytorchGanZoo().network(pggan.Progressive(512, (512, 512, 512, 512, 256, 128), 3)),
        "sngan-64": mimicry.Mimicry().network(
            mimicry.Residual(128, 4, (1024, 512, 256, 128, 64), (512, 256, 128, 64), 3)
        ),
        "biggan-128": biggan.BigGan().network(
            biggan.Numbers(20, 20, 1000, 128, 4, (1536, 1536, 768, 384, 192, 96), (3,))
        ),
        "biggan-deep-128": biggan.BigGanDeep().network(biggan.Numbers(128, 128, 1000, 128, 4, deep, (7,))),
        "r3gan-64": r3gan.R3Gan().network(
            r3gan.Numbers("", 64, 0, 0, tuple(stage(384, 768, 48, 2) for _ in range(5)), 3, 4, 3)
        ),
        "fastgan-256": fastgan.FastGan().network(
            fastgan.Numbers("", 256, (1024, 512, 256, 128, 64, 32, 16), (8, 32, 128), 256, 3)
        ),
        "stylegan2-ada-128": stylegan2.NvlabsStyleGan2().network(
            stylegan2.Numbers(0, 3, (512, 512, 512, 512, 256, 128), (512, 512, 512))
        ),
        "stylegan2-ada-256": stylegan2.NvlabsStyleGan2().network(
            stylegan2.Numbers(0, 3, (512, 512, 512, 512, 256, 128, 64), (512, 512, 512))
        ),
        "rosinality-32": rosinality.Rosinality().network(rosinality.Numbers(512, 8, (512, 512, 512, 512))),
        "lucidrains-64": lucidrains.Lucidrains().network(lucidrains.Numbers(512, 8, 3, (512, 512, 512, 256, 128, 64))),
        "stylegan3-t-256": alias_free(),
        "lightweight-256": lucidrains.Lightweight().network(
            lucidrains.LightNumbers(256, (512, 512, 256, 128, 64, 32), 3, (3,))
        ),
        "gfpgan-512": gfpgan.GfpGan().network(gfpgan.Numbers(512, (*[256] * 5, 128, 64, 32))),
        "rrdb-x4": taking(upscaling.EsrGan().network(upscaling.Rrdb("body", 3, 64, 32, 6)), 128),
        "srvgg-x4": taking(upscaling.SrVgg().network(upscaling.Compact(3, 64, 32, 4)), 128),
        "msrresnet-x4": taking(upscaling.MsrResNet().network(upscaling.Residual(3, 64, 16, 4)), 128),
        "srgan-x4": taking(upscaling.LeftthomasSrGan().network(upscaling.Normed(3, 64, 2)), 128),
        "cyclegan": taking(translation.CycleGan().network(translation.Resnet(3, 3, 64, 9)), 256),
        "pix2pix": u_nets.Pix2Pix().network(u_nets.Unet(3, 3, (64, 128, 256, 512, 512, 512, 512, 512), "instance")),
    }


@app.command()
def main_command(
    only: Annotated[str | None, typer.Option(metavar="NAME,…", help="These networks. [default: all]")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Short windows: to see that it works.")] = False,
    json: shared.RecordFile = None,
) -> None:
    """Export known generators at full size, and time them beside PyTorch.

    \b
    Examples:
      python -m lab.families --json families.json
      python -m lab.families --only stylegan2-ada-128 --quick
    """
    target = shared.record_target(json)
    shared.require("exporting", ("torch", "onnx", "onnxscript"), "export")
    known = networks()
    names = list(known) if only is None else [name.strip() for name in only.split(",")]
    for name in names:
        if name not in known:
            raise GanportError(f"--only takes names out of {', '.join(known)}, got {name!r}", hint="leave it out")
    made = shared.new_record("families", packages=PACKAGES) | {"networks": {}}
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as folder:
        for name in names:
            console.note(f"{name} ({len(made['networks']) + 1} of {len(names)})")
            try:
                made["networks"][name] = timed(known[name], name, Path(folder), QUICK if quick else SETTINGS)
            except JobError as error:
                console.warn(f"{name}: {error}")
            if target is not None:  # each takes minutes
                write_text(target, dumps(made))
    shared.hand_over(made, render(made), json, target)


def timed(network: Any, name: str, folder: Path, settings: Settings) -> Json:
    """The numbers of one network. Raises `JobError` when it cannot be exported or its pixels differ."""
    checkpoint, model = folder / f"{name}.pt", folder / f"{name}.onnx"
    weights = write_checkpoint(network, name, checkpoint)
    code = "from gan_export.cli import main; main()"
    export = Command(f"{name} export", [sys.executable, "-P", "-c", code, str(checkpoint), "--out", str(model)], model)
    wall_s, peak = run_once(export)
    found: Json = {
        "weights": weights,
        "image": list(network.interface.image),
        "export_s": round(wall_s, 1),
        "export_peak_bytes": peak,
        "file_bytes": model.stat().st_size,
        "weight_bytes": 4 * weights,
        "batches": {},
    }
    for batch in BATCHES:
        rounds = rounds_of(found.get("flops_per_image") or 0, batch, settings.max_rounds)
        selection = Selection((model,), batches=(batch,), ckpt=checkpoint, peers=PEERS)
        measured = measure(selection, replace(settings, max_rounds=rounds))
        found["flops_per_image"] = None if measured.work is None else measured.work.flops_per_image
        rows = {result.row.runtime: result.to_json([], measured.work) for result in measured.results}
        kept = ("status", "reason", "images_per_s", "images_per_s_low", "images_per_s_high", "latency_p50_ms", "parity")
        sides: Json = {runtime: {key: row[key] for key in kept} for runtime, row in rows.items()}
        best = max((sides[peer]["images_per_s"] or 0.0 for peer in PEERS if peer in sides), default=0.0)
        ours = sides["ganport"]["images_per_s"]
        found["batches"][str(batch)] = {
            "rounds": rounds,
            "rows": sides,
            "ratio": round(ours / best, 3) if ours and best else None,
        }
    checkpoint.unlink()
    model.unlink()
    return found


def rounds_of(flops_per_image: float, batch: int, most: int) -> int:
    """How many rounds fit into about `TIMED_S`, with a window of each of the three rows in each."""
    call_s = max(SETTINGS.window_s, batch * flops_per_image / FLOPS_PER_S)
    return min(most, max(FEWEST_ROUNDS, int(TIMED_S / (3 * call_s))))


def write_checkpoint(network: Any, name: str, target: Path) -> int:
    """A checkpoint of ours with random weights whose images use their range; returns how many weights it has."""
    import torch
    from torch import nn

    from gan_core.golden import inputs
    from gan_core.interface import with_interface
    from gan_core.spec.generator_spec import GeneratorSpec
    from gan_core.spec.norm_layers import Activation
    from gan_export.recompute import recompute
    from gan_trainer.networks.generator import GeneratorCheckpoint, build, save_generator

    spec = GeneratorSpec(network.interface, tuple(layer for _, layer in network.layers), name=name)
    torch.manual_seed(0)
    module = build(spec).eval()
    for part in module.modules():
        if isinstance(part, nn.PReLU) and part.num_parameters > 1:
            nn.init.uniform_(part.weight, 0.0, 0.5)
    given = torch.from_numpy(inputs(spec.interface, range(2 if spec.interface.input else 8)))
    given = given.float().permute(0, 3, 1, 2) / 255 if spec.interface.input else given
    label = torch.arange(8) % spec.interface.n_classes if spec.interface.conditional else None
    if spec.interface.input is None and any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        recompute(module, spec.interface, 64)
    weighted = [part for part in module.modules() if isinstance(part, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]
    last = spec.layers[-1]
    if weighted and isinstance(last, Activation) and last.name != "identity":  # nothing vanishes or saturates in tanh
        reached: list[torch.Tensor] = []
        hook = weighted[-1].register_forward_hook(lambda _module, _inputs, output: reached.append(output))
        with torch.no_grad():
            module(given, label)
            weighted[-1].weight.mul_(0.8 / reached[0].std())
        hook.remove()
    else:  # the range of random weights is any
        with torch.no_grad():
            images = module(given, label)
        spec = with_interface(spec, value_range=(float(images.min()), float(images.max())))
    save_generator(GeneratorCheckpoint(spec, module.state_dict(), training={"recipe": "none: untrained"}), target)
    return sum(tensor.numel() for tensor in module.state_dict().values() if tensor.is_floating_point())


def render(made: Json) -> str:
    """A row for each network."""
    rows = []
    for name, found in made["networks"].items():
        sides = [found["batches"][str(batch)] for batch in BATCHES]
        speeds = [f"{side['rows']['ganport']['images_per_s'] or 0:.4g}" for side in sides]
        ratios = ["–" if side["ratio"] is None else f"{side['ratio']:.2f}" for side in sides]
        peak = found["export_peak_bytes"]
        rows.append(
            [
                name,
                f"{found['weights'] / 1e6:.1f}",
                f"{found['export_s']:.0f}",
                "–" if peak is None else f"{peak / 2**30:.1f}",
                f"{found['file_bytes'] / found['weight_bytes']:.3f}",
                *(cell for pair in zip(speeds, ratios, strict=True) for cell in pair),
            ]
        )
    heads = ["network", "M weights", "export s", "GiB", "file/weights"]
    heads += [head for batch in BATCHES for head in (f"images/s at {batch}", "ratio")]
    return console.table(heads, rows, right=range(1, len(heads)))


if __name__ == "__main__":
    console.run(app, "python -m lab.families")
