"""gan-gen: draws images with an exported generator. Its help names every option.

Only typer is imported here: numpy, onnxruntime and what a request needs come when it is carried out, so that `--help`
and errors are quick and a cold start pays for nothing that it does not use.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gan_core.errors import GanportError
from gan_serve.terminal import commands, console
from gan_serve.terminal.commands import answered_by, in_panel

app = console.new_app()
_SIZE = re.compile(r"[0-9]+(x[0-9]+)*")

of_styles, of_images, of_output, of_jobs, of_speed, of_about = map(
    in_panel, ("StyleGAN", "Images in", "Output", "Large jobs", "Speed", "The file")
)
"""Options in panels; those without are of what to draw."""


@app.command()
@answered_by(commands.unsaid)
def generate(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="The generator: .onnx, or .ts with torch. [default: the one that comes with ganport: Fashion-MNIST "
            "garments, ten classes, 32x32]",
            show_default=False,
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="N|IMAGE",
            help="How many images, the same as --n; or the images and folders that a file which takes images "
            "transforms, the same as --image.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", "-m", metavar="FILE", help="The same as FILE.")] = None,
    n: Annotated[
        int | None,
        typer.Option("--n", "-n", metavar="N", help="How many images. [default: 25; with --by-class 10 of each]"),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="The first seed: S … S+N-1. [default: 0]")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="LIST", help="Seeds by number and range: 0,4-6,100.")] = None,
    latents: Annotated[
        Path | None,
        typer.Option(
            metavar="Z.npy",
            help="Use these latents instead: floats (n, z_dim), or of a StyleGAN styles w, (n, w_dim) or "
            "(n, num_ws, w_dim). Where w_dim is z_dim, (n, w_dim) is written as (n, 1, w_dim).",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="A class by index or name, several with commas, or all: used in turn, image by image. "
            "[default: seed s shows class s mod (number of classes)]",
        ),
    ] = None,
    by_class: Annotated[
        bool,
        typer.Option(
            "--by-class",
            help="Generate every seed in every class (or those of --class): one row per class, one column per seed.",
        ),
    ] = False,
    truncation: Annotated[
        float | None, typer.Option(metavar="T", help="Bound on |z|: 0.5 to 1 is safer and less varied.")
    ] = None,
    walk: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Walk through K seeds and back, looping: .webp, .gif or .mp4. With --by-class, in every class.",
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(metavar="F", help="Frames of the whole walk, 25 a second. [default: 40 a seed]")
    ] = None,
    psi: Annotated[
        float | None,
        of_styles(
            "--truncation-psi",
            metavar="PSI",
            help="How far styles are from their mean: 1 as they are, 0.7 safer and less varied, 0 the mean image.",
        ),
    ] = None,
    noise: Annotated[
        str | None,
        of_styles(
            metavar="MODE",
            help="Its constant noise, none, or seed: random noise for each seed, the same each time. [default: const]",
        ),
    ] = None,
    mix: Annotated[
        str | None,
        of_styles(
            metavar="A:B@L",
            help="Mix styles: the first L layers of seed A, the others of seed B. Lists, 0-3:10-13@8, give all pairs.",
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        of_images(
            "--image",
            metavar="PATH",
            help="An image, or a folder of them, for a file that takes images. Repeats. Or CxHxW, such as 1x28x28: the "
            "images' size of a flat output that does not say it.",
        ),
    ] = None,
    tile: Annotated[
        int | None,
        of_images(metavar="N", help="Compute tiles of NxN input pixels, for large images; the result is the same."),
    ] = None,
    halo: Annotated[
        int | None,
        of_images(
            metavar="N",
            help="Pixels around a tile. Fewer are faster, and seams may show. [default: as many as matter]",
        ),
    ] = None,
    resize: Annotated[
        bool, of_images("--resize", help="Resize images to the size of a network that takes one only.")
    ] = False,
    out: Annotated[
        str | None,
        of_output(
            "--out",
            "-o",
            metavar="PATH",
            help="A grid (.png .jpg .webp), an array (.npy .npz), a folder (one PNG per seed, or the images under "
            "their names), or - (a PNG on stdout). [default: the model's name with .png, in the current folder, and an "
            "image's name before it]",
        ),
    ] = None,
    cols: Annotated[
        int | None,
        of_output(metavar="N", help="Columns of the grid. [default: nearly square]"),
    ] = None,
    grid: Annotated[
        str | None,
        of_output(metavar="CxR", help="C columns and R rows, as 4x2: of images, or of walks side by side."),
    ] = None,
    scale: Annotated[
        str,
        of_output(
            metavar="N",
            help="Enlarge images N times, each pixel a square; 1 leaves them as they are, auto enlarges the grids and "
            "walks of images up to 64x64.",
        ),
    ] = "auto",
    labels: Annotated[
        bool,
        of_output("--labels", help="Write its class under each image of a grid, or its seed if all have one class."),
    ] = False,
    format_: Annotated[
        str | None,
        of_jobs(
            "--format",
            metavar="NAME",
            help="Write a folder of shards: tar (WebDataset), parquet, npy or folder. If a job was stopped, the same "
            "command makes what is missing.",
        ),
    ] = None,
    shard_size: Annotated[
        int | None,
        of_jobs(metavar="N", help="Images in each shard. [default: 10,000, fewer of large images]"),
    ] = None,
    shard: Annotated[
        str | None,
        of_jobs(
            metavar="I/N",
            help="Make only part I (from 0) of N parts of the job, or of a folder of images. [default: as SLURM, "
            "Kubernetes or torchrun says]",
        ),
    ] = None,
    overwrite: Annotated[bool, of_jobs("--overwrite", help="Replace what is in the folder.")] = False,
    finish: Annotated[
        bool, of_jobs("--finish", help="Write the manifest of the shards in --out, when all parts are done.")
    ] = False,
    verify: Annotated[
        bool, of_jobs("--verify", help="Compare all shards in --out with the manifest; exit 1 if one differs.")
    ] = False,
    engine: Annotated[
        str | None,
        of_jobs(metavar="NAME", help="local, or ray: on all machines of a Ray cluster. [default: local]"),
    ] = None,
    workers: Annotated[
        int | None,
        of_jobs(metavar="N", help="Ray actors. [default: the cluster's CPUs less one, or its GPUs]"),
    ] = None,
    ray_address: Annotated[
        str | None,
        of_jobs("--ray-address", metavar="ADDRESS", help="The cluster. [default: $RAY_ADDRESS, else this machine]"),
    ] = None,
    json: Annotated[bool, of_output("--json", help="Print JSON instead of text, errors too.")] = False,
    provider: Annotated[
        str,
        of_speed(
            metavar="NAME",
            help="auto, cpu, cuda, tensorrt, openvino, webgpu, coreml or directml; cuda:1 is the second GPU. Never "
            "a silent CPU.",
        ),
    ] = "auto",
    batch_size: Annotated[
        int | None,
        of_speed(metavar="N", help="Images per run. Speed only. [default: 4 to 64, by their size]"),
    ] = None,
    threads: Annotated[int | None, of_speed(metavar="N", help="Threads. [default: every core]")] = None,
    tf32: Annotated[
        bool,
        of_speed("--tf32", help="Let an NVIDIA GPU round fp32 products to TF32: faster, less exact."),
    ] = False,
    info: Annotated[bool, of_about("--info", help="Print the metadata of the file.")] = False,
    selftest: Annotated[
        bool,
        of_about("--selftest", help="Generate the file's golden set again and compare; exit 1 if it differs."),
    ] = False,
    trust_script: Annotated[
        bool,
        of_about("--trust-script", help="Run a .ts file without checking its program, with your rights."),
    ] = False,
    answers: Any = None,
) -> None:
    """Generate images with an exported generator.

    Files of gan-export describe themselves. For another ONNX file, gan-gen assumes what the file does not show and
    says so, or asks for an option.

    A seed is an image: seed 7 of a model is the same picture in any batch, on any machine. Existing files are
    overwritten, but a folder is completed. The path written is printed on stdout.

    \b
    Examples:
      gan-gen                                  25 garments, fashion-mnist.png
      gan-gen --class sneaker --n 9 --out sneakers.png
      gan-gen --by-class --labels              ten classes in ten rows, named
      gan-gen g.onnx                           seeds 0-24 as one grid, g.png
      gan-gen g.onnx 100                       seeds 0-99
      gan-gen g.onnx --seeds 0,4-6,100 --cols 5 --out five.png
      gan-gen g.onnx --n 10000 --out faces/    one PNG per seed
      gan-gen g.onnx --n 1000000 --out shards/ --format tar
      gan-gen digits.onnx --class 3,7 --n 10 --cols 2
      gan-gen g.onnx --walk 8 --out walk.webp  a loop through 8 seeds
      gan-gen g.onnx --walk 5 --grid 4x2       eight walks side by side
      gan-gen stylegan.onnx --truncation-psi 0.7
      gan-gen stylegan.onnx --mix 0-3:10-13@8  a table of style mixes
      gan-gen g.onnx --selftest                is it still what was exported?
      gan-gen theirs.onnx --value-range 0,1    a file of somebody else
      gan-gen x4.onnx photo.jpg --tile 256     a super-resolver: photo-x4.png
      gan-gen x4.onnx photos/ --out large/     a whole folder
    """
    from gan_core.said import parse_answers
    from gan_serve.gen.job_options import JobOptions
    from gan_serve.gen.request import Request
    from gan_serve.gen.run import run_request

    rest, images = list(given or ()), list(image or ())
    if file is not None and str(file).isdecimal() and not file.exists():  # gan-gen 25, gan-gen 25 g.onnx
        file, rest = Path(rest.pop(0)) if rest else None, [str(file), *rest]
    number = rest.pop(0) if rest and rest[0].isdecimal() else None
    if len(images) == 1 and _SIZE.fullmatch(images[0]) and not Path(images[0]).exists():
        answers["image"] = images.pop()
    images += rest
    if number is not None and rest:
        raise GanportError(f"{number} images are asked for, and {rest[0]}", hint="a number, or images: gan-gen FILE 25")
    request = Request(
        model=console.named_once(file, model, "--model"),
        n=console.named_once(None if number is None else int(number), n, "--n"),
        seed=seed,
        seeds=seeds,
        latents=latents,
        classes=tuple(classes or ()),
        by_class=by_class,
        truncation=truncation,
        psi=psi,
        noise=noise,
        mix=mix,
        walk=walk,
        frames=frames,
        out=out,
        cols=cols,
        grid=grid,
        scale=scale,
        labels=labels,
        batch_size=batch_size,
        selftest=selftest,
        info=info,
        json=json,
        trust_script=trust_script,
        answers=parse_answers(**answers),
        images=tuple(images),
        tile=tile,
        halo=halo,
        resize=resize,
        job=JobOptions(format_, shard_size, shard, overwrite, verify, finish, engine, workers, ray_address),
    )
    run_request(request, provider, threads, tf32)


def main() -> NoReturn:
    """The command `gan-gen`."""
    try:
        console.run(app, "gan-gen")
    except SystemExit as done:
        console.leave(done)
