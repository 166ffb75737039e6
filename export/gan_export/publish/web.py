"""A page that generates images in the browser: a folder for any static host, or one HTML file.

The page is that of gan-serve (gan_serve/page), with `browser.js` in the place of `images.js`: onnxruntime-web's
WebAssembly runs the model. Nothing is fetched from anywhere else. Modules do not load from a disk, so the one file has
its modules as data: URLs, and the rest as gzip in base64.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
import re
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import gan_core
from gan_core.errors import GanportError
from gan_core.files.atomic import write_bytes
from gan_core.interface import Interface
from gan_export.publish import check_folder, check_line, name_of, open_exported
from gan_serve.runtime.generator import Generator

RUNTIME = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""What a page needs of onnxruntime-web."""
VERSION = "1.30"
"""The version of onnxruntime-web that the tests run."""
MODEL = "model.onnx"
_SCRIPTS = ("page.js", "latents.js", "picture.js", "png.js", "worker.js")
_PAGE = files("gan_serve") / "page"
_IMPORT = re.compile(r'(?<= from )"\./([a-z]+\.js)"')
_FROM_DISK = (
    '<script>if (location.protocol === "file:") document.getElementById("status").textContent = "Browsers do not run '
    "this page from a disk. Serve its folder (python -m http.server), or make one file (gan-export web --single-file)."
    '";</script>'
)


def find_runtime(named: Path | None = None, start: Path | None = None) -> Path:
    """The folder with the files of onnxruntime-web: that of `named`, or of node_modules in `start` or above it.

    `named` is the package, its dist folder, or a folder with node_modules; `start` is the current folder if None.
    Raises `GanportError` where there is none.
    """
    start = Path.cwd() if start is None else start
    bases = [named] if named is not None else [start, *start.parents]
    for base in bases:
        for inside in ("", "dist", "onnxruntime-web/dist", "node_modules/onnxruntime-web/dist"):
            if (named is not None or inside.startswith("node_modules")) and _has_runtime(base / inside):
                return base / inside
    install = f"npm install onnxruntime-web@{VERSION}"
    if named is not None:
        raise GanportError(
            f"{named} does not have onnxruntime-web, expected {', '.join(RUNTIME)}",
            hint=f"name the folder where you ran {install}",
        )
    raise GanportError(
        "the browser's onnxruntime is not here: no node_modules/onnxruntime-web in this folder or above",
        hint=f"{install}; or name a folder that has it with `runtime`",
    )


def runtime_version(runtime: Path) -> str:
    """What package.json says beside a folder that `find_runtime` found; empty where it does not."""
    try:
        version = json.loads((runtime.parent / "package.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return version if isinstance(version, str) else ""


def write_site(model: Path, folder: Path, runtime: Path, title: str | None = None) -> list[Path]:
    """Writes index.html and page/ into `folder`; other files in it stay. Returns the files.

    `title` is the page's, the model's file name if None. Raises `GanportError` for a file that is no export.
    """
    check_folder(folder, model)
    index, graph = _index(model, title)
    contents = {MODEL: graph} | {name: _own(name) for name in ("page.css", "images.js", *_SCRIPTS)}
    contents |= {name: (runtime / name).read_bytes() for name in RUNTIME}
    written = []
    for file, content in contents.items():
        written.append(folder / "page" / file)
        write_bytes(written[-1], content)
    written.append(folder / "index.html")  # last: whoever sees it has the rest
    write_bytes(written[-1], index.replace("</body>", f"{_FROM_DISK}\n</body>").encode())
    return written


def write_page(model: Path, target: Path, runtime: Path, title: str | None = None) -> list[Path]:
    """Writes everything into the one HTML file `target`. Takes `title`, returns and raises as `write_site`."""
    page, graph = _index(model, title)
    style = _own("page.css").decode()
    page = _replaced(page, r'<link rel="stylesheet"[^>]*>', f"<style>\n{style}</style>")
    page = _replaced(page, r'<script type="module" src="[^"]*"></script>', "")
    packed = {MODEL: graph, "worker.js": _own("worker.js")}
    packed |= {name: (runtime / name).read_bytes() for name in RUNTIME}
    data = "".join(
        f'<script type="application/octet-stream" data-file="{name}">{_packed(content)}</script>\n'
        for name, content in packed.items()
    )
    script = f'<script type="module">\n{_bundled("page.js")}</script>\n'
    write_bytes(target, page.replace("</body>", f"{data}{script}</body>").encode())
    return [target]


def description(generator: Generator, name: str) -> dict[str, Any]:
    """What the page needs to know of the model: as an entry of gan-serve's /v1/models."""
    interface = generator.contract.interface
    takes = None
    if interface.input is not None:
        _, height, width = interface.input_shape
        takes = {"text": interface.taken, "height": height, "width": width, **asdict(interface.input)}
    return {
        "name": name,
        "version": generator.sha256[:16],
        "image": {"width": interface.width, "height": interface.height, "channels": interface.channels},
        "takes": takes,
        "styles": asdict(interface.styles) if interface.styles else None,
        "noise": interface.noise,
        "noise_maps": asdict(interface.noise_maps) if interface.noise_maps else None,
        "z_dim": interface.z_dim,
        "latent": interface.latent,
        "classes": interface.n_classes,
        "class_names": list(interface.class_names),
    }


def _index(model: Path, title: str | None) -> tuple[str, bytes]:
    """The page, which knows the model, without what only a server has; and the model."""
    check_line("title", title)
    with open_exported(model) as generator:
        about = description(generator, title or name_of(model))
        graph = with_all_inputs(model, generator.contract.interface)
    page = _own("page.html").decode()
    page = _replaced(page, "<title>.*?</title>", f"<title>{html.escape(about['name'])}</title>")
    page = _replaced(page, '(?<=<h1 id="title">).*?(?=</h1>)', html.escape(about["name"]))
    page = _replaced(page, '(?<=role="status">)(?=</p>)', "Loading the model …")
    page = _replaced(page, "<footer>.*?</footer>", "<footer>The images are generated in your browser.</footer>")
    page = _replaced(page, "<noscript>.*?</noscript>", "<noscript>This page needs JavaScript.</noscript>")
    facts = json.dumps(about).replace("<", "\\u003c")
    head = f'<meta name="generator" content="ganport {gan_core.__version__}">\n'
    head += f'<script type="application/json" id="generator">{facts}</script>\n</head>'
    return page.replace("</head>", head), graph


def with_all_inputs(model: Path, interface: Interface) -> bytes:
    """The file; where it has optional inputs, without their defaults, because onnxruntime's JavaScript takes no value
    for an input that has one. `own_noise` (n, 1) says which images take `noise_maps`, and not the constant noise.
    Such a copy is no longer the one that was proved, and has no contract.
    """
    if not interface.options:
        return model.read_bytes()
    import onnx

    copied = onnx.load(model)
    graph = copied.graph
    for default in [each for each in graph.initializer if each.name in interface.options]:
        name = default.name
        if interface.options[name].constant:
            default.name, chosen = f"{name}.constant", f"{name}.chosen"
            for node in graph.node:
                node.input[:] = [chosen if each == name else each for each in node.input]
            graph.input.append(onnx.helper.make_tensor_value_info("own_noise", onnx.TensorProto.BOOL, ["own", 1]))
            graph.node.insert(0, onnx.helper.make_node("Where", ["own_noise", name, default.name], [chosen]))
        else:
            graph.initializer.remove(default)
    copied.ClearField("metadata_props")
    changed: bytes = copied.SerializeToString()
    return changed


def _own(name: str) -> bytes:
    """A file of the page; as `images.js` the one that needs no server."""
    return (_PAGE / ("browser.js" if name == "images.js" else name)).read_bytes()


def _replaced(page: str, pattern: str, replacement: str) -> str:
    changed, times = re.subn(pattern, lambda _: replacement, page, flags=re.DOTALL)
    assert times == 1, pattern
    return changed


def _bundled(name: str) -> str:
    """A script whose imports are data: URLs."""

    def inline(found: re.Match[str]) -> str:
        return f'"data:text/javascript;base64,{base64.b64encode(_bundled(found[1]).encode()).decode()}"'

    return _IMPORT.sub(inline, _own(name).decode())


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _has_runtime(folder: Path) -> bool:
    return all(os.path.isfile(folder / name) for name in RUNTIME)  # noqa: PTH113 (a folder that may not be read has none)
