"""The options of gan-bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_bench.measuring.asked import QUICK_ROUNDS, QUICK_WINDOW_S, ROUNDS, WINDOW_S
from gan_bench.peers import PEERS
from gan_bench.records.rows import PNG_IMAGES

Record = Annotated[
    Path | None, typer.Argument(metavar="RECORD", help="A record to show (and --plot, --compare) again.")
]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="The generator: an .onnx file, or a .ts file where torch is installed; give it again "
        "for other precisions. The first fp32 one is the reference, unless there is --ckpt.",
    ),
]
BesideCkpt = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Its checkpoint: measure PyTorch and others beside it, and compare with it."),
]
Peers = Annotated[
    str | None,
    typer.Option(metavar="NAME,…", help=f"Which others: all (installed), none, or of {', '.join(PEERS)}. [all]"),
]
Providers = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="What runs it: auto, cpu, cuda, …; give it again for more rows."),
]
Batches = Annotated[str, typer.Option(metavar="N,N,…", help="Batch sizes, separated by commas.")]
Threads = Annotated[str, typer.Option(metavar="N,N,…", help="CPU threads, separated by commas; auto: as gan-gen does.")]
Tf32 = Annotated[str, typer.Option(metavar="off|on|off,on", help="Whether fp32 products on CUDA may round to TF32.")]
EndToEnd = Annotated[
    bool, typer.Option("--end-to-end", help=f"Rows from seeds to {PNG_IMAGES} PNG files on the disk, too.")
]
Roofline = Annotated[
    bool, typer.Option("--roofline/--no-roofline", help="Measure the machine's own product and copy beside.")
]
ShareProcess = Annotated[
    bool,
    typer.Option("--share-process", help="One process for all batch sizes: starts faster, memory is of all."),
]
JsonFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the record as JSON to this file; - for stdout.")
]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the record to this file (.png, .svg or .pdf).")]
Compare = Annotated[
    Path | None, typer.Option(metavar="OLD.json", help="Say what changed beyond noise since this record.")
]
Across = Annotated[bool, typer.Option("--across", help="Compare even with a record of another machine or generator.")]
Seconds = Annotated[float | None, typer.Option(metavar="S", help=f"Length of one window in seconds. [{WINDOW_S:g}]")]
Rounds = Annotated[int | None, typer.Option(metavar="N", help=f"The most windows a row may take. [{ROUNDS}]")]
Quick = Annotated[
    bool,
    typer.Option("--quick", help=f"Windows of {QUICK_WINDOW_S:g} s, at most {QUICK_ROUNDS}: a first look."),
]
TrustScript = Annotated[
    bool, typer.Option("--trust-script", help="Run .ts files whatever the program in them does, with your rights.")
]
Timeout = Annotated[
    int,
    typer.Option(metavar="S", help="Seconds a row's process may take to load, or to answer, before it is given up."),
]
