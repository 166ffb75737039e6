"""Graph passes on `onnx_ir`: each does one thing, in place where it can, and says whether it changed the model.

The names of those that did are stamped into the artefact (`gan.passes`). Each has a test that shows it exact on random
shapes. Tensors are shared between a model and its clones, and with torch's module: no pass writes into one.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from gan_export.passes.folding import FoldConstants, FoldNorms
from gan_export.passes.graph import drop_unused
from gan_export.passes.tidy import CanonicalNames, StripTraces

Passes = Mapping[str, ir.passes.PassBase]

TIDY: Passes = {
    "drop_unused": drop_unused,
    "strip_traces": StripTraces(),
    "canonical_names": CanonicalNames(),
}
"""Change no number: the stock graph, readable and free of the machine it was made on."""

STOCK: Passes = {"fold_constants": FoldConstants(), **TIDY}
"""What the stock graph gets: no weights are left that it computes of others at every run."""

PASSES: Passes = {"fold_constants": FoldConstants(), "fold_norms": FoldNorms(), **TIDY}
"""What every optimised export gets first; what is a matter of the machine is chosen in `gan_export.onnx_export`."""


def run_passes(model: ir.Model, passes: Passes = PASSES) -> tuple[ir.Model, tuple[str, ...]]:
    """`model`, changed by every pass in turn, and the names of those that changed it."""
    applied = []
    for name, run in passes.items():
        result = run(model)
        model = result.model
        if result.modified:
            applied.append(name)
    return model, tuple(applied)
