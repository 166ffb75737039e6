"""A model repository for a hub such as Hugging Face: a card with its metadata, config.json, samples, the ONNX file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.files.atomic import atomic_path, write_text
from gan_core.interface import describe_classes
from gan_core.latents import LAW_WORDS
from gan_core.printable import printable
from gan_export.publish import check_folder, check_line, copy, name_of, open_exported
from gan_serve.runtime.generator import Generator

FILL_IN = "FILL-IN"
"""What stands for the licence until somebody names one; the hub refuses it."""
MODEL = "onnx/model.onnx"
_ATTRIBUTES = "*.onnx filter=lfs diff=lfs merge=lfs -text\n*.png filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(frozen=True)
class HubOptions:
    """What the file does not say of itself.

    title    of the card; None for the file's name
    licence  an identifier of the hub's, such as "mit" or "cc-by-4.0"; None leaves a place to fill in
    """

    title: str | None = None
    licence: str | None = None

    def __post_init__(self) -> None:
        for field in ("title", "licence"):
            check_line(field, getattr(self, field))
        if self.licence is not None and re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.licence) is None:
            raise GanportError(
                f"the hub knows no licence {self.licence[:40]!r}", hint="such as mit, apache-2.0 or other"
            )


def write_folder(model: Path, folder: Path, options: HubOptions = HubOptions()) -> list[Path]:
    """Writes the model's repository into `folder`; files of the same names are replaced. Returns the files.

    Raises `GanportError` for a file that is no export.
    """
    check_folder(folder, model)
    with open_exported(model) as generator:
        title = options.title or name_of(model)
        texts = {
            ".gitattributes": _ATTRIBUTES,
            "config.json": json.dumps(config(generator), indent=2) + "\n",
            "README.md": card(generator.contract, title, options.licence or FILL_IN),
        }
        files = [folder / name for name in (MODEL, *texts)]
        copy(model, files[0])
        if generator.contract.interface.input is None:
            files.append(folder / "samples.png")
            with atomic_path(files[-1]) as temporary:
                generator.grid(25, captions=generator.contract.interface.conditional).save(temporary, "PNG")
    for path, text in zip(files[1:], texts.values(), strict=False):
        write_text(path, text)
    return files


def config(generator: Generator) -> dict[str, Any]:
    """What programs want to know: the interface as in the contract, the file and its digest."""
    contract = generator.contract
    return {
        "model_type": "ganport",
        "architecture": contract.name,
        "file": MODEL,
        "sha256": generator.sha256,
        "precision": contract.precision,
        "interface": json.loads(contract.to_metadata()["gan.interface"]),
    }


def card(contract: Contract, title: str, licence: str) -> str:
    """README.md: the metadata that the hub reads, then what people want to know."""
    interface = contract.interface
    from_image = interface.input is not None
    tags = ["gan", "onnx", "onnxruntime", "ganport"] + ["image-generation"] * (not from_image)
    data = contract.training.get("data")
    data_name = str(data["name"]) if isinstance(data, dict) and "name" in data else ""
    metadata = {
        "license": licence,
        "library_name": "onnxruntime",
        "pipeline_tag": "image-to-image" if from_image else "unconditional-image-generation",
        "tags": tags,
    }
    front = "".join(f"{name}: {json.dumps(value)}\n" for name, value in metadata.items())  # JSON is YAML
    parts = [
        f"---\n{front}---\n",
        f"# {_plain(title)}\n",
        f"A GAN generator as one ONNX file: {_plain(interface.picture)}, from {_plain(interface.taken)}"
        f"{f', {interface.n_classes} classes' if interface.conditional else ''}. It runs with onnxruntime, on CPUs and "
        "GPUs, without PyTorch.\n",
        "" if from_image else "![25 samples](samples.png)\n",
        *_use(contract),
        "## The file\n",
        _facts(contract, data_name),
        *_assumed(contract),
        "## Licence and intended use\n",
        ("Name the licence in the metadata above, and say " if licence == FILL_IN else "Say ")
        + "here what the model was trained on, and what it is for.\n",
    ]
    return "\n".join(part for part in parts if part)


def _use(contract: Contract) -> list[str]:
    """The commands and the lines of Python to type."""
    interface = contract.interface
    imports, command = ["import numpy as np", "import onnxruntime"], f"gan-gen {MODEL} 25"
    if interface.input is not None:
        command = f"gan-gen {MODEL} --image picture.png --out out/"
        imports.append("from PIL import Image")
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[interface.input.channels]
        picture = f"Image.open('picture.png').convert('{mode}')"
        size = f"(1, *{picture}.size[::-1], {interface.input.channels})"
        feeds = {"input": f"np.asarray({picture}).reshape{size}"}
    else:
        size = f"(25, {interface.z_dim})"
        made = {"normal": "standard_normal(", "uniform": "uniform(-1, 1, ", "uniform01": "uniform(0, 1, "}
        numbers = f"{made[interface.latent]}{size})"
        feeds = {"z": f"np.random.default_rng().{numbers}.astype(np.float32)"}
    if interface.conditional:
        feeds["label"] = f"np.arange(25) % {interface.n_classes}"
    code = [
        *imports,
        "",
        f"session = onnxruntime.InferenceSession('{MODEL}')",
        *(f"{name} = {value}" for name, value in feeds.items()),
        f"(pixels,) = session.run(['pixels'], {{{', '.join(f'{name!r}: {name}' for name in feeds)}}})",
        "print(pixels.shape)  # uint8 (batch, height, width, channels)",
    ]
    return [
        "## Use\n",
        "With [ganport](https://github.com/ganport/ganport), where a seed is the same image everywhere:\n",
        f"```sh\n{command}\n```\n",
        "With onnxruntime alone:\n",
        "\n".join(["```python", *code, "```\n"]),
    ]


def _facts(contract: Contract, data_name: str) -> str:
    interface = contract.interface
    law = f"{interface.latent.removesuffix('01')}, {LAW_WORDS[interface.latent]}"
    rows = {
        "network": contract.name,
        "latent": "" if interface.input is not None else f"{interface.z_dim} numbers, {law}",
        "classes": describe_classes(interface) if interface.conditional else "",
        "trained on": data_name,
        "weights": contract.weights,
        "precision": contract.precision,
        "source": ", ".join(f"{key} {contract.source[key]}" for key in ("file", "sha256") if key in contract.source),
        "proved": _proved(contract),
    }
    lines = [f"| {name} | {_plain(value)} |" for name, value in rows.items() if value]
    return "\n".join(["| | |", "|---|---|", *lines, ""])


def _proved(contract: Contract) -> str:
    proof = contract.parity
    if not {"images", "pixels_max_lsb", "worst_psnr_db"} <= proof.keys():
        return ""
    return (
        f"against PyTorch, on {proof['images']} images: pixels within {proof['pixels_max_lsb']} LSB, "
        f"the worst image at {proof['worst_psnr_db']} dB"
    )


def _assumed(contract: Contract) -> list[str]:
    """What the reading of the checkpoint assumed, and why its images may be wrong."""
    said = [*contract.assumptions, *contract.doubts]
    return ["## What was assumed\n", "\n".join(f"- {_plain(text)}" for text in said) + "\n"] if said else []


def _plain(text: str) -> str:
    """Text of a file or a user in Markdown: one line, as it is."""
    escaped = "".join(f"\\{character}" if character in "\\`*_[]<>|#" else character for character in printable(text))
    return " ".join(escaped.split())
