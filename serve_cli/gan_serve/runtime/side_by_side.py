"""Two ways for a CPU's threads to share a batch, each with an onnxruntime session of its own, opened when first needed.

    together      every operator is cut into pieces, one a thread: a single image is soonest done so
    side by side  every thread computes images of its own, alone: nobody waits for anybody at the end of each operator,
                  and each core's caches hold one small batch

Convolutions work best side by side from two images on (1.2 times the images/s of together on two cores, for a DCGAN of
64 pixels). Networks of nothing but matrix products always work together: side by side each thread would read all the
weights for its few images.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from gan_core.files import metadata

Run = Callable[[Any, Sequence[str], Mapping[str, Any]], list[Any]]

_CONVOLUTIONS = {"conv", "conv_transpose", "upsample", "pixel_shuffle"}


class SideBySide:
    """The sessions of one model on `threads` threads of a CPU.

    first    the session that is open, one thread's own when `single`
    another  opens the other kind: (single) → session, or None where the model's file is no longer what it was. Then the
             first does everything.
    """

    def __init__(self, first: Any, single: bool, another: Callable[[bool], Any], threads: int) -> None:
        self.threads = threads
        self._sessions = {single: first}
        self._another = another
        self._opening = threading.Lock()
        self._pool = ThreadPoolExecutor(threads)  # its threads begin when first needed and end with it

    def session(self, single: bool) -> Any:
        """The session for one thread of several, or for all threads together."""
        if single not in self._sessions:
            with self._opening:
                if single not in self._sessions:
                    opened = self._another(single)
                    self._sessions[single] = self._sessions[not single] if opened is None else opened
        return self._sessions[single]

    def run(self, run: Run, outputs: Sequence[str], feeds: Mapping[str, Any], most: int) -> list[Any]:
        """`outputs` for the batch in `feeds`, in parts of at most `most` images; a single image by all threads."""
        n = len(next(iter(feeds.values())))
        if n < 2:
            return run(self.session(single=False), outputs, feeds)
        session, size = self.session(single=True), share(n, self.threads, most)
        parts = [{name: fed[i : i + size] for name, fed in feeds.items()} for i in range(0, n, size)]
        results = self._pool.map(lambda part: run(session, outputs, part), parts)
        return [np.concatenate(pieces) for pieces in zip(*results, strict=True)]


def share(n: int, threads: int, most: int) -> int:
    """Images per part, so that `threads` are done with `n` at about the same time and no part has over `most`."""
    rounds = -(-n // (threads * most))
    return -(-n // (rounds * threads))


def suits(model: str | bytes) -> bool:
    """Whether a model file's images are best computed side by side: unless its spec says that it has no convolution."""
    spec = metadata.peek(model, "gan.spec")
    layers = spec.get("layers") if isinstance(spec, dict) else None
    if not isinstance(layers, list):
        return True
    return any(isinstance(layer, dict) and str(layer.get("kind")) in _CONVOLUTIONS for layer in layers)
