"""The proof of one file, from the first check to the last; among them whether what the file says of itself is true."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx
from onnx import TensorProto

from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.files.archive import is_archive
from gan_core.files.metadata import graph_sha256
from gan_core.files.model_file import check_model_file
from gan_core.interface import Interface
from gan_core.limits import Limits, limits_for
from gan_core.spec.generator_spec import GeneratorSpec, flat
from gan_core.spec.layers import Fir, Noise
from gan_export import torchscript_export as jit
from gan_export.artefact import read_onnx
from gan_export.proof import Check, Report, at_most
from gan_export.proof.cases import Case, cases
from gan_export.proof.meaning import Statistics, check_meaning
from gan_export.proof.parity import Differences, Failure, check_batches, check_parity, check_styles, run_cases
from gan_export.proof.reference import Reference, check_reference
from gan_export.proof.structure import check_onnx, check_torchscript
from gan_export.source import Source
from gan_export.torchscript_runtime import TorchScriptGenerator
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.golden import check_golden
from gan_serve.runtime.onnx_generator import OnnxGenerator

SECTION = "structure"
ADOPTED = "adopted"
"""The key of a contract's source, for what the user said of an ONNX file of another exporter."""
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
OVERHEAD_BYTES = 1 << 20
"""What graph, contract and golden set may add to the weights."""


def check_contract(contract: Contract, source: Source | None, graph_sha256: str = "") -> Check:
    """The contract says what the source is, or without one at least what its own spec says.

    graph_sha256  the digest of the file's graph, which the contract has to name where it names one
    """
    wrong: list[str] = []
    if contract.graph_sha256 not in ("", graph_sha256):
        wrong.append("its graph was changed after the export (sha256)")
    try:
        spec = _spec(contract)
    except GanportError as error:
        return Check(SECTION, "contract", False, "differs", "agrees", "", f"its spec does not read: {error}")
    if spec is not None:
        unnamed = replace(contract.interface, class_names=spec.interface.class_names)
        wrong += _differences(unnamed, spec.interface, "its spec says")
    if source is not None:
        wrong += _differences(contract.interface, source.interface, "the checkpoint's is")
        if contract.weights != source.weights:
            wrong.append(f"weights is {contract.weights}, the checkpoint's is {source.weights}")
        if spec != source.spec:  # as they are read: a file of an older ganport may lack fields with defaults
            wrong.append("spec differs from the checkpoint's")
        if contract.source.get("sha256") != source.provenance.get("sha256"):
            wrong.append("made from another file than this checkpoint (sha256)")
    value = "agrees" if not wrong else "differs"
    return Check(SECTION, "contract", not wrong, value, "agrees", "", "; ".join(wrong[:3]))


def _differences(found: Interface, expected: Interface, says: str) -> list[str]:
    pairs = zip(asdict(found).items(), asdict(expected).values(), strict=True)
    return [f"{name} is {value}, {says} {other}" for (name, value), other in pairs if value != other]


def check_spec_weights(contract: Contract, sizes: Iterable[tuple[str, int]]) -> Check:
    """Every weight matrix and kernel that the spec names is in the file: by its number of elements, or, where a pass
    wrote it in another shape, by tensors named after it.

    Vectors are left out: folding a BatchNorm removes them; so are filters and noise, of which equal ones are kept once.
    `sizes` are names and element counts of the file's tensors.
    """
    tensors = list(sizes)
    try:
        spec = _spec(contract)
    except GanportError:
        spec = None
    if spec is None:
        return Check(SECTION, "spec fits weights", True, "no spec", "", "", "a live module")
    learned = flat([{} if isinstance(layer, Fir | Noise) else layer.tensors() for layer in spec.layers])
    wanted = {name: math.prod(shape) for name, shape in learned.items() if len(shape) >= 2}
    named = {name: [found for found in tensors if found[0].startswith(f"{name}.")] for name in wanted}
    available = Counter(size for _, size in tensors) - Counter(size for found in named.values() for _, size in found)
    missing = []
    for name, size in wanted.items():
        if not named[name]:
            missing += [name] * (available[size] <= 0)
            available[size] -= 1
    value = f"{len(wanted) - len(missing)} of {len(wanted)}"
    return Check(SECTION, "spec fits weights", not missing, value, "all", "tensors", ", ".join(missing[:3]))


def check_size(size_bytes: int, weight_bytes: int) -> Check:
    """The file is about as large as its weights: nothing was written twice."""
    limit, weights = int(weight_bytes * 1.05) + OVERHEAD_BYTES, f"weights {weight_bytes / 1e6:.3g} MB"
    return at_most(SECTION, "file size", round(size_bytes / 1e6, 3), limit / 1e6, "MB", weights)


def check_precision(contract: Contract, model: onnx.ModelProto | None) -> list[Check]:
    """For a file of lower precision, or with its weights rounded: what computes in which type, and what it weighs.

    `model` is None for a file that is not ONNX; only ONNX files are offered in anything but fp32.
    """
    if model is None or (contract.precision, contract.store) == ("fp32", "fp32"):
        return []
    checks = []
    if contract.precision != "fp32" and ADOPTED not in contract.source:  # others compute so in other ways
        types = layer_types(model)
        count, total = types[contract.precision], sum(types.values())
        kept = ", ".join(contract.kept_fp32)
        detail = f"in float32: {kept}" if kept else ""
        name = f"layers in {contract.precision}"
        checks.append(Check("precision", name, count > 0, count, ">= 1", f"of {total}", detail))
    if contract.store == "fp16":
        full = any(len(t.dims) >= 2 and t.data_type == TensorProto.FLOAT for t in model.graph.initializer)
        found = sum(t.data_type == TensorProto.FLOAT16 for t in model.graph.initializer)
        checks.append(Check("precision", "weights in fp16", found > 0 or not full, found, ">= 1", "tensors"))
    sizes: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        sizes[TensorProto.DataType.Name(tensor.data_type).lower()] += tensor.ByteSize()
    shares = ", ".join(f"{name} {size / 1e6:.3g} MB" for name, size in sizes.most_common() if size >= 1000)
    checks.append(Check("precision", "weights", True, round(sum(sizes.values()) / 1e6, 3), "", "MB", shares))
    return checks


def layer_types(model: onnx.ModelProto) -> Counter[str]:
    """How many layers (Conv, ConvTranspose, Gemm, MatMul) compute in "fp32", "fp16" and "int8"."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    found: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            maker = makers.get(node.input[1])
            if maker is not None and maker.op_type == "DequantizeLinear":
                found["int8"] += 1
            elif types.get(node.input[1]) == TensorProto.FLOAT16 or node.input[1].endswith(".fp16"):
                found["fp16"] += 1
            else:
                found["fp32"] += 1
    return found


def _spec(contract: Contract) -> GeneratorSpec | None:
    return None if contract.spec is None else GeneratorSpec.from_json(contract.spec)


@dataclass(frozen=True)
class _Artefact:
    """A file, whatever its format: its contract, what its structure shows, and how to run it."""

    contract: Contract
    checks: tuple[Check, ...]
    tensor_sizes: tuple[tuple[str, int], ...]
    weight_bytes: int
    load: Callable[[], Generator]
    graph_sha256: str
    model: onnx.ModelProto | None = None


@dataclass(frozen=True)
class Drawn:
    """What is kept of the images that the graph with this digest drew, each beside PyTorch's where there is one."""

    graph_sha256: str
    cases: tuple[Case, ...]
    failures: tuple[Failure, ...]
    statistics: Statistics
    differences: Differences | None = None


def draw(path: str | os.PathLike[str], reference: Reference) -> Drawn:
    """Every case of a proof by the file and by PyTorch, for what the contract keeps of it and for `prove`."""
    artefact = _open(path)
    return _draw(artefact, artefact.load(), reference)


def prove(
    path: str | os.PathLike[str],
    source: Source | None = None,
    *,
    reference: Reference | None = None,
    drawn: Drawn | None = None,
    trust_script: bool = False,
) -> Report:
    """Proves an exported file (ONNX or TorchScript), against `source` where there is one.

    Without a source: structure, meaning and the golden set. With one, also whether it can serve as a reference, and
    parity. `reference` keeps the images of a source that several proofs share; `drawn` is what `draw` saw of a file
    with the same graph; `trust_script` is for a TorchScript file whose program does more than compute.
    A file that fails is a report whose `ok` is False; raises `GanportError` only for a file that is missing or
    unreadable as a model, or carries no contract, and `JobError` when the source's own module cannot draw.
    """
    artefact = _open(path, trust_script)
    contract = artefact.contract
    limits = limits_for(contract.held_to)
    tolerance = tolerance_of(limits, contract.interface.value_range)
    if reference is None and source is not None:
        reference = Reference(source)
    checks: list[Check] = []
    image_limit = scaled_limit(limits, contract.interface.value_range)
    if reference is not None:
        checks += check_reference(reference, tolerance)
        tolerance = reference.allow(tolerance)
        image_limit = None if image_limit is None else tolerance
    checks += artefact.checks
    checks += check_precision(contract, artefact.model)
    checks.append(check_contract(contract, reference.source if reference else None, artefact.graph_sha256))
    weight_bytes = artefact.weight_bytes if reference is None else reference.weight_bytes
    checks.append(check_spec_weights(contract, artefact.tensor_sizes))
    checks.append(check_size(Path(path).stat().st_size, weight_bytes))
    against = reference.source.drawn_by if reference else ""
    try:
        generator = artefact.load()
    except GanportError as error:
        reason = str(error).removeprefix(f"{path}: ").replace(str(path), "the file")
        checks.append(Check("structure", "runtime loads it", False, "refuses", "loads", "", reason))
        return _report(path, checks, against, contract)
    checks.append(Check("structure", "runtime loads it", True, "loads", "loads", "", type(generator).__name__))
    if drawn is None or drawn.graph_sha256 != artefact.graph_sha256:
        drawn = _draw(artefact, generator, reference)
    checks.append(check_batches(drawn.cases, drawn.failures))
    facts: dict[str, object] = {"provider": generator.provider, "sha256": generator.sha256}
    if drawn.differences is not None:
        checks += check_parity(drawn.differences, limits, image_limit)
        checks += [] if drawn.failures else check_styles(generator, drawn.differences.reference)
        facts["parity"] = drawn.differences.summary()
    checks += check_meaning(generator, drawn.statistics, tolerance)
    checks += check_golden_set(generator)
    return _report(path, checks, against, contract, facts)


def _draw(artefact: _Artefact, generator: Generator, reference: Reference | None) -> Drawn:
    contract = artefact.contract
    if reference is None:
        made = cases(contract.interface)
        statistics = Statistics(contract, made)
        return Drawn(artefact.graph_sha256, made, run_cases(generator, made, [statistics]), statistics)
    made, statistics, differences = reference.cases, Statistics(contract, reference.cases), Differences(reference)
    failures = run_cases(generator, made, [statistics, differences])
    return Drawn(artefact.graph_sha256, made, failures, statistics, differences)


def check_golden_set(generator: Generator) -> list[Check]:
    """Whether the file carries a golden set and draws it."""
    entries = generator.contract.golden
    present = Check("golden", "golden set", bool(entries), len(entries), ">= 1", "images")
    if not entries:
        return [present]
    limit = str(limits_for(generator.held_to))
    try:
        results = check_golden(generator)
    except GanportError as error:
        return [present, Check("golden", "golden images", False, "cannot be generated", limit, "", str(error))]
    worst = max(results, key=lambda result: (not result.ok, result.max_lsb))
    where = f"seed {worst.seed}" + ("" if worst.label is None else f" class {worst.label}")
    ok = all(result.ok for result in results)
    detail = where if worst.max_lsb or not ok else ""
    return [present, Check("golden", "golden images", ok, worst.max_lsb, limit, "LSB", detail)]


def _report(
    path: str | os.PathLike[str],
    checks: list[Check],
    against: str,
    about: Contract,
    facts: dict[str, object] | None = None,
) -> Report:
    return Report(Path(path).name, tuple(checks), against, facts or {}, about.assumptions, about.answers, about.doubts)


def tolerance_of(limits: Limits, value_range: tuple[float, float]) -> float:
    """How much of `image` may change with its neighbours: as parity, or what the PSNR limit means for one value."""
    scaled = scaled_limit(limits, value_range)
    if scaled is not None:
        return scaled
    least_db = 40.0 if limits.min_psnr_db is None else limits.min_psnr_db
    return float(10.0 ** (-least_db / 20.0)) * (value_range[1] - value_range[0])


def scaled_limit(limits: Limits, value_range: tuple[float, float]) -> float | None:
    """The limit on |Δ| is meant for values in [-1, 1]; another range has its share of it."""
    if limits.max_abs is None:
        return None
    return limits.max_abs * (value_range[1] - value_range[0]) / 2.0


def _open(path: str | os.PathLike[str], trust_script: bool = False) -> _Artefact:
    path = check_model_file(path)
    return _open_torchscript(path, trust_script) if is_archive(path) else _open_onnx(path)


def _open_onnx(path: Path) -> _Artefact:
    model, contract = read_onnx(path)
    tensors = model.graph.initializer
    return _Artefact(
        contract=contract,
        checks=tuple(check_onnx(path, model, contract)),
        tensor_sizes=tuple((tensor.name, math.prod(tensor.dims)) for tensor in tensors),
        weight_bytes=sum(tensor.ByteSize() for tensor in tensors),
        model=model,
        load=lambda: OnnxGenerator(path, "cpu", whole=True),
        graph_sha256=graph_sha256(path),
    )


def _open_torchscript(path: Path, trust_script: bool) -> _Artefact:
    generator = TorchScriptGenerator(path, "cpu", trust_script=trust_script)
    contract = generator.contract
    tensors = jit.constants(generator.module)
    return _Artefact(
        contract=contract,
        checks=tuple(check_torchscript(generator.module, contract)),
        tensor_sizes=tuple(("", tensor.numel()) for tensor in tensors),
        weight_bytes=sum(tensor.nbytes for tensor in tensors),
        load=lambda: generator,
        graph_sha256=generator.graph_sha256(),
    )
