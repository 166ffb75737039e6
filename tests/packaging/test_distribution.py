"""What an installation brings: the wheel's top-level names, its commands, and what each command imports."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import gan_core

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def in_sdist(sdist: Path) -> dict[str, bytes]:
    """Its files, by their path in the clone."""
    with tarfile.open(sdist) as archive:
        files = {member.name.split("/", 1)[1]: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_wheel_claims_only_our_names(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "gan_core",
        "gan_trainer",
        "gan_export",
        "gan_serve",
        "gan_bench",
    }


def test_wheel_carries_no_data_it_should_not(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith(("tests/", "docs/")) or name.endswith((".pt", ".npy"))]
    for package in ("gan_core", "gan_trainer", "gan_export", "gan_serve", "gan_bench"):
        assert f"{package}/py.typed" in names


def test_wheel_carries_every_module(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = (
        "core/gan_core",
        "trainer/gan_trainer",
        "export/gan_export",
        "serve_cli/gan_serve",
        "benchmarks/gan_bench",
    )
    folders = [ROOT / name for name in packages]
    modules = {path.relative_to(folder.parent).as_posix() for folder in folders for path in folder.rglob("*.py")}
    assert "gan_bench/cli.py" in modules
    assert modules <= names
    page = {f"gan_serve/page/{file.name}" for file in (ROOT / "serve_cli" / "gan_serve" / "page").iterdir()}
    assert "gan_serve/page/browser.js" in page
    assert page <= names


def test_the_laboratory_stays_in_the_clone(wheel: Path, tmp_path: Path) -> None:
    """The wheel does not hold `lab`, nothing in it imports `lab`, and gan-bench starts where there is none."""
    assert (ROOT / "benchmarks" / "lab" / "__init__.py").is_file()
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    assert not [name for name in names if "lab" in name.split("/")]
    imported = re.compile(rb"^\s*(from lab\b|import (.+, ?)?lab\b)", re.M)
    assert imported.search(b"  import a, lab.b")
    assert not [name for name in names if name.endswith(".py") and imported.search(archive.read(name))]
    archive.extractall(tmp_path / "site")
    command = (
        "import sys; sys.path.insert(0, 'site'); sys.modules['lab'] = None; from gan_bench.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "gan-bench g.onnx" in done.stdout


def test_wheel_carries_the_default_model(wheel: Path, tmp_path: Path) -> None:
    from gan_serve.runtime.runtimes import DEFAULT_MODEL, MAX_BYTES

    archive = zipfile.ZipFile(wheel)
    models = [info for info in archive.infolist() if info.filename.endswith((".onnx", ".ts", ".safetensors"))]
    assert [info.filename for info in models] == [f"gan_serve/models/{DEFAULT_MODEL.name}"]
    assert models[0].file_size <= MAX_BYTES
    assert models[0].compress_size <= MAX_BYTES
    assert archive.read(models[0]) == DEFAULT_MODEL.read_bytes()
    archive.extractall(tmp_path / "site")
    # The wheel itself, from a folder that holds nothing else: no clone, no editable installation.
    command = "import sys; sys.path.insert(0, 'site'); from gan_serve.gen.cli import main; main()"
    for arguments in (["--selftest"], ["--class", "sneaker", "--n", "1", "--json"]):
        done = subprocess.run(
            [sys.executable, "-c", command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert str(Path("site") / "gan_serve" / "models") in done.stdout


def test_sdist_carries_the_default_model(sdist: Path) -> None:
    from gan_serve.runtime.runtimes import DEFAULT_MODEL

    files = in_sdist(sdist)
    # The tests hold files of the first version.
    (model,) = [name for name in files if name.endswith(".onnx") and not name.startswith("tests/")]
    assert model == DEFAULT_MODEL.relative_to(ROOT).as_posix()
    assert files[model] == DEFAULT_MODEL.read_bytes()


def test_sdist_carries_the_documents_and_their_pictures(sdist: Path) -> None:
    files = in_sdist(sdist)
    readme = files["README.md"].decode()
    pictures = re.findall(r'!\[[^]]*\]\(([^)]+)\)|<img src="([^"]+)"', readme)
    assert pictures
    assert {name for pair in pictures for name in pair if name} <= set(files)
    assert {
        "CITATION.cff",
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        "constraints.txt",
        "docs/cli.md",
        "docs/images/candidates.png",
    } <= set(files)
    assert not [name for name in files if name.startswith((".ci", "benchmarks/results/"))]


def test_wheel_metadata_names_the_extras(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    text = archive.read(metadata).decode()
    for extra in ("cpu", "cuda", "train", "export", "serve", "video", "plot", "parquet", "remote", "ray", "dev"):
        assert f"Provides-Extra: {extra}" in text
    for page in ("Homepage", "Documentation", "Changelog", "Issues"):
        assert f"Project-URL: {page}, https://" in text
    base = [line for line in text.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert {line.split()[1].split(">")[0] for line in base} == {"numpy", "pillow", "typer"}


def test_the_citation_says_what_the_package_says() -> None:
    citation = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert citation["version"] == project["version"] == gan_core.__version__
    assert citation["title"] == project["name"]
    assert citation["license"] == project["license"]
    assert citation["repository-code"] == project["urls"]["Homepage"]
    assert project["authors"] == [{"name": "The ganport team"}]
    assert "  - name: The ganport team\n" in (ROOT / "CITATION.cff").read_text("utf-8")


ONLY = """
import importlib, importlib.abc, pkgutil, sys

class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {"gan_core", "numpy", "PIL", *sys.stdlib_module_names}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())
import gan_core
print(*(importlib.import_module(each.name).__name__ for each in pkgutil.walk_packages(gan_core.__path__, "gan_core.")))
"""


def test_the_core_imports_where_nothing_is_installed_but_numpy_and_pillow() -> None:
    done = subprocess.run([sys.executable, "-c", ONLY], capture_output=True, text=True, check=True)
    core = ROOT / "core" / "gan_core"
    modules = [path for path in core.rglob("*.py") if path != core / "__init__.py"]
    assert len(done.stdout.split()) == len(modules)
