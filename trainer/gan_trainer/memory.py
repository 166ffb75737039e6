"""Freed memory, kept for the next step instead of given back to the system."""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
TOP_PAD_BYTES = 64 << 20
NEVER_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Has glibc's malloc keep what is freed. Returns whether it does now.

    A training step frees and allocates the same few hundred megabytes of activations. glibc takes each large block
    fresh from the kernel and hands it back, so the kernel zeroes every page of them anew, step after step. The process
    keeps its highest use until it ends. What the user has set in a MALLOC_* variable stays; other systems and C
    libraries are left alone. Meant for a command, not for a library: the setting is the whole process's.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 (not there: another C library, whose numbers would mean something else)
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER_BYTES), (M_TOP_PAD, TOP_PAD_BYTES))
    return all(mallopt(option, value) == 1 for option, value in settings)
