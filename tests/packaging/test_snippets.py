"""The Python of README and docs/ runs as it stands, page by page and in order; so do the examples in docstrings."""

from __future__ import annotations

import doctest
import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cli.documents import blocks, shrink_evaluation
from export.foreign_networks import examples_dcgan, settled
from export.tiny import save_checkpoint, spec_of
from gan_core.image_input import ImageInput
from gan_core.interface import Interface
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.layers import Conv, Upsample
from gan_export.answers import Answers
from gan_export.exporting import export_onnx
from gan_export.identify import identify, source_of
from gan_export.source import from_spec
from gan_trainer.networks.generator import build
from serve import strangers

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("drafted_once")]
ROOT = Path(__file__).parents[2]
NOT_RUN = {
    ("docs/architecture.md", 0): "an outline; tests/export/test_families.py has the family in full",
    ("docs/scale.md", 0): "reads what the commands before it wrote; tests/cli/test_gan_gen_jobs_page.py runs both",
    ("docs/live-modules.md", 0): "needs lightweight_gan, a package of somebody else",
    ("docs/live-modules.md", 1): "needs stylegan2_pytorch, a package of somebody else",
}
EXAMPLES = {
    "gan_serve": "",
    "gan_serve.runtime.runtimes": "load",
    "gan_export.front": "inspect export",
    "gan_trainer": "train",
}


def snippets(page: Path) -> list[tuple[int, str]]:
    """(line, code) of each block."""
    return [(block.line, block.code) for block in blocks(page) if block.language == "python"]


DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
ELSEWHERE = ("journeys.md", "serve.md")  # cli/test_journeys.py and server/test_docs.py run these
PAGES = [page for page in DOCUMENTS if snippets(page) and page.name not in ELSEWHERE]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """g.pt and g.onnx of a small network, netG.pth of a DCGAN tutorial's, theirs.onnx of another exporter."""
    folder = tmp_path_factory.mktemp("files")
    save_checkpoint(folder / "g.pt", spec_of("dcgan", 28, 1))
    assert export_onnx(source_of(identify(folder / "g.pt", Answers())), folder / "g.onnx").ok
    torch.save(settled(examples_dcgan(32)).state_dict(), folder / "netG.pth")
    larger = (Upsample(4, "bicubic"), Conv(3, 3, 3, padding=1))
    upscale = GeneratorSpec(
        Interface(0, (3, 64, 64), input=ImageInput(value_range=(-1.0, 1.0), scale=4, halo=8)), larger
    )
    assert export_onnx(from_spec(upscale, build(upscale)), folder / "x4.onnx").ok
    Image.new("RGB", (20, 30)).save(folder / "photo.jpg")
    shutil.copytree(folder, folder / "photos", ignore=lambda _, names: {name for name in names if name != "photo.jpg"})
    stranger = strangers.stranger(label="int64", one_hot_by="Compare")
    (folder / "theirs.onnx").write_bytes(stranger.SerializeToString())
    return folder


@pytest.fixture
def beside(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with copies of `files`, which is the current one."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANPORT_CACHE", str(tmp_path / "cache"))
    shrink_evaluation(monkeypatch)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.usefixtures("beside")
def test_a_page(page: Path) -> None:
    names: dict[str, Any] = {"__name__": "snippet"}
    for number, (line, code) in enumerate(snippets(page)):
        if (str(page.relative_to(ROOT)), number) not in NOT_RUN:
            exec(compile("\n" * line + code, str(page), "exec"), names)


def test_what_is_not_run_is_there() -> None:
    assert [(page, number) for page, number in NOT_RUN if number >= len(snippets(ROOT / page))] == []


@pytest.mark.parametrize("module", EXAMPLES)
@pytest.mark.usefixtures("beside")
def test_the_examples_of_docstrings(module: str) -> None:
    home = importlib.import_module(module)
    finder = doctest.DocTestFinder(recurse=False)
    named = EXAMPLES[module].split()
    tests = [test for each in named for test in finder.find(getattr(home, each), each, home, vars(home))]
    for test in tests or finder.find(home, module, home):
        assert test.examples
        assert doctest.DocTestRunner().run(test).failed == 0
