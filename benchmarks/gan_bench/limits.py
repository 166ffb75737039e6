"""Each row beside what the machine allows: a call takes at least as long as its products, and as its bytes.

    limit = batch / max(batch · flops / product rate, bytes of the call / copy rate)    images/s

after Williams, Waterman and Patterson, Roofline (CACM 2009). `gan_bench.tasks` says how the rates are measured. The
bytes are those of a call that keeps every image in the cache, so that no row can pass the limit by being clever with
memory. It can be passed by doing fewer operations (Winograd), and by int8, whose rows are held against fp32's product.

Operations are counted from the layers. A multiplication with its addition is two. A convolution counts kernel² · C_in ·
C_out for each pixel of its output, a transposed one for each pixel of its *input*, as `torch.utils.flop_counter` does:
products with padding, and those that fall off the border, are counted as if made. Everything elementwise (norms,
activations, the pixels) is not: it is a per mille of the products and can be folded into them. The count is that of the
generator as it was trained, not of the graph that a file holds: a graph that was rewritten with padding does no more
work for it, and looks no better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_bench.questions import Product
from gan_bench.windows import rounded, spread, spread_json, stable
from gan_core.fields import Json
from gan_core.spec.generator_spec import GeneratorSpec, SpecError
from gan_core.spec.layers import LabelEmbedding

NUMBER_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class Work:
    """What one image costs, and what every call costs once.

    flops_per_image   operations of the products
    parameters        numbers that each call has to read at least once
    latents, pixels   numbers read and bytes written for an image
    source            "spec" or "graph"
    """

    flops_per_image: int
    parameters: int
    latents: int
    pixels: int
    source: str

    def bytes_per_call(self, batch: int, precision: str) -> int:
        """The least traffic of a call: every parameter once, latents in (fp32), pixels out; the rest stays in cache."""
        return self.parameters * NUMBER_BYTES[precision] + batch * (4 * self.latents + self.pixels)


def work_of_spec(values: Json) -> Work:
    """The work of a `GeneratorSpec` given as JSON. Raises `SpecError` when it is none."""
    spec = GeneratorSpec.from_json(values)
    embedded = sum(layer.n_classes * layer.dim for layer in spec.layers if isinstance(layer, LabelEmbedding))
    taken = math.prod(spec.interface.input_shape)
    read = taken if spec.interface.input is None else -(-taken // 4)  # a byte for each number of an image
    return Work(2 * spec.products, spec.parameters - embedded, read, math.prod(spec.interface.image), "spec")


def work_of_graph(model: Path, z_dim: int, image: tuple[int, int, int]) -> Work | None:
    """The work of an ONNX graph as it stands, for generators without a spec; None without the package onnx, or for a
    graph whose shapes cannot be inferred."""
    try:
        import onnx
    except ImportError:
        return None
    proto = onnx.load(model)
    for value in proto.graph.input:  # batch 1, so that every shape is a number
        value.type.tensor_type.shape.dim[0].dim_value = 1
    try:
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    except Exception:
        return None
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        sides = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        if all(sides):
            shapes[value.name] = sides
    try:
        flops = sum(_node_flops(node, shapes) for node in graph.node)
    except (KeyError, IndexError):
        return None
    floats = [tensor for tensor in graph.initializer if tensor.data_type in (1, 10, 11)]
    parameters = sum(math.prod(tensor.dims) for tensor in floats)
    return Work(flops, parameters, z_dim, math.prod(image), "graph")


def _node_flops(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    """The operations of one ONNX node; 0 for what is no product. Raises `KeyError` for a shape that is not known."""
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = shapes[node.input[1]]
        positions = math.prod(shapes[node.output[0] if node.op_type == "Conv" else node.input[0]][2:])
        outer = shapes[node.output[0]][1] if node.op_type == "Conv" else shapes[node.input[0]][1]
        return 2 * positions * outer * math.prod(weight[1:])
    if node.op_type in ("MatMul", "Gemm"):
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        inner = shapes[node.input[0]][-2 if transposed else -1]
        return 2 * math.prod(shapes[node.output[0]]) * inner
    return 0


def work_of(spec: Json | None, model: Path | None, z_dim: int, image: tuple[int, int, int]) -> Work | None:
    """From the spec where there is one, else from the graph; None where neither can be counted."""
    if spec is not None:
        try:
            return work_of_spec(spec)
        except SpecError:
            pass
    if model is not None and model.suffix.lower() == ".onnx":
        return work_of_graph(model, z_dim, image)
    return None


DEVICES = {"cpu": "cpu", "openvino": "cpu", "cuda": "cuda", "tensorrt": "cuda"}
"""The device whose limits hold for a provider; the others' are not measured."""


@dataclass(frozen=True)
class Kind:
    """Which limit: of a device, at a precision ("fp32", "tf32", "fp16"), with a number of threads."""

    device: str
    precision: str
    threads: int | None


@dataclass
class Limit:
    """The limits of one kind, window by window."""

    kind: Kind
    product: Product | None = None
    gflop_per_s: list[float] = field(default_factory=list)
    gb_per_s: list[float] = field(default_factory=list)
    failure: str = ""

    def to_json(self) -> Json:
        about = self.product
        return {
            "device": self.kind.device,
            "precision": self.kind.precision,
            "threads": self.kind.threads,
            "product_by": about.product_by if about else None,
            "product_size": about.product_size if about else None,
            **spread_json("product_gflop_per_s", self.gflop_per_s),
            "copy_bytes": about.copy_bytes if about else None,
            **spread_json("copy_gb_per_s", self.gb_per_s),
            "stable": stable(self.gflop_per_s),
            "reason": self.failure or None,
        }


def kind_of(provider: str | None, precision: str, tf32: bool, threads: int | None) -> Kind | None:
    """The limit that a row is held against; None for a device that is not measured."""
    device = DEVICES.get(provider or "")
    if device is None:
        return None
    if device == "cpu":
        return Kind("cpu", "fp32", threads)  # onnxruntime and torch compute fp16 files in fp32 there
    return Kind("cuda", "fp16" if precision == "fp16" else "tf32" if tf32 else "fp32", None)


def limit_of(kind: Kind | None, limits: Iterable[Limit], work: Work | None, batch: int, precision: str) -> Json:
    """{"limit_images_per_s", "limited_by"} of a row, both None where the limit is not known."""
    found = next((limit for limit in limits if limit.kind == kind and limit.gflop_per_s), None)
    if found is None or work is None:
        return {"limit_images_per_s": None, "limited_by": None}
    products_s = batch * work.flops_per_image / (spread(found.gflop_per_s).median * 1e9)
    copies_s = 0.0
    if found.gb_per_s:
        copies_s = work.bytes_per_call(batch, precision) / (spread(found.gb_per_s).median * 1e9)
    slower = max(products_s, copies_s)
    return {
        "limit_images_per_s": rounded(batch / slower) if slower else None,
        "limited_by": "products" if products_s >= copies_s else "bytes",
    }


def kinds_of(rows: Sequence[tuple[str | None, str, bool, int | None]]) -> list[Kind]:
    """The limits to measure for rows given as (provider, precision, tf32, threads)."""
    return list(dict.fromkeys(kind for row in rows if (kind := kind_of(*row)) is not None))
