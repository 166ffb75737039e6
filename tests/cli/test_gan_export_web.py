"""`gan-export web`: what it writes, and what it refuses. export/test_web_browser.py opens the page."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import onnx
import pytest

from cli.conftest import Run
from gan_core.contract import Contract
from gan_core.image_input import ImageInput
from gan_core.interface import Interface
from gan_export.publish import web
from serve import onnx_files, strangers

HOSTILE = ("</script><img src=x onerror=alert(1)>", "a'\"&\u2028b", "c")
FILES = {
    "page.css",
    "page.js",
    "images.js",
    "latents.js",
    "picture.js",
    "png.js",
    "worker.js",
    "model.onnx",
    *web.RUNTIME,
}


class Tags(HTMLParser):
    """`inside` of a page: the text after each tag, with the tag's attributes."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.inside: list[tuple[dict[str, str | None], str]] = []
        self.feed(page.read_text("utf-8"))
        self.close()

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside.append((dict(attrs), ""))

    def handle_endtag(self, _: str) -> None:
        self.inside.append(({}, ""))

    def handle_data(self, data: str) -> None:
        if self.inside:
            attributes, before = self.inside[-1]
            self.inside[-1] = (attributes, before + data)

    def script(self, **wanted: str) -> str:
        (found,) = [text for attributes, text in self.inside if wanted.items() <= attributes.items()]
        return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which has c.onnx and, as npm leaves it, a package that looks like the browser's runtime."""
    monkeypatch.chdir(tmp_path)
    onnx_files.save(tmp_path / "c.onnx", onnx_files.contract(image=(1, 8, 8), n_classes=3, class_names=HOSTILE))
    package = tmp_path / "node_modules" / "onnxruntime-web"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text('{"version": "1.30.2"}')
    for name in web.RUNTIME:
        (package / "dist" / name).write_bytes(b"runtime's " + name.encode())
    return tmp_path


def test_a_folder(run: Run, here: Path) -> None:
    code, out, err = run("web", "c.onnx", "--out", "site")
    assert (code, out) == (0, "site\n"), err
    assert err == "next: python -m http.server --directory site\n"
    assert {file.name for file in (here / "site" / "page").iterdir()} == FILES
    assert (here / "site" / "page" / "model.onnx").read_bytes() == (here / "c.onnx").read_bytes()
    page = here / "site" / "index.html"
    text = page.read_text("utf-8")
    assert not re.search(r'(?:src|href)="(?!page/|data:|#)', text)  # nothing from elsewhere
    assert "<title>c</title>" in text
    assert "Browsers do not run this page from a disk" in text
    assert "<img src=x" not in text
    about = json.loads(Tags(page).script(id="generator"))
    assert about["class_names"] == list(HOSTILE)
    assert (about["z_dim"], about["latent"], about["image"]["height"]) == (4, "normal", 8)
    imported = {
        name
        for file in (here / "site" / "page").glob("*.js")
        for name in re.findall(r'from "\./(.*?)"', file.read_text())
    }
    assert imported == {"images.js", "latents.js", "picture.js", "png.js"}


def test_again_beside_other_files(run: Run, here: Path) -> None:
    for title in ("One", "Two <b>"):
        assert run("web", "--model", "c.onnx", "--title", title)[0] == 0
        (here / "c-web" / "CNAME").write_text("example.org")
    assert "<title>Two &lt;b&gt;</title>" in (here / "c-web" / "index.html").read_text()
    assert (here / "c-web" / "CNAME").is_file()


def test_one_file(run: Run, here: Path) -> None:
    code, out, err = run("web", "c.onnx", "--single-file")
    assert (code, out, err) == (0, "c.html\n", "next: python -m webbrowser c.html\n")
    page = Tags(here / "c.html")
    assert not [attributes for attributes, _ in page.inside if "onerror" in attributes]
    for name, content in {
        "model.onnx": (here / "c.onnx").read_bytes(),
        web.RUNTIME[0]: b"runtime's ort.wasm.min.js",
    }.items():
        assert gzip.decompress(base64.b64decode(page.script(**{"data-file": name}))) == content
    assert "from a disk" not in (here / "c.html").read_text()
    script = page.script(type="module")
    assert "from" in script
    assert not re.search(r'from "(?!data:)', script)
    images = base64.b64decode(re.findall(r'from "data:text/javascript;base64,(.*?)"', script)[0]).decode()
    assert images.count('from "data:text/javascript;base64,') == 3


@pytest.mark.usefixtures("here")
def test_json(run: Run) -> None:
    code, out, _ = run("web", "c.onnx", "--single-file", "--json")
    assert (code, json.loads(out)) == (0, {"path": "c.html", "files": ["c.html"]})


def test_the_runtime_is_found(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = here / "node_modules" / "onnxruntime-web"
    for named in (here, here / "node_modules", package, package / "dist"):
        assert web.find_runtime(named) == package / "dist"
    (here / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(here / "deep" / "er")
    assert web.find_runtime() == package / "dist"
    (package / "package.json").write_text('{"version": "1.3"}')
    assert "warning: onnxruntime-web is 1.3; 1.30 is the one that was tested" in run("web", here / "c.onnx")[2]
    (package / "package.json").write_text("[]")
    assert "of an unknown version" in run("web", here / "c.onnx")[2]


def brightness() -> onnx.ModelProto:
    """A generator that takes images of 4x4 pixels, and leaves them as they are."""
    about = Contract(Interface(0, (3, 4, 4), value_range=(0.0, 255.0), input=ImageInput(fixed=True)))
    shapes: dict[str, list[str | int | None]] = {"pixels": ["batch", 4, 4, 3], "image": ["batch", 3, 4, 4]}
    nodes = [
        onnx.helper.make_node("Identity", ["input"], ["pixels"]),
        onnx.helper.make_node("Transpose", ["input"], ["channels_first"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Cast", ["channels_first"], ["image"], to=onnx.TensorProto.FLOAT),
    ]
    inputs = [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.UINT8, shapes["pixels"])]
    outputs = [
        onnx.helper.make_tensor_value_info(name, kind, shapes[name])
        for name, kind in (("image", onnx.TensorProto.FLOAT), ("pixels", onnx.TensorProto.UINT8))
    ]
    graph = onnx.helper.make_graph(nodes, "same", inputs, outputs)
    opset = onnx.helper.make_opsetid("", onnx_files.OPSET)
    proto = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=onnx_files.IR_VERSION)
    onnx.helper.set_model_props(proto, about.to_metadata())
    return proto


def test_a_model_that_takes_images(run: Run, here: Path) -> None:
    (here / "image.onnx").write_bytes(brightness().SerializeToString())
    assert run("web", "image.onnx")[0] == 0
    takes = json.loads(Tags(here / "image-web" / "index.html").script(id="generator"))["takes"]
    assert (takes["text"], takes["fixed"], takes["height"], takes["scale"]) == ("RGB images of 4x4", True, 4, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "expected an exported file, got none\nhint: gan-export web MODEL"),
        (["c.onnx", "--model", "g.onnx"], "--model"),
        (["none.onnx"], "no model at none.onnx"),
        (["g.pt"], "g.pt is no .onnx file by its name\nhint: export it first"),
        (["theirs.onnx"], "gan-export adopt theirs.onnx"),
        (["c.onnx", "--out", "site.html"], "expected a folder\nhint: --single-file"),
        (["c.onnx", "--out", "g.pt"], "g.pt is a file, expected a folder"),
        (["c.onnx", "--out", "."], "c.onnx is inside ."),
        (["c.onnx", "--single-file", "--out", "site"], "ends in .html, got site\nhint: --out site.html"),
        (["c.onnx", "--single-file", "--out", "folder.html"], "folder.html is a folder"),
        (["c.onnx", "--single-file", "--out", "g.pt/x.html"], "cannot write g.pt/x.html"),
        (["c.onnx", "--title", " "], "--title must be one line"),
        (["c.onnx", "--title", "a\nb"], "--title must be one line"),
        (["c.onnx", "--runtime", "folder.html"], "does not have onnxruntime-web"),
        (["c.onnx", "--runtime", "nowhere"], "npm install onnxruntime-web@1.30"),
    ],
)
def test_wrong_input(run: Run, here: Path, arguments: list[str], words: str) -> None:
    (here / "g.pt").write_bytes(b"PK")
    (here / "folder.html").mkdir()
    (here / "theirs.onnx").write_bytes(strangers.stranger().SerializeToString())
    before = sorted(here.rglob("*"))
    code, out, err = run("web", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert sorted(here.rglob("*")) == before


def test_without_the_runtime(run: Run, here: Path) -> None:
    (here / "node_modules" / "onnxruntime-web" / "dist" / web.RUNTIME[2]).unlink()
    code, _, err = run("web", "c.onnx")
    assert code == 2
    assert "hint: npm install onnxruntime-web@1.30; or name a folder that has it with --runtime" in err
