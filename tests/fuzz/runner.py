"""What every fuzz target shares. A module of `TARGETS` has a `TARGET`: a reader, real files, and how they are mutated.

A reader may refuse a file, by raising `GanportError` with a hint. Anything else that it raises, more than a gibibyte
of memory, and more than ten seconds are faults.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FOUND = HERE / "found"
TARGETS = ("contract", "reader")
"""Names of the modules beside this one that have a `TARGET`."""

MAX_BYTES = 1 << 30
"""The most memory that reading may add to a process."""
MAX_SECONDS = 10
MUTATIONS = 100
"""How many of them the tests run."""

Mutate = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """
    read    takes a file's bytes, as the reader under test; what it raises but `GanportError` is a fault
    seeds   makes real files: small, and of every structure that the reader knows
    mutate  (a file, random numbers) → a file that is a little different, mostly still of its structure
    """

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    mutate: Mutate


def replay(name: str, *, alone: bool = False) -> int:
    """The real files, the kept corpus, and `MUTATIONS` mutations that are always the same. 0, or 1 after a fault.

    alone  whether the process does nothing else, so that its memory may be limited
    """
    target = load(name)
    seeds = target.seeds()
    if alone:
        _limit_memory(target, seeds)
    draw = random.Random(0)
    mutated = (_several(target, draw.choice(seeds), draw) for _ in range(MUTATIONS))
    return 0 if all(_holds(target, name, data) for data in (*seeds, *kept(name), *mutated)) else 1


def fuzz(name: str, seconds: int) -> int:
    """Mutations for `seconds`, by atheris where it is installed. 0, or what is left after a fault."""
    try:
        import atheris
    except ImportError:
        print(f"{name}: atheris is not installed, mutations are drawn at random", file=sys.stderr)
        return _at_random(name, seconds)
    with atheris.instrument_imports(include=["gan_serve", "gan_export"]):
        target = load(name)

    def one(data: bytes) -> None:
        with _refusals(), _stopwatch():
            target.read(data)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)
        if draw.random() < 0.2:
            return bytes(atheris.Mutate(data, most))
        return target.mutate(bytes(data), draw)[:most]

    corpus = Path(tempfile.mkdtemp(prefix="ganport-fuzz-"))
    files = [*target.seeds(), *kept(name)]
    for data in files:
        (corpus / hashlib.sha256(data).hexdigest()).write_bytes(data)
    FOUND.mkdir(exist_ok=True)
    options = {
        "max_total_time": seconds,
        "timeout": MAX_SECONDS,
        "rss_limit_mb": (_pages(1) + MAX_BYTES) >> 20,
        "max_len": 4 * max(map(len, files)),
        "artifact_prefix": f"{FOUND}/{name}-",
        "print_final_stats": 1,
    }
    settings = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup([sys.argv[0], str(corpus), *settings], one, custom_mutator=mutate)
    atheris.Fuzz()  # does not come back
    return 0


def kept(name: str) -> list[bytes]:
    """The corpus of a target: files that were found to end wrongly once."""
    return [path.read_bytes() for path in sorted((HERE / "corpus" / name).glob("*"))]


def load(name: str) -> Target:
    """The target of a name in `TARGETS`."""
    target: Target = importlib.import_module(f"fuzz.{name}").TARGET
    return target


def _at_random(name: str, seconds: int) -> int:
    target = load(name)
    files = [*target.seeds(), *kept(name)]
    _limit_memory(target, target.seeds())
    draw = random.Random()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not _holds(target, name, _several(target, draw.choice(files), draw)):
            return 1
    return 0


def _several(target: Target, data: bytes, draw: random.Random) -> bytes:
    for _ in range(draw.choice((1, 1, 2, 4))):
        data = target.mutate(data, draw)
    return data


def _holds(target: Target, name: str, data: bytes) -> bool:
    """Reads one file, which is kept in `FOUND` while it is read: for good, where that kills the process."""
    FOUND.mkdir(exist_ok=True)
    path = FOUND / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    try:
        with _deadline(), _refusals(), _stopwatch():
            target.read(data)
    except BaseException:
        traceback.print_exc()
        print(f"{name}: the file is kept as {path}", file=sys.stderr)
        return False
    path.unlink()
    return True


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
    """Ends the process after some CPU time in it, where Python cannot: inside of one call of C."""
    if sys.platform == "win32":
        yield
        return
    signal.setitimer(signal.ITIMER_VIRTUAL, 2 * MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    from gan_core.errors import GanportError

    try:
        yield
    except GanportError as refused:
        text = str(refused)
        if not refused.hint or len(text) > 1000 or text.startswith("unexpected"):
            raise AssertionError(f"no proper refusal: {text[:1000]!r}, hint {refused.hint!r}") from refused


@contextlib.contextmanager
def _stopwatch() -> Iterator[None]:
    before = time.process_time()
    yield
    took = time.process_time() - before
    assert took <= MAX_SECONDS, f"it took {took:.1f} s"


def _limit_memory(target: Target, seeds: list[bytes]) -> None:
    """Lets this process grow by `MAX_BYTES` and no more, once it has imported what it needs; only on Linux."""
    for data in seeds:
        target.read(data)
    if sys.platform == "linux":
        import resource

        most = _pages(0) + MAX_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _pages(column: int) -> int:
    """Of this process, in bytes: all that it has mapped (0), what is in memory (1)."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")
