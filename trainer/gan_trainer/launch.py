"""How torchrun starts a process, and how the processes of a job end: with one message, not one each.

No torch on import, so that `gan-train --help` needs none.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from gan_core.errors import GanportError
from gan_serve.terminal import console

if TYPE_CHECKING:
    import typer
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = timedelta(seconds=5)
"""How long to wait for the one that speaks."""


@dataclass(frozen=True)
class Launch:
    """A process of a job: its number, how many there are, its number on its host, and where they meet."""

    rank: int
    world: int
    local_rank: int
    address: str
    port: int
    restarts: int = 0
    agent: bool = False
    """Whether torchrun keeps the meeting place; otherwise process 0 does."""


def launched() -> bool:
    """Whether a launcher started this process as one of a job."""
    return "RANK" in os.environ or "WORLD_SIZE" in os.environ


def read_launch() -> Launch | None:
    """The job from the environment, None without one. Raises `GanportError` when it is incomplete or wrong."""
    if not launched():
        return None
    hint = "start it with torchrun, which sets them all, or unset RANK and WORLD_SIZE to train in one process"
    missing = [name for name in NAMES if not os.environ.get(name)]
    if missing:
        raise GanportError(f"expected the environment of torchrun: {', '.join(NAMES)}; {missing[0]} is not set", hint)
    numbers = {}
    for name in (*NAMES[:3], NAMES[4], "TORCHELASTIC_RESTART_COUNT"):
        text = os.environ.get(name, "0")
        if not text.isdecimal():
            raise GanportError(f"{name} must be a whole number from 0, got {text!r}", hint)
        numbers[name] = int(text)
    rank, world, local_rank, port, restarts = numbers.values()
    if not rank < world:
        raise GanportError(f"RANK must lie below WORLD_SIZE, got {rank} and {world}", hint)
    if not local_rank <= rank:
        raise GanportError(f"LOCAL_RANK cannot exceed RANK, got {local_rank} and {rank}", hint)
    if not 0 < port < 1 << 16:
        raise GanportError(f"MASTER_PORT must be a port from 1 to 65535, got {port}", hint)
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Launch(rank, world, local_rank, os.environ["MASTER_ADDR"], port, restarts, agent)


def open_store(launch: Launch, timeout: timedelta, *, host: bool) -> TCPStore:
    """The job's meeting place, made anew (`host`) or visited. Raises RuntimeError when nobody is there."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    return TCPStore(launch.address, launch.port, is_master=host, timeout=timeout, wait_for_workers=False)


def run_job(app: typer.Typer, name: str) -> NoReturn:
    """`console.run` for one process of a job: process 0 speaks, but an error is told by the first that meets one.

    The process ends at once. One that fails leaves torch's process group as it is: taking it down may wait for others
    that are gone. And gloo's threads may still hold Python objects: letting go of them aborts a process whose
    interpreter is being taken down. SIGTERM, which torchrun sends to the others, ends a process as it is, too.
    """
    out, err = sys.stdout, sys.stderr
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123

    def report(message: str, hint: str) -> None:
        sys.stderr = err
        tell(message, hint)

    try:
        console.run(app, name, report=report, takes_signals=False)
    except SystemExit as done:
        sys.stdout, sys.stderr = out, err
        console.leave(done)
    except BaseException:
        sys.stderr = err
        raise


def tell(message: str, hint: str) -> None:
    """Prints the error unless another process of the job has. Torchrun ends the others as soon as one has ended, so
    that all wait until it is told.
    """
    try:
        launch = read_launch()
        assert launch is not None
        socket.create_connection((launch.address, launch.port), PATIENCE.total_seconds()).close()
        store, key = open_store(launch, PATIENCE, host=False), f"ganport/{launch.restarts}"
        first = store.add(f"{key}/failed", 1) == 1
        if not first:
            store.wait([f"{key}/told"], PATIENCE)
            return
    except (ImportError, GanportError, RuntimeError, OSError):  # no job, or nobody to ask: better told twice than never
        first = False
    console.fail(message, hint)
    if first:
        with contextlib.suppress(RuntimeError):
            store.set(f"{key}/told", "")
