"""From a `Source` to a proved file: write to a temporary, prove that file, rename it into place."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir

from gan_core.errors import GanportError
from gan_core.files.atomic import atomic_path
from gan_core.limits import limits_for
from gan_core.process import kept
from gan_export.answers import OnnxOptions
from gan_export.artefact import contract_of, stamp, to_bytes
from gan_export.onnx_export import make_onnx
from gan_export.proof import Report
from gan_export.proof.prove import draw, prove, tolerance_of
from gan_export.proof.reference import Reference, check_reference, make_golden
from gan_export.source import Source
from gan_export.torchscript_export import to_archive, to_torchscript

log = logging.getLogger(__name__)


class _ProofFailedError(Exception):
    """Carries the report of a failed proof out of the block that would have renamed the file."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.verdict())
        self.report = report


def export_onnx(source: Source, target: str | os.PathLike[str], options: OnnxOptions = OnnxOptions()) -> Report:
    """Exports `source` to an ONNX file at `target` and proves it. The file is there if and only if `report.ok`.

    A failed proof leaves what was at `target` before, or nothing. Raises `GanportError` for a target that cannot be
    written, `JobError` when torch cannot export the module, or when it cannot be quantised.
    """

    def make(reference: Reference) -> Callable[[dict[str, Any]], bytes]:
        made = make_onnx(reference, options)
        base = contract_of(
            source,
            golden=make_golden(reference),
            passes=made.passes,
            exporter={"format": "onnx", "onnx": importlib.metadata.version("onnx"), "opset": options.opset},
            precision=options.precision,
            store=options.store,
            kept_fp32=made.kept,
        )
        return lambda parity: to_bytes(stamp(ir.to_proto(made.model), dataclasses.replace(base, parity=parity)))

    return export_file(source, Path(target), make)


def export_torchscript(source: Source, target: str | os.PathLike[str]) -> Report:
    """As `export_onnx`, to a TorchScript file. Raises `GanportError` for a generator with optional inputs, too."""
    if source.interface.options:
        raise GanportError(
            f"a TorchScript file has no optional inputs, this generator takes {', '.join(source.interface.options)}",
            hint="export it to ONNX: `target` g.onnx",
        )

    def make(reference: Reference) -> Callable[[dict[str, Any]], bytes]:
        module, passes = to_torchscript(source)
        base = contract_of(
            source,
            golden=make_golden(reference),
            passes=passes,
            exporter={"format": "torchscript"},
        )
        return lambda parity: to_archive(module, dataclasses.replace(base, parity=parity))

    return export_file(source, Path(target), make)


def export_file(source: Source, target: Path, make: Callable[[Reference], Callable[[dict[str, Any]], bytes]]) -> Report:
    """`make` exports, given the reference, and returns the file's bytes as a function of the parity summary.

    The summary has to be in the file that is proved, so the images are drawn by a first file, of the same graph; that
    the graph is the same, the proof looks at, and draws again what it needs to.
    """
    reference = Reference(source)
    tolerance = tolerance_of(
        limits_for("fp32"), source.interface.value_range
    )  # PyTorch's own, whatever the file's precision
    faults = Report(target.name, tuple(check_reference(reference, tolerance)), source.drawn_by)
    if not faults.ok:
        return faults
    try:
        with atomic_path(target) as temporary, kept():
            log.debug("converting the network")
            to_file = make(reference)
            log.debug("proof: generating the same images with PyTorch and with the file")
            temporary.write_bytes(to_file({}))
            drawn = draw(temporary, reference)
            assert drawn.differences is not None
            temporary.write_bytes(to_file(drawn.differences.summary()))
            log.debug("proof: checking the file")
            report = prove(temporary, source, reference=reference, drawn=drawn).named(target.name)
            if not report.ok:
                raise _ProofFailedError(report)
            return report
    except _ProofFailedError as failed:
        return failed.report
