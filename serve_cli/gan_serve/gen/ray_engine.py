"""A job's shards on all machines of a Ray cluster: Ray Data over a pool of actors, each with one session.

The actors make shards as a process of its own would (`jobs.Maker`), in the store that all machines see, so that the
bytes are the same; what comes back are their statistics. Ray starts an actor that died again, and its shards with it.
Actors that take every CPU would wait for ever for the tasks that feed them, so the pool leaves one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gan_core.errors import GanportError, JobError, MissingPackageError
from gan_core.process import usable_cores
from gan_serve.gen.jobs import Maker, Progress
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.providers import GPUS

Opener = Callable[..., Generator]
ANSWERS_WITHIN_S = 10.0
_STARTED = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}


class ShardActor:
    """Opens the generator with `opener`, and makes the shards that it is given the numbers of."""

    def __init__(self, maker: Maker, opener: Opener) -> None:
        self.maker, self.failed = maker, ""
        try:
            self.generator = opener(threads=1)
            about = maker.job.about
            if (self.generator.sha256, self.generator.provider) != (about["model_sha256"], about["provider"]):
                self.failed = f"has another model file, or runs it on {self.generator.provider}"
        except GanportError as error:
            self.failed = f"cannot open the model: {error}"

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """{"n": images made, "error": "" or why there are none, "hint": …} for each number in {"shard": …}."""
        rows = [self._make(int(shard)) for shard in batch["shard"]]
        return {key: np.asarray([row[key] for row in rows]) for key in rows[0]}

    def _make(self, shard: int) -> dict[str, Any]:
        if self.failed:
            hint = "put the model where every machine has it under the same path"
            return {"shard": shard, "n": 0, "error": f"machine {platform.node()} {self.failed}", "hint": hint}
        try:
            row = self.maker.make(self.generator, shard, lambda _: None)()
        except GanportError as error:
            return {"shard": shard, "n": 0, "error": str(error), "hint": error.hint}
        return {"shard": shard, "n": row["n"], "error": "", "hint": ""}


def run(
    maker: Maker, missing: list[int], opener: Opener, workers: int | None, address: str | None, progress: Progress
) -> None:
    """Makes the missing shards. Raises `GanportError` for a cluster that is too small or not there, `JobError` for a
    shard that could not be made."""
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingPackageError(error.name or "ray", "ray", "--engine ray") from error
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ parts print advice to developers
    address = address or os.environ.get("RAY_ADDRESS")
    check_answers(address)
    cores = workers or usable_cores()
    started = not ray.is_initialized()
    if started:
        try:
            with _starting():
                ray.init(**_STARTED, **({"address": address} if address else {"num_cpus": cores + 1}))
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(address or "this machine", error) from error
    try:
        on_gpu = maker.job.about["provider"] in GPUS
        size = pool_size(ray.cluster_resources(), on_gpu, workers, len(missing))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = ray.data.from_items([{"shard": shard} for shard in missing], override_num_blocks=len(missing))
        made = rows.map_batches(
            ShardActor,
            fn_constructor_args=(maker, opener),
            batch_size=1,
            concurrency=size,
            num_cpus=1,
            num_gpus=1 if on_gpu else None,
        )
        for row in made.iter_rows():
            if row["error"]:
                raise JobError(f"{maker.job.name(int(row['shard']))}: {row['error']}", hint=str(row["hint"]))
            progress(int(row["n"]))
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[-200:]
        raise JobError(f"Ray: {reason}", hint="run the same command again: it makes what is missing") from error
    finally:
        if started:
            with contextlib.suppress(Exception):
                ray.shutdown()


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Within, Ray starts. It takes SIGTERM for itself, in Python and below, and its C++ parts write to stderr what its
    exceptions say, too; then all is as before."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def check_answers(address: str | None) -> None:
    """Raises `GanportError` where nothing, or something else, answers at HOST:PORT: Ray tries for minutes, and ends the
    process. Its servers speak gRPC, so they answer an empty HTTP/2 SETTINGS frame with one (RFC 9113, 3.4)."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            with socket.create_connection((host, int(port)), ANSWERS_WITHIN_S) as connection:
                if os.environ.get("RAY_USE_TLS", "0") == "0":
                    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
                    if connection.recv(4)[3:] != b"\x04":
                        raise ConnectionError("another kind of server does")
        except (OSError, OverflowError) as error:
            raise _no_cluster(str(address), error) from error


def _no_cluster(address: str, error: Exception) -> GanportError:
    return GanportError(
        f"no Ray cluster answers at {address}: {' '.join(str(error).split())[:200]}",
        hint="ray start --head prints the address; RAY_AUTH_MODE=token where the cluster asks for a token",
    )


def pool_size(resources: dict[str, float], on_gpu: bool, workers: int | None, shards: int) -> int:
    """How many actors there are. Raises `GanportError` for more than the cluster can start beside what feeds them."""
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    most = min(cpus - 1, gpus) if on_gpu else cpus - 1
    what = "GPUs, and one CPU more" if on_gpu else "CPUs, and one more"
    if most < (workers or 1):
        raise GanportError(
            f"{workers or 1} Ray actors need as many {what}; the cluster has {cpus} CPUs and {gpus} GPUs",
            hint=f"`workers={most}`" if most > 0 else "add a machine, or leave `engine` out",
        )
    return min(workers or most, shards)
