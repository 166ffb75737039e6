"""How fast each form of a transposed convolution is, layer by layer: what `gan-export`'s rule was made from.

    python -m lab.forms --json FILE

Every layer is timed alone, with random weights, in every form that fits it (`gan_export.passes.forms`), on one
thread of onnxruntime's CPU provider; the forms of a layer take turns. Milliseconds per batch: median, lowest, highest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import typer

from gan_bench.windows import spread
from gan_core.fields import Json
from gan_serve.terminal import console
from lab import shared

MAX_BATCH = 1024

LAYERS: tuple[tuple[int, int, int, int, int, int, int], ...] = (
    # c_in, c_out, height = width, kernel, stride, padding, output padding
    (100, 512, 1, 4, 1, 0, 0),
    (1024, 512, 4, 4, 2, 1, 0),
    (512, 256, 4, 4, 2, 1, 0),
    (256, 128, 6, 4, 2, 1, 0),
    (256, 128, 7, 4, 2, 1, 0),
    (256, 128, 8, 4, 2, 1, 0),
    (128, 64, 8, 4, 2, 1, 0),
    (128, 64, 16, 4, 2, 1, 0),
    (128, 128, 16, 4, 2, 1, 0),
    (64, 32, 16, 4, 2, 1, 0),
    (64, 32, 32, 4, 2, 1, 0),
    (32, 16, 64, 4, 2, 1, 0),
    (64, 3, 32, 4, 2, 1, 0),
    (64, 1, 16, 4, 2, 1, 0),
    (256, 128, 8, 5, 2, 2, 1),
    (128, 64, 16, 5, 2, 2, 1),
    (256, 128, 8, 3, 2, 1, 1),
    (256, 128, 8, 2, 2, 0, 0),
)
"""The layers of DCGANs for 28 to 128 pixels and their neighbours: kernels 2 to 5, 4x4 to 64x64 inputs."""

app = console.new_app("Time the forms of transposed convolutions, layer by layer.")


@app.command()
def main_command(
    batch: Annotated[str, typer.Option(metavar="N,N,…", help="Images per run.")] = "1,8",
    json: shared.RecordFile = None,
) -> None:
    """Time the forms of transposed convolutions, layer by layer.

    \b
    Example:
      python -m lab.forms --json transposed-forms.json
    """
    batches = shared.whole_numbers(batch, "--batch", MAX_BATCH, "such as 1,25")
    target = shared.record_target(json)
    shared.require("timing the forms", ("onnx", "onnxruntime"), "export")
    made = shared.new_record("forms")
    rows = []
    with console.progress(len(LAYERS) * len(batches), "measuring") as bar:
        for size in batches:
            for numbers in LAYERS:
                rows.append(time_layer(numbers, size))
                bar.update(1)
    made |= {"threads": 1, "layers": rows}
    shared.hand_over(made, render(rows), json, target)


def time_layer(numbers: Sequence[int], batch: int) -> Json:
    """One layer in all its forms: what it is, which form the rule gives it, and milliseconds per batch by form."""
    import onnx_ir as ir

    from gan_export.passes.layer import Transposed
    from gan_export.passes.rewrite import always, fitting, for_cpu, rewrite, runner, single_layer, times_in_turns

    c_in, c_out, side, kernel, stride, padding, extra = numbers
    rng = np.random.default_rng(0)
    layer = Transposed(
        output="y",
        weight_name="weight",
        weight=ir.tensor(
            rng.standard_normal((c_in, c_out, kernel, kernel), np.float32) / np.float32(np.sqrt(c_in * kernel))
        ),
        bias=rng.standard_normal(c_out, np.float32),
        height=side,
        width=side,
        stride=stride,
        pads=(padding,) * 4,
        extra=(extra, extra),
    )
    names, model = fitting(layer), single_layer(layer)
    times = times_in_turns([runner(rewrite(model, always(name)), batch) for name in names])
    forms = {}
    for name, seen in zip(names, times, strict=True):
        ms = spread([1e3 * value for value in seen])
        forms[name] = {"ms": round(ms.median, 4), "ms_low": round(ms.low, 4), "ms_high": round(ms.high, 4)}
    keys = ("c_in", "c_out", "side", "kernel", "stride", "padding", "output_padding")
    return {
        **dict(zip(keys, numbers, strict=True)),
        "batch": batch,
        "mmacs_per_image": round(layer.macs / 1e6, 3),
        "rule": for_cpu(layer),
        "forms": forms,
    }


def render(rows: Sequence[Json]) -> str:
    """A table: ms of each form, the fastest and the rule's choice marked."""
    names = list(dict.fromkeys(name for row in rows for name in row["forms"]))
    lines = []
    for row in rows:
        best = min(row["forms"], key=lambda name: row["forms"][name]["ms"])
        cells = []
        for name in names:
            if name not in row["forms"]:
                cells.append("–")
                continue
            marks = ("*" if name == best else "") + ("◂" if name == row["rule"] else "")
            cells.append(f"{row['forms'][name]['ms']:.3f}{marks:<2}")
        what = f"{row['c_in']}→{row['c_out']} {row['side']}² k{row['kernel']} s{row['stride']}"
        lines.append((str(row["batch"]), what, *cells))
    head = ("batch", "layer", *(f"{name} ms  " for name in names))
    table = console.table(head, lines, right=(0, *range(2, len(head))))
    return f"{table}\n\n* fastest, ◂ what --optimize auto takes"


if __name__ == "__main__":
    console.run(app, "python -m lab.forms")
