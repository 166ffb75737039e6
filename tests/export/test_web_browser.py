"""The page that gan-export web writes, in a real browser: its pixels, its console, its requests, its width."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import gan_serve
from cli.test_gan_gen_images import HALVES, write
from conftest import shared_by_workers
from export import npm
from export.style_networks import save_weights
from export.tiny import save_checkpoint, spec_of
from gan_core.arrays import U8
from gan_core.image_input import ImageInput
from gan_core.latents import Seeds
from gan_export.answers import Answers
from gan_export.exporting import export_onnx
from gan_export.identify import identify, source_of
from gan_export.publish import web
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.runtimes import DEFAULT_MODEL
from gan_serve.runtime.walk import Walk, between
from server.running import running

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(npm.CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.skipif(shutil.which("node") is None, reason="needs Node"),
]
SEEDS, ONE_CLASS, STEP = "first=0", "first=3&class=2&truncation=0.5", "seed=3&towards=9&step=0.3"
WALK, CLASSES, CHOSEN = "walk=1,2,3", "walk=1,2,3&own=1", "walk=1:2,2:5"
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return npm.node_modules(shared_by_workers(tmp_path_factory))


@contextlib.contextmanager
def served(folder: Path, **headers: str) -> Iterator[str]:
    """The address of a static host of `folder`."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            super().end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def browse(address: str, modules: Path, folder: Path, *hashes: str) -> dict[str, Any]:
    """What browse.mjs found; nothing was said on the console, and nothing fetched from elsewhere."""
    script = Path(__file__).with_name("browse.mjs")
    values = [modules / "playwright-core", npm.CHROMIUM, folder / "profile", address, folder]
    command = ["node", script, *values, *hashes]
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["console"] == []
    home = address.rpartition("/")[0]
    assert [each for each in found["requests"] if not each.startswith((home, "blob:", "data:"))] == []
    assert (found["desktop"], found["phone"]) == (0, 0)  # nothing to scroll sideways
    return found


def shown(found: dict[str, Any], hash_: str, generator: Generator) -> U8:
    """The images (n, H, W, C), whose canvas has RGBA."""
    _, height, width = generator.contract.interface.image
    images = [np.frombuffer(base64.b64decode(each), np.uint8) for each in found["images"][hash_]]
    rgba = np.stack(images).reshape(-1, height, width, 4)
    assert (rgba[..., 3] == 255).all()
    return rgba[..., : generator.contract.interface.channels]


def frames(found: dict[str, Any], hash_: str, mode: str = "L") -> U8:
    with Image.open(io.BytesIO(base64.b64decode(found["animations"][hash_]))) as animation:
        animation.load()
        assert animation.info["loop"] == 0
        assert animation.info["duration"] == 40
        return np.stack([np.asarray(frame.convert(mode)) for frame in ImageSequence.Iterator(animation)])


def assert_same(pixels: U8, expected: U8) -> None:
    assert pixels.shape == expected.shape
    difference = np.abs(pixels.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


def test_a_folder_on_a_static_host(modules: Path, tmp_path: Path) -> None:
    """The model that comes with ganport: seeds, a class, truncation, a neighbour, walks; below a path of the host."""
    web.write_site(DEFAULT_MODEL, tmp_path / "host" / "deep", web.find_runtime(modules), "<i>Garments</i> & more")
    with served(tmp_path / "host") as host:
        found = browse(f"{host}deep/", modules, tmp_path, SEEDS, ONE_CLASS, STEP, WALK, CLASSES, CHOSEN)
    assert found["texts"][SEEDS].count("<i>Garments</i> & more") == 1
    generator = gan_serve.load(DEFAULT_MODEL, provider="cpu")
    interface = generator.contract.interface
    assert_same(shown(found, SEEDS, generator), generator.generate(range(24)))
    assert_same(shown(found, ONE_CLASS, generator), generator.generate(range(3, 27), 2, truncation=0.5))
    ends = interface.latents([3, 9])
    near = between(ends[:1], ends[1:], np.array([0.3]), interface.latent)
    assert_same(shown(found, STEP, generator), generator.run_pixels(near, np.array([3])))
    for hash_, seeds, classes in ((WALK, [1, 2, 3], ()), (CLASSES, [1, 2, 3], (1, 2, 3)), (CHOSEN, [1, 2], (2, 5))):
        walk = Walk(interface, Seeds.of(seeds), None, classes)
        expected = generator.run_pixels(walk.latents(0, len(walk)), walk.nearest_classes(0, len(walk)))
        assert_same(frames(found, hash_), expected[..., 0])


def test_the_page_of_gan_serve(modules: Path, tmp_path: Path) -> None:
    """The same page, with a server: a walk from class to class, and nothing that the security policy refuses."""
    generator = gan_serve.load(DEFAULT_MODEL, provider="cpu", many=True)
    with running(("garments", generator)) as site:
        found = browse(f"http://127.0.0.1:{site.port}/", modules, tmp_path, SEEDS, CHOSEN)
    assert_same(shown(found, SEEDS, generator), generator.generate(range(24)))
    walk = Walk(generator.contract.interface, Seeds.of([1, 2]), None, (2, 5))
    expected = generator.run_pixels(walk.latents(0, 80), walk.nearest_classes(0, 80))
    assert_same(frames(found, CHOSEN)[:, ::8, ::8], expected[..., 0])  # enlarged for small pictures


def test_one_file_from_the_disk(modules: Path, tmp_path: Path) -> None:
    (page,) = web.write_page(DEFAULT_MODEL, tmp_path / "a page.html", web.find_runtime(modules))
    assert page.stat().st_size < 8 << 20
    found = browse(page.as_uri(), modules, tmp_path, SEEDS, WALK)
    generator = gan_serve.load(DEFAULT_MODEL, provider="cpu")
    assert_same(shown(found, SEEDS, generator), generator.generate(range(24)))
    assert len(frames(found, WALK)) == 120


@pytest.mark.usefixtures("drafted_once")
def test_threads_where_the_host_allows_them(modules: Path, tmp_path: Path) -> None:
    """A colour network of ours, on a host that isolates its pages."""
    save_checkpoint(tmp_path / "g.pt", spec_of("dcgan", 28, 3))
    assert export_onnx(source_of(identify(tmp_path / "g.pt", Answers())), tmp_path / "g.onnx").ok
    web.write_site(tmp_path / "g.onnx", tmp_path / "site", web.find_runtime(modules))
    with served(tmp_path / "site", **ISOLATED) as host:
        found = browse(host, modules, tmp_path, SEEDS)
    assert found["isolated"]
    generator = gan_serve.load(tmp_path / "g.onnx", provider="cpu")
    assert_same(shown(found, SEEDS, generator), generator.generate(range(24)))


def test_a_model_that_takes_images(modules: Path, tmp_path: Path) -> None:
    """In tiles, of a size that the network does not take, and with opacity; grey pictures for a network of colours."""
    torch.manual_seed(0)
    model = write(tmp_path / "even.onnx", HALVES, ImageInput(multiple_of=2, minimum=2))
    rng = np.random.default_rng(0)
    files = {"rgb": (333, 271, 3), "small": (1, 3, 3), "grey": (40, 30)}
    for name, shape in files.items():
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / f"{name}.png")
    clear = Image.open(tmp_path / "rgb.png").crop((0, 0, 20, 10))
    clear.paste(0, (0, 0, 20, 4))
    opaque = np.full((10, 20), 255, np.uint8)
    opaque[:4] = 0  # where the colours are black: a browser does not keep others
    clear.putalpha(Image.fromarray(opaque))
    clear.save(tmp_path / "clear.png")
    web.write_site(model, tmp_path / "site", web.find_runtime(modules))
    paths = {name: tmp_path / f"{name}.png" for name in (*files, "clear")}
    with served(tmp_path / "site") as host:
        found = browse(host, modules, tmp_path, *(f"file={path}" for path in paths.values()))
    generator = gan_serve.load(model, provider="cpu")
    for path in paths.values():
        expected = np.asarray(generator.transform(path).convert("RGBA")).astype(int)
        (shown,) = found["images"][f"file={path}"]
        pixels = np.frombuffer(base64.b64decode(shown), np.uint8).reshape(expected.shape)
        seen = expected[..., 3] > 0
        assert np.array_equal(seen, pixels[..., 3] > 0)
        assert np.abs(pixels[seen] - expected[seen]).max() <= 1


def test_a_model_with_styles(modules: Path, tmp_path: Path) -> None:
    """A truncation is psi, and a walk is a straight line from styles to styles, of which a frame takes one class."""
    source = source_of(identify(save_weights(tmp_path / "g.pth"), Answers()))
    assert export_onnx(source, tmp_path / "g.onnx").ok
    web.write_site(tmp_path / "g.onnx", tmp_path / "site", web.find_runtime(modules))
    psi, walked = "first=0&truncation=0.6", "walk=1,2&own=1&truncation=0.6"
    own, none = "first=0&truncation=0.6&noise=seed", "first=0&noise=none"
    with served(tmp_path / "site") as host:
        found = browse(host, modules, tmp_path, SEEDS, psi, walked, own, none)
    generator = gan_serve.load(tmp_path / "g.onnx", provider="cpu")
    assert_same(shown(found, SEEDS, generator), generator.generate(range(24)))
    assert_same(shown(found, psi, generator), generator.generate(range(24), psi=0.6))
    assert_same(shown(found, own, generator), generator.generate(range(24), psi=0.6, noise="seed"))
    assert_same(shown(found, none, generator), generator.generate(range(24), noise=0))
    walk = Walk(generator.contract.interface, Seeds.of([1, 2]), 80, (1, 0), to_w=generator.with_options(psi=0.6).to_w)
    assert_same(frames(found, walked, "RGB"), generator.generate(w=walk.latents(0, 80)))
