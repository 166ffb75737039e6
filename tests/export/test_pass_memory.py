"""A large generator passes through every pass in memory of at most three times its weights."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

CHANNELS = 560
"""Some 62 MB of weights."""
BODY = """
    g = Gemm (z, gemm_w)
    gn = BatchNormalization (g, wide, wide, wide, wide)
    r = Reshape (gn, shape)
    t = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1]> (r, transposed_w)
    tn = BatchNormalization (t, narrow, narrow, narrow, narrow)
    tr = Relu (tn)
    up = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
        (tr, , scales)
    c = Conv <pads = [1, 1, 1, 1]> (up, conv_w)
    cn = BatchNormalization (c, narrow, narrow, narrow, narrow)
    scaled_w = Mul (raw_w, half)
    s = Conv <strides = [2, 2]> (cn, scaled_w)
    image = Tanh (s)
"""


def generator(n: int) -> tuple[ir.Model, int]:
    """Folded constants and norms, a Gemm, transposed convolutions, merged upsampling; and the bytes of its weights."""
    from export.small_graphs import graph

    random = np.random.default_rng(0)
    arrays = {
        "gemm_w": random.standard_normal((n, 16 * n), np.float32),
        "transposed_w": random.standard_normal((n, n, 4, 4), np.float32),
        "conv_w": random.standard_normal((n, n, 3, 3), np.float32),
        "raw_w": random.standard_normal((n // 2, n, 4, 4), np.float32),
        "wide": np.ones(16 * n, np.float32),
        "narrow": np.ones(n, np.float32),
    }
    small: dict[str, Any] = {
        "shape": np.array([-1, n, 4, 4]),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "half": np.float32(0.5),
    }
    stubs: dict[str, Any] = {name: np.zeros([1] * array.ndim, np.float32) for name, array in arrays.items()}
    model = graph(f"float[batch, {n}] z => float[batch, {n // 2}, 7, 7] image", BODY, **small, **stubs)
    for name, array in arrays.items():
        value = model.graph.initializers[name]
        value.const_value, value.shape = ir.tensor(array), ir.Shape(array.shape)
    return model, sum(array.nbytes for array in arrays.values())


def status(key: str) -> int:
    """Bytes of this process, by /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{key}:"))


def lowered(model: ir.Model, width: int, precision: str) -> tuple[str, ...]:
    """The passes that change `model` on its way to `precision`."""
    from gan_export.onnx_export import optimise
    from gan_export.passes import run_passes
    from gan_export.precision import measure_ranges
    from gan_export.precision.float16 import to_float16
    from gan_export.proof.cases import Case

    z = np.random.default_rng(0).standard_normal((4, width), np.float32)
    model, first = run_passes(model)
    model, second = optimise(model, "auto", precision)
    if precision == "fp16":
        model, _ = to_float16(model, measure_ranges(model, [Case("ordinary", z, None, ())]))
    return *first, *second


def measure() -> None:
    """For each precision, prints how many times its weights the passes need at their peak, the weights among it."""
    for precision in ("fp32", "fp16"):
        lowered(generator(8)[0], 8, precision)  # loads what they need
        gc.collect()
        before = status("VmRSS")
        model, weights = generator(CHANNELS)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc(5))
        passes = lowered(model, CHANNELS, precision)
        print(json.dumps({"times": (status("VmHWM") - before) / weights, "passes": passes}))
        del model


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's /proc")
def test_passes_need_three_times_the_weights() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    made = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=True)
    single, half = map(json.loads, made.stdout.splitlines()[-2:])
    assert {"fold_constants", "fold_norms", "merge_upsampling", "transposed_phases"} <= set(single["passes"])
    assert 1 < single["times"] <= 3
    assert 1 < half["times"] <= 3


if __name__ == "__main__":
    measure()
