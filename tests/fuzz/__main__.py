"""`python -m fuzz [NAME …] --seconds S`: each target in a process of its own, fed with mutations of real files.

With atheris the mutations follow the code that they reach; without it they are drawn at random. What ends wrongly is
kept in `tests/fuzz/found`; once it is repaired, the file belongs into `tests/fuzz/corpus/NAME`. `--replay` runs what
the test suite runs: the real files, the corpus and a few hundred mutations, always the same.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from fuzz import runner


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Feed the readers of files with broken ones.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(runner.TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--replay", action="store_true", help="only what the tests run")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    names = asked.names or list(runner.TARGETS)
    if unknown := [name for name in names if name not in runner.TARGETS]:
        parser.error(f"no target is called {unknown[0]}")
    if asked.here:
        return runner.replay(names[0], alone=True) if asked.replay else runner.fuzz(names[0], asked.seconds)
    how = ["--replay"] if asked.replay else ["--seconds", str(asked.seconds)]
    codes = {name: subprocess.run([sys.executable, "-m", "fuzz", "--here", name, *how]).returncode for name in names}
    for name, code in codes.items():
        print(f"{name}: {'ok' if code == 0 else f'FAILED ({code})'}")
    return max(map(abs, codes.values()))


if __name__ == "__main__":
    sys.exit(main())
