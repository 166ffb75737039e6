"""gan-gen as a process: its imports, its end when it is stopped or the disk is full, and life without packages."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from cli.conftest import Gen, largest_file
from cli.drawing import names
from gan_core.installation import install
from serve import onnx_files

pytestmark = pytest.mark.slow

START = "import sys; from gan_serve.gen.cli import main; main()"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_files.save(tmp_path_factory.mktemp("process") / "g.onnx", onnx_files.contract(image=(3, 32, 32)))


def start(cwd: Path, *arguments: object, before: str = "", **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", f"{before}\n{START}", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command, cwd=cwd, **pipes)  # type: ignore[call-overload,no-any-return]


def run(cwd: Path, *arguments: object, before: str = "", **options: object) -> tuple[int, bytes, str]:
    with start(cwd, *arguments, before=before, **options) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err.decode()


# ── cold start ───────────────────────────────────────────────────────────────────────────────────────────────────────

# Printed on the way out, after everything that the command needed was imported.
LIST_MODULES = """
import json, os, sys
def leave(code, really=os._exit):
    print(json.dumps(sorted(sys.modules)), file=sys.stderr, flush=True)
    really(code)
os._exit = leave
"""
HEAVY = {
    "torch", "torchvision", "onnx", "onnxscript", "matplotlib", "sklearn", "scipy", "rich", "PIL", "imageio_ffmpeg",
    "multiprocessing", "asyncio", "urllib.request", "http.client", "statistics", "numpy.random",
    "numpy.ma", "numpy.testing", "gan_trainer", "gan_export", "gan_bench",
    "starlette", "uvicorn", "prometheus_client", "gan_serve.server",
}  # fmt: skip
NOT_FOR_A_GRID = {
    "gan_serve.runtime.animation", "gan_serve.runtime.walk", "gan_serve.runtime.golden", "gan_serve.runtime.probe",
    "gan_serve.gen.about", "gan_serve.gen.jobs", "gan_serve.gen.shards", "gan_core.spec.layers",
}  # fmt: skip


def imported(cwd: Path, *arguments: object) -> set[str]:
    code, _, err = run(cwd, *arguments, before=LIST_MODULES)
    assert code == 0, err
    return set(json.loads(err.splitlines()[-1]))


def test_an_image_imports_what_it_needs_and_no_more(model: Path, tmp_path: Path) -> None:
    modules = imported(tmp_path, "--model", model, "--n", 25)
    assert "onnxruntime" in modules
    assert not modules & HEAVY
    assert not modules & NOT_FOR_A_GRID
    # typer, onnxruntime and numpy bring the rest; a jump here is something that a cold start pays for.
    assert len(modules) < 450


def test_no_entry_points_are_scanned_for_an_onnx_model(model: Path, tmp_path: Path) -> None:
    forbid = """
import importlib.metadata
def scan(*_, **selection):
    if selection.get("group") == "ganport.runtimes": raise AssertionError("scanned")
    return real(**selection)
real, importlib.metadata.entry_points = importlib.metadata.entry_points, scan
"""
    assert run(tmp_path, "--model", model, before=forbid)[0] == 0


def test_help_needs_nothing(tmp_path: Path) -> None:
    modules = imported(tmp_path, "--help")
    assert not modules & (HEAVY | {"numpy", "onnxruntime"})


def test_version_needs_nothing(tmp_path: Path) -> None:
    assert "numpy" not in imported(tmp_path, "--version")


# ── packages that are absent ─────────────────────────────────────────────────────────────────────────────────────────


def without(*packages: str) -> str:
    """An import system in which these packages do not exist."""
    return f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""


BARE = without("torch", "onnx", "onnxruntime", "onnxscript", "torchvision", "matplotlib", "rich", "imageio_ffmpeg")


def test_help_in_a_bare_environment(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, "--help", before=BARE)
    assert (code, err) == (0, "")
    assert b"Usage: gan-gen" in out


def test_a_model_in_a_bare_environment_names_both_extras(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(tmp_path, "--model", model, before=BARE)
    assert (code, out) == (2, b"")
    assert err == (
        "error: running ONNX models needs onnxruntime, which is not installed\n"
        f"hint: {install('cpu')}; with an NVIDIA GPU {install('cuda')}\n"
    )
    assert names(tmp_path) == []


def test_everything_but_onnxruntime_is_optional(model: Path, tmp_path: Path) -> None:
    bare = without("torch", "onnx", "onnxscript", "torchvision", "matplotlib", "rich", "imageio_ffmpeg", "PIL")
    for arguments in (["--n", 4], ["--n", 4, "--out", "many/"], ["--out", "o.npz"], ["--info"]):
        code, _, err = run(tmp_path, "--model", model, *arguments, before=bare)
        assert code == 0, err


WINDOWS = """
import os, signal
for module, names in {os: ("fchown", "fchmod", "geteuid", "getegid", "sched_getaffinity", "O_NOCTTY"),
                      signal: ("SIGPIPE", "SIGHUP")}.items():
    for name in names:
        delattr(module, name)
"""


def test_what_windows_lacks_is_not_needed(model: Path, tmp_path: Path) -> None:
    before = WINDOWS + without("resource", "fcntl", "pwd", "grp", "termios")
    for arguments in (["--n", 4], ["--n", 4, "--out", "many/"], ["--n", 4], ["--out", "o.npz"], ["--info"]):
        code, _, err = run(tmp_path, "--model", model, *arguments, before=before)
        assert code == 0, err
    code, _, err = run(tmp_path, "--model", model, before=before + "\n"
                       "from gan_serve.terminal import console\n"
                       "def gone(*_): raise BrokenPipeError\nconsole.show_path = gone\n")  # fmt: skip
    assert code == 141, err


def test_torchscript_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.ts").write_bytes(b"PK\x03\x04")
    code, _, err = run(tmp_path, "--model", "g.ts", before=without("torch", "onnx"))
    assert code == 2
    assert err == (f"error: running .ts models needs torch, which is not installed\nhint: {install('export')}\n")


# ── a full disk ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("out", ["o.png", "o.webp", "o.jpg", "o.npy", "o.npz", "o/"])
def test_a_full_disk_leaves_nothing(gen: Gen, model: Path, tmp_path: Path, out: str) -> None:
    with largest_file(1000):
        code, shown, err = gen("--model", model, "--n", 100, "--out", out)
    assert (code, shown) == (2, "")
    first, second = err.splitlines()
    assert first.startswith("error: no room to write o")
    assert second == "hint: free some disk space, or write elsewhere"
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["tar", "parquet", "npy", "folder"])
def test_a_full_disk_leaves_no_shard(gen: Gen, model: Path, tmp_path: Path, kind: str) -> None:
    arguments = ("--model", model, "--n", 100, "--out", "s/", "--format", kind)
    with largest_file(1000):
        code, _, err = gen(*arguments)
    assert code == 2
    assert err.startswith("error: no room to write s/shard-000000")
    assert names(tmp_path / "s") == [".ganport-lock", "job.json"]
    assert gen(*arguments)[0] == 0


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_full_disk_leaves_no_walk(gen: Gen, model: Path, tmp_path: Path, suffix: str) -> None:
    with largest_file(1000):
        code, _, err = gen("--model", model, "--walk", 3, "--out", f"w{suffix}")
    assert code == 2
    assert err.startswith("error: no room to write w")
    assert names(tmp_path) == []


def test_a_full_disk_leaves_no_film(gen: Gen, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    with largest_file(1000):
        code, _, err = gen("--model", model, "--walk", 3, "--out", "w.mp4")
    assert code == 1
    assert err.startswith("error: ffmpeg could not write the video")
    assert "Traceback" not in err
    assert names(tmp_path) == []


def test_a_full_disk_keeps_the_old_file(gen: Gen, model: Path, tmp_path: Path) -> None:
    (tmp_path / "o.png").write_bytes(b"old")
    with largest_file(1000):
        assert gen("--model", model, "--out", "o.png")[0] == 2
    assert (tmp_path / "o.png").read_bytes() == b"old"
    assert names(tmp_path) == ["o.png"]


# ── stopped half-way ─────────────────────────────────────────────────────────────────────────────────────────────────


def stop_half_way(model: Path, folder: Path, how: int) -> tuple[int, str]:
    """Starts a run of a million files and sends it a signal when the first are there."""
    with start(folder, "--model", model, "--n", 1_000_000, "--out", "many/") as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if (folder / "many").is_dir() and len(names(folder / "many")) > 50:
                break
            time.sleep(0.01)
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()


@pytest.mark.parametrize(
    ("how", "code", "err"),
    [
        (signal.SIGINT, 130, "error: interrupted\n"),
        (signal.SIGTERM, -signal.SIGTERM, ""),
        (signal.SIGHUP, -signal.SIGHUP, ""),
    ],
)
def test_a_run_that_is_stopped_leaves_whole_files(model: Path, tmp_path: Path, how: int, code: int, err: str) -> None:
    assert stop_half_way(model, tmp_path, how) == (code, err)
    left = names(tmp_path / "many")
    assert 50 < len(left) < 1_000_000
    assert all(name.startswith("seed") for name in left)
    for name in left:
        with Image.open(tmp_path / "many" / name) as picture:
            picture.load()


@pytest.mark.parametrize(
    ("kind", "how", "code"), [("tar", signal.SIGINT, 130), ("folder", signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_job_that_is_stopped_leaves_whole_shards(model: Path, tmp_path: Path, kind: str, how: int, code: int) -> None:
    arguments = ("--model", model, "--n", 1_000_000, "--out", "s/", "--format", kind, "--shard-size", 100)
    with start(tmp_path, *arguments) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if (tmp_path / "s/shard-000001_stats.json").exists():
                break
            time.sleep(0.01)
        process.send_signal(how)
        process.communicate(timeout=60)
    assert process.returncode == code
    left = names(tmp_path / "s")
    assert [name for name in left if name.startswith(".")] == [".ganport-lock"]
    shards = [name for name in left if name.startswith("shard-") and "_stats" not in name]
    assert len(shards) >= 2
    for name in shards:
        assert f"{name.removesuffix('.tar')}_stats.json" in left


def test_a_run_that_is_killed_leaves_no_broken_file_under_a_final_name(model: Path, tmp_path: Path) -> None:
    assert stop_half_way(model, tmp_path, signal.SIGKILL)[0] == -signal.SIGKILL
    for name in names(tmp_path / "many"):
        if not name.startswith("."):
            with Image.open(tmp_path / "many" / name) as picture:
                picture.load()
    (tmp_path / "many" / ".theirs").touch()
    assert run(tmp_path, "--model", model, "--n", 1, "--out", "many/")[0] == 0
    assert [name for name in names(tmp_path / "many") if name.startswith(".")] == [".theirs"], "the next run tidies up"


# ── places that are no files ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_device_is_written_to(model: Path, tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "full.png", stat.S_IFCHR | 0o666, os.makedev(1, 7))
        (tmp_path / "full.png").open("wb").close()
    except PermissionError:
        pytest.skip("no device nodes for this user, or on this disk")
    code, out, err = run(tmp_path, "--model", model, "--out", "full.png")
    assert (code, out) == (2, b"")
    assert err.startswith("error: no room to write full.png: No space left on device\nhint: ")
    assert stat.S_ISCHR((tmp_path / "full.png").lstat().st_mode)
    assert run(tmp_path, "--model", model, "--out", "/dev/null")[0] == 0
    assert stat.S_ISCHR(Path("/dev/null").lstat().st_mode)


def test_a_pipe_gets_the_png(model: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with start(tmp_path, "--model", model, "--out", "pipe") as process:
        data = (tmp_path / "pipe").read_bytes()
        assert process.wait(60) == 0
    assert data == run(tmp_path, "--model", model, "--out", "-")[1]
    assert data == run(tmp_path, "--model", model, "--out", "/dev/stdout")[1]
    assert names(tmp_path) == ["pipe"]


# ── stdout ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stdout_is_the_png_and_nothing_else(model: Path, tmp_path: Path) -> None:
    code, out, _ = run(tmp_path, "--model", model, "--out", "-")
    assert code == 0
    assert out.startswith(b"\x89PNG")
    assert out.endswith(b"IEND\xaeB`\x82")
    with Image.open(io.BytesIO(out)) as picture:
        assert picture.size == (5 * 130 + 2, 5 * 130 + 2)  # 32x32, four times as large
    assert names(tmp_path) == []


@pytest.mark.parametrize("arguments", [["--out", "-", "--n", 900], ["--info"]])
def test_a_reader_that_goes_away(model: Path, tmp_path: Path, arguments: list[object]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code, _, err = run(tmp_path, "--model", model, *arguments, stdout=writing)
    os.close(writing)
    assert code == 128 + signal.SIGPIPE
    assert "Traceback" not in err
    assert "error" not in err


def test_onnxruntime_says_nothing(model: Path, tmp_path: Path) -> None:
    _, out, err = run(tmp_path, "--model", model, "--n", 1)
    assert out == b"g.png\n"
    assert err == "1 image of 32x32, seed 0, on cpu (auto)\n"
