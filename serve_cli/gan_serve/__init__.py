"""ganport's runtime: a proved generator file becomes images. Never torch, never onnx.

import gan_serve
generator = gan_serve.load("g.onnx")
pixels_NHWC = generator.generate(seeds=range(25))   # uint8 (25, H, W, C)
"""

from __future__ import annotations

import os

from gan_serve.generator import Generator

__version__ = "0.1.0"
__all__ = ["Generator", "__version__", "load"]


def load(path: str | os.PathLike[str], provider: str = "auto", threads: int | None = None) -> Generator:
    """Loads a generator file to run on `provider` ("auto": the best installed) with `threads` (None: the runtime chooses)."""
    from gan_serve.onnx_generator import OnnxGenerator

    return OnnxGenerator(path, provider, threads)
