"""ganport's exporter: a generator checkpoint becomes one proved, self-describing file.

    found = gan_export.inspect("netG.pth")             # what is it, and on what evidence?
    made = gan_export.export("netG.pth", "g.onnx")     # the file, proved to generate the same images as PyTorch

Importing this imports neither torch nor onnx; what `__all__` has is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_export.front import Exported, Inspection, Said, UndecidedError, export, inspect

__all__ = ["Exported", "Inspection", "Said", "UndecidedError", "export", "inspect"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from gan_export import front

        return getattr(front, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
