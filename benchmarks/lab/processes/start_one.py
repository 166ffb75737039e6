"""One command, started from a bare interpreter, and what it took as JSON on stdout; its own output goes to stderr.

A child's peak of memory begins with what its parent held when it started it (getrusage(2)), and a benchmark holds more
than gan-gen. Started from here, with `python -I -S`, it begins with some ten MiB, less than any command measured.

    {"exit_code": 0, "wall_s": 0.21, "ru_maxrss": 115712}    ru_maxrss as the system counts it, null where it does not
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    started = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
    try:
        exit_code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    wall_s = time.perf_counter() - started
    try:
        import resource
    except ImportError:  # Windows
        peak = None
    else:
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    json.dump({"exit_code": exit_code, "wall_s": wall_s, "ru_maxrss": peak}, sys.stdout)


main()
