"""Which ONNX opsets are offered. No torch here: the command line needs it for its help."""

from __future__ import annotations

from gan_core.errors import GanportError

MIN_OPSET, MAX_OPSET = 18, 23
DEFAULT_OPSET = 18
"""The exporter writes 18 without converting; every onnxruntime since 1.14, and onnxruntime-web, runs it."""


def check_opset(opset: int) -> None:
    """Raises `GanportError` for an opset that is not offered."""
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise GanportError(
            f"opset must be {MIN_OPSET} to {MAX_OPSET}, got {opset}",
            hint=f"leave it out for {DEFAULT_OPSET}, which every current runtime reads",
        )
