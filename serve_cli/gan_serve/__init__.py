"""ganport's runtime: a proved generator file becomes images. Never torch, never onnx.

>>> import gan_serve
>>> generator = gan_serve.load()                     # the generator that comes with ganport; or load("g.onnx")
>>> generator.generate(25).shape                     # the images of seeds 0 … 24: uint8 (25, H, W, C)
(25, 32, 32, 1)
>>> generator.grid(9, labels="sneaker").size         # a Pillow image; .save("sneakers.png")
(584, 584)
>>> gan_serve.write_animation("walk.webp", generator.walk(3, frames=12))

`load`, `Generator`, `write_animation` and `to_pil` are all; docs/python.md has them with their neighbours.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gan_core import __version__

if TYPE_CHECKING:
    from gan_core.images import to_pil
    from gan_serve.runtime.animation import write_animation
    from gan_serve.runtime.generator import Generator
    from gan_serve.runtime.runtimes import load

__all__ = ["Generator", "__version__", "load", "to_pil", "write_animation"]

_HOMES = {
    "Generator": "gan_serve.runtime.generator",
    "load": "gan_serve.runtime.runtimes",
    "to_pil": "gan_core.images",
    "write_animation": "gan_serve.runtime.animation",
}


def __getattr__(name: str) -> Any:
    """What `__all__` has, imported when it is asked for: the commands' --help needs no NumPy."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
