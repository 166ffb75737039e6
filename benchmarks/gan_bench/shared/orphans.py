"""No process of a benchmark outlives the one that started it."""

from __future__ import annotations

import contextlib
import signal
import sys


def die_with_parent() -> None:
    """On Linux the kernel kills this process when its parent dies, even by SIGKILL (prctl PR_SET_PDEATHSIG).

    Elsewhere the end of its stdin or stdout does it, after what it is at.
    """
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
