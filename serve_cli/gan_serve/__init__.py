"""ganport's runtime: a proved generator file becomes images. Never torch, never onnx.

import gan_serve
generator = gan_serve.load("g.onnx")                # load() alone: the generator that comes with ganport
pixels_NHWC = generator.generate(seeds=range(25))   # uint8 (25, H, W, C)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from gan_core import __version__

if TYPE_CHECKING:
    from gan_serve.runtime.generator import Generator

__all__ = ["Generator", "__version__", "load"]


def load(
    path: str | os.PathLike[str] | None = None,
    provider: str = "auto",
    threads: int | None = None,
    *,
    tf32: bool = False,
    trust_script: bool = False,
) -> Generator:
    """Loads a generator file to run on `provider` ("auto": the best installed) with `threads` (None: every core).

    path  None: the generator that comes with ganport, Fashion-MNIST garments at 32x32 in ten classes (docs/models.md).
    tf32  whether an NVIDIA GPU may round the factors of fp32 products to 10 bits: faster, and outside parity.

    trust_script  whether a .ts file, which is a program, is run whatever it does. Else it is looked at before it is
          loaded, and refused where it may do more than compute (SECURITY.md).

    What a file without metadata does not say is assumed, and a provider that does not start passed over by "auto", with
    a warning in the log (`logging`, below "gan_serve"; a notebook shows it). What was turned off and costs only speed
    is there at level INFO. Raises `gan_core.errors.GanportError` for a file that is missing or no generator, or a
    provider that does not run.
    """
    from gan_serve.runtime import runtimes
    from gan_serve.runtime.default_model import default_model

    file = default_model() if path is None else path
    return runtimes.load(file, provider, threads, tf32=tf32, trust_script=trust_script)


def __getattr__(name: str) -> Any:
    # Lazy, so that `gan_core.errors` can be imported without numpy.
    if name == "Generator":
        from gan_serve.runtime.generator import Generator

        return Generator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
