"""How an ONNX file is made: its opset, its form, its precision. No torch here: the command's help needs it."""

from __future__ import annotations

from dataclasses import dataclass

from gan_core.errors import GanportError

MIN_OPSET, MAX_OPSET = 18, 23
DEFAULT_OPSET = 18
"""The exporter writes 18 without converting; every onnxruntime since 1.14, and onnxruntime-web, runs it."""

MODES = ("auto", "tune", "none")
PRECISIONS = ("fp32", "fp16", "int8")
STORES = ("fp32", "fp16")


@dataclass(frozen=True)
class OnnxOptions:
    """Checked when made: raises `GanportError` for a value or a combination that is not offered.

    optimize   "auto" and "tune" rewrite the graph (`gan_export.onnx_export`), "none" keeps the exporter's
    precision  "fp32", "fp16" or "int8": where the graph computes
    store      "fp32", or "fp16": what computes in float32 has its weights saved as float16
    """

    opset: int = DEFAULT_OPSET
    optimize: str = "auto"
    precision: str = "fp32"
    store: str = "fp32"

    def __post_init__(self) -> None:
        if not MIN_OPSET <= self.opset <= MAX_OPSET:
            raise GanportError(
                f"`opset` must be {MIN_OPSET} to {MAX_OPSET}, got {self.opset}",
                hint=f"leave it out for {DEFAULT_OPSET}, which every current runtime reads",
            )
        for name, values in (("optimize", MODES), ("precision", PRECISIONS), ("store", STORES)):
            given = getattr(self, name)
            if given not in values:
                raise GanportError(f"`{name}` must be one of {', '.join(values)}, got {given!r}", hint=_hint(given))
        if self.precision == "int8" and self.optimize != "auto":
            raise GanportError(
                f'`optimize="{self.optimize}"` has no place beside `precision="int8"`, which needs a form of its own',
                hint="leave out `optimize`",
            )

    @property
    def tag(self) -> str:
        """What a file of these options has in its name by default: ".int8", ".w16" …, nothing for fp32."""
        return (f".{self.precision}" if self.precision != "fp32" else "") + (".w16" if self.store == "fp16" else "")


def _hint(given: str) -> str:
    for name, values in (("precision", PRECISIONS), ("optimize", MODES)):
        for value in values:
            if given.lower().replace("float", "fp").replace("-", "").replace("uint8", "int8") == value:
                return f'`{name}="{value}"`'
    return "docs/precision.md says what each is for"
