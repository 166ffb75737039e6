"""ganport's runtime: a proved generator file becomes images. Never torch, never onnx.

import gan_serve
generator = gan_serve.load("g.onnx")                # load() alone: the generator that comes with ganport
pixels_NHWC = generator.generate(seeds=range(25))   # uint8 (25, H, W, C)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gan_core import __version__

if TYPE_CHECKING:
    from gan_serve.runtime.generator import Generator
    from gan_serve.runtime.runtimes import load

__all__ = ["Generator", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `Generator`, imported when they are asked for: the commands' --help needs no NumPy."""
    if name == "load":
        from gan_serve.runtime.runtimes import load

        return load
    if name == "Generator":
        from gan_serve.runtime.generator import Generator

        return Generator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
