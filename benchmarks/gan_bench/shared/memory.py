"""How much memory a process has needed at most."""

from __future__ import annotations

import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_rss_bytes() -> int | None:
    """The most resident memory this process has held, in bytes; None where the system does not say.

    On Linux VmHWM, which starts anew with the program; getrusage's ru_maxrss keeps what the parent held before exec.
    """
    try:
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return maxrss_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def maxrss_bytes(ru_maxrss: int) -> int:
    """getrusage's ru_maxrss in bytes: macOS counts bytes, the other systems KiB."""
    return ru_maxrss if sys.platform == "darwin" else ru_maxrss * 1024
