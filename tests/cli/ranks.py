"""Runs gan-train as the processes of several jobs, one job after the other; run by the tests as a process of its own.

    python -m cli.ranks < jobs.json

What it needs is imported once; every process is a fork with the environment that torchrun would give it, and this
process keeps their meeting place, as torchrun's agent does. A job:

    {"args": […], "world": 2, "signal": [number, rank, "file"], "cwd": ["a", "b"], "env": {…}, "pictures": true}

Without "pictures" only samples are drawn: the others take longer than these trainings. world 0 is gan-train without a
launcher. The signal goes to that rank once the file exists. Prints a JSON list, a row of it a job: [[exit code, stdout,
stderr], …] of its processes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from cli.forked import make_ready
from gan_trainer import cli
from gan_trainer.pictures import Gallery


def run(job: dict[str, Any], folder: Path) -> list[tuple[int, str, str]]:
    world = job["world"]
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if world else None
    children = []
    for rank in range(max(1, world)):
        environment = dict(job.get("env", {}))
        if store is not None:
            environment = {
                "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True", **environment,
            }  # fmt: skip
        child = os.fork()
        if child == 0:
            for number in (1, 2):
                os.dup2(os.open(folder / f"{rank}.{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.environ.update(environment)
            if "pictures" not in job:
                setattr(Gallery, "redraw", lambda _: None)  # noqa: B010
            if "cwd" in job:
                os.chdir(job["cwd"][rank])
            sys.argv = [cli.NAME, *job["args"]]
            try:
                cli.main()
            except SystemExit as done:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(int(done.code or 0))  # leaving the parent's temporary folder alone
        children.append(child)
    if "signal" in job:
        number, rank, file = job["signal"]
        while not Path(file).exists():
            time.sleep(0.01)
        os.kill(children[rank], number)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return [
        (code, (folder / f"{rank}.1").read_text(), (folder / f"{rank}.2").read_text())
        for rank, code in enumerate(codes)
    ]


def main() -> None:
    make_ready()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps([run(job, Path(folder)) for job in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
