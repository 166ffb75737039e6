"""The stock way: `torch.onnx.export` as it comes, run by onnxruntime as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.files.model_file import sha256_of
from gan_core.latents import LatentLaw
from gan_serve.runtime.generator import F32, I64, U8, Generator
from gan_serve.runtime.providers import PROVIDERS, import_onnxruntime, prepare


def export_stock(source: Any, target: Path) -> None:
    """`torch.onnx.export` (dynamo, its own optimisation, its own opset) of the generator and its pixels; no passes.

    The pixels are part of the graph, which is the fastest way to get them; the batch is dynamic. `source` is a
    `gan_export.source.Source`. The latent law and the class count are left in the metadata.
    """
    import onnx
    import torch

    from gan_export.quiet import quiet
    from gan_export.wrapper import example_inputs, export_module

    arguments = example_inputs(source)
    batch = torch.export.Dim("batch", min=1)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            export_module(source),
            arguments,
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in arguments),
            input_names=["z", "label"][: len(arguments)],
            output_names=["image", "pixels"],
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, plain_contract(source).to_metadata())
    onnx.save(model, target)


def plain_contract(source: Any, precision: str = "fp32") -> Contract:
    """What a worker needs to feed a generator: its latents, classes and image. From a `Source` or a spec."""
    law: LatentLaw = source.latent
    return Contract(
        z_dim=source.z_dim,
        image=source.image,
        latent=law,
        value_range=source.value_range,
        n_classes=source.n_classes,
        precision=precision,
        name=source.name,
    )


class StockOnnx(Generator):
    """The stock export in a session with default options, but for the number of threads (and TF32 on CUDA)."""

    def __init__(
        self, path: Path, device: str, precision: str, threads: int, batches: Sequence[int], tf32: bool
    ) -> None:
        del batches
        assert precision == "fp32"
        onnxruntime = import_onnxruntime()
        prepare(device)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        chosen: list[Any] = [PROVIDERS["cpu"]]
        if device == "cuda":
            if PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
                raise GanportError("the installed onnxruntime has no CUDA", hint="pip install 'ganport[cuda]'")
            chosen.insert(0, (PROVIDERS["cuda"], {"use_tf32": str(int(tf32))}))
        self.session = onnxruntime.InferenceSession(str(path), options, providers=chosen)
        ours = {theirs: name for name, theirs in PROVIDERS.items()}
        self.provider = ours[self.session.get_providers()[0]]
        if self.provider != device:
            raise GanportError(
                f"onnxruntime runs the stock export on {self.provider}, {device} was asked for",
                hint="measure the stock export on the CPU, or install what the provider needs",
            )
        self.threads = threads
        self.sha256 = sha256_of(path)
        metadata = self.session.get_modelmeta().custom_metadata_map
        contract = Contract.from_metadata(metadata, where=str(path))
        assert contract is not None
        self.contract = contract

    def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
        image, pixels = self.session.run(["image", "pixels"], self._feeds(z, label))
        return image, pixels

    def run_pixels(self, z: F32, label: I64 | None = None) -> U8:
        pixels: U8 = self.session.run(["pixels"], self._feeds(z, label))[0]
        return pixels

    def _feeds(self, z: F32, label: I64 | None) -> dict[str, Any]:
        return {"z": z} if label is None else {"z": z, "label": np.ascontiguousarray(label)}
