"""Graph passes: functions `onnx.ModelProto` → `onnx.ModelProto` that leave what they are given untouched.

Each does one thing and has a test that shows it exact on random shapes. The names of those that changed the graph are
stamped into the artefact (`gan.passes`).
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from gan_export.passes.fold_constants import fold_constants
from gan_export.passes.fold_norms import fold_norms
from gan_export.passes.tidy import canonical_names, drop_unused, strip_traces

Pass = Callable[[onnx.ModelProto], onnx.ModelProto]

TIDY: dict[str, Pass] = {
    "drop_unused": drop_unused,
    "strip_traces": strip_traces,
    "canonical_names": canonical_names,
}
"""Change no number: the stock graph, readable and free of the machine it was made on."""

STOCK: dict[str, Pass] = {"fold_constants": fold_constants} | TIDY
"""What the stock graph gets: no weights are left that it computes of others at every run."""

PASSES: dict[str, Pass] = {"fold_constants": fold_constants, "fold_norms": fold_norms} | TIDY
"""What every optimised export gets first; what is a matter of the machine is chosen in `gan_export.optimise`."""


def run_passes(model: onnx.ModelProto, passes: dict[str, Pass] = PASSES) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """`model` after every pass in turn, and the names of those that changed it."""
    applied = []
    for name, apply in passes.items():
        changed = apply(model)
        if changed.SerializeToString(deterministic=True) != model.SerializeToString(deterministic=True):
            applied.append(name)
        model = changed
    return model, tuple(applied)
