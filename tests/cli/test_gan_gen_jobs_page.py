"""docs/scale.md: its commands, scripts and manifests make the job that they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cli.conftest import Gen
from cli.documents import blocks, commands, execute
from cli.sharding import content

PAGE = blocks(Path(__file__).parents[2] / "docs/scale.md")


def block(language: str, section: str) -> str:
    """The first block of a section, for fewer images."""
    code = next(block.code for block in PAGE if (block.language, block.section) == (language, section))
    return code.replace("--n 1000000", "--n 40 --shard-size 10").replace('"1000000"', '"40", --shard-size, "10"')


@pytest.fixture
def beside(gen: Gen, model: Path, tmp_path: Path) -> Path:
    """The current folder, with g.onnx and the job of the page made by one command, in whole/."""
    (tmp_path / "g.onnx").write_bytes(model.read_bytes())
    assert gen("g.onnx", "--n", 40, "--shard-size", 10, "--out", "whole/", "--format", "tar")[0] == 0
    return tmp_path


def test_the_commands_of_the_page(beside: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    for command in commands(block("sh", "")):
        assert execute(command) == 0
    exec(compile(block("python", "What is in the folder"), "scale.md", "exec"), {})
    assert capsysbinary.readouterr().out.endswith(b"(5, 6) 3\n")
    shutil.rmtree(beside / "shards")
    for command in commands(block("sh", "Several machines")):
        assert execute(command) == 0
    assert content(beside / "shards") == content(beside / "whole")


def test_kubernetes_makes_every_part(gen: Gen, beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = yaml.safe_load(block("yaml", "Kubernetes"))["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    for index in range(spec["completions"]):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        command = [word.replace(mount["mountPath"], str(beside)) for word in container["command"]]
        assert gen(*command[1:])[0] == 0
    assert gen("--finish", "--out", "shards")[0] == 0
    assert content(beside / "shards") == content(beside / "whole")


@pytest.mark.slow
def test_a_slurm_array_makes_every_part(gen: Gen, beside: Path) -> None:
    script = beside / "gan-gen"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m gan_serve "$@"\n')
    script.chmod(0o755)
    for task in range(2):
        variables = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "2"}
        environment = os.environ | variables | {"PATH": f"{beside}:{os.environ['PATH']}"}
        subprocess.run(["bash", "-c", block("bash", "SLURM")], env=environment, check=True, capture_output=True)
    assert gen("--finish", "--out", "shards")[0] == 0
    assert content(beside / "shards") == content(beside / "whole")
