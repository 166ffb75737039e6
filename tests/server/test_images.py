"""`/v1`: the pictures are gan-gen's, an address says all of one, and what is wrong gets one clear answer."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_serve.gen.cli import app as gen_app
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.server.metrics import Metrics
from gan_serve.terminal import console
from server.running import Site

Models = dict[str, OnnxGenerator]


def pixels_of(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_seed_is_the_same_image_as_gan_gen_writes(site: Site, models: Models, tmp_path: Path) -> None:
    file = models["c"]._model
    for query, options in (
        ("", []),
        ("&class=2", ["--class", "2"]),
        ("&class=cat&truncation=0.5", ["--class", "cat", "--truncation", "0.5"]),
    ):
        with pytest.raises(SystemExit):
            console.run(gen_app, "gan-gen", [str(file), "1", "--seed", "7", *options, "--out", str(tmp_path / "7.png")])
        reply = site.get(f"/v1/images/7.png?model=c{query}")
        assert (reply.status, reply.headers["Content-Type"]) == (200, "image/png")
        written = Image.open(tmp_path / "7.png")
        assert pixels_of(reply.body).tobytes() == np.asarray(written).tobytes()
        text = Image.open(io.BytesIO(reply.body)).info
        assert text["gan.model_sha256"] == written.info["gan.model_sha256"]
        assert text["gan.seed"] == "7"


def test_grid_and_walk_are_those_of_the_library(site: Site, models: Models) -> None:
    grid = site.get("/v1/grid.png?model=c&seeds=0-4,9&cols=3&captions=1&class=cat,7")
    expected = models["c"].grid([0, 1, 2, 3, 4, 9], labels=["cat", "7", "cat", "7", "cat", "7"], cols=3, captions=True)
    assert pixels_of(grid.body).tobytes() == np.asarray(expected).tobytes()
    walk = site.get("/v1/walk.webp?seeds=3,5&frames=6&scale=1")
    assert walk.headers["Content-Type"] == "image/webp"
    film: Any = Image.open(io.BytesIO(walk.body))
    frames = []
    for index in range(film.n_frames):
        film.seek(index)
        frames.append(np.asarray(film.convert("RGB")))
    assert np.array_equal(np.stack(frames), models["g"].walk([3, 5], 6))


def test_towards_another_seed(site: Site, models: Models) -> None:
    assert site.get("/v1/images/3.png?towards=5&step=0").body != site.get("/v1/images/5.png").body
    ends = models["g"].generate([3, 5])
    for step, end in ((0, ends[0]), (1, ends[1])):
        assert np.array_equal(pixels_of(site.get(f"/v1/images/3.png?towards=5&step={step}").body), end)
    half = models["g"].walk([3, 5], 4)[1]
    assert np.array_equal(pixels_of(site.get("/v1/images/3.png?towards=5&step=0.5").body), half)


def test_many_at_once_as_zip_and_as_json(site: Site, models: Models) -> None:
    expected = models["c"].generate([4, 2**53 - 1], labels=1)
    asked = {"model": "c", "seeds": [4, 2**53 - 1], "class": "T-shirt, red"}
    reply = site.post("/v1/images", asked | {"format": "zip"})
    archive = zipfile.ZipFile(io.BytesIO(reply.body))
    assert archive.namelist() == ["seed000004-class1.png", "seed9007199254740991-class1.png"]
    for name, pixels in zip(archive.namelist(), expected, strict=True):
        assert np.array_equal(pixels_of(archive.read(name)), pixels[..., 0])
    listed = site.post("/v1/images", asked).json
    assert listed["sha256"] == models["c"].sha256
    assert [entry["seed"] for entry in listed["images"]] == [4, 2**53 - 1]
    assert {(entry["class"], entry["class_name"]) for entry in listed["images"]} == {(1, "T-shirt, red")}
    assert np.array_equal(pixels_of(base64.b64decode(listed["images"][1]["png"])), expected[1, ..., 0])


def test_latents_in_the_place_of_seeds(site: Site, models: Models) -> None:
    z = models["g"].contract.interface.latents([11, 12])
    reply = site.post("/v1/images", {"latents": z.astype(float).tolist(), "scale": 2})
    drawn = [pixels_of(base64.b64decode(entry["png"])) for entry in reply.json["images"]]
    assert np.array_equal(np.stack(drawn)[:, ::2, ::2], models["g"].generate([11, 12]))


def test_a_repeated_seed_keeps_every_file(site: Site) -> None:
    reply = site.post("/v1/images", {"seeds": [1, 1, 1], "format": "zip"})
    assert len(set(zipfile.ZipFile(io.BytesIO(reply.body)).namelist())) == 3


def test_an_address_with_the_version_never_changes(site: Site, models: Models) -> None:
    version = site.get("/v1/models").json["models"][0]["version"]
    assert models["g"].sha256.startswith(version)
    plain, fixed = site.get("/v1/images/1.png"), site.get(f"/v1/images/1.png?v={version}")
    assert plain.body == fixed.body
    assert plain.headers["Cache-Control"] == "public, no-cache"
    assert "immutable" in fixed.headers["Cache-Control"]
    again = site.get("/v1/images/1.png", If_None_Match=plain.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    for other in ("/v1/images/2.png", "/v1/images/1.png?model=c", "/v1/images/1.png?truncation=1"):
        assert site.get(other, If_None_Match=plain.headers["ETag"]).status == 200
    assert site.get("/v1/images/1.png?v=deadbeef00").status == 404


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/images/-1.png", 422, "seeds are numbers"),
        ("/v1/images/1-2.png", 422, "one seed makes one image"),
        ("/v1/images/9007199254740992.png", 422, "seed must lie in"),
        ("/v1/images/" + "9" * 5000 + ".png", 422, "seed must lie in"),
        ("/v1/images/1.jpg", 404, "Not Found"),
        ("/v1/images/1.png?class=0", 422, "no classes"),
        ("/v1/images/1.png?model=c&class=dog", 422, "'dog' does not exist"),
        ("/v1/images/1.png?model=c&class=all", 422, "one class"),
        ("/v1/images/1.png?model=x", 404, "no model 'x'"),
        ("/v1/images/1.png?truncation=0", 422, "truncation must be"),
        ("/v1/images/1.png?truncation=nan", 422, "truncation must be"),
        ("/v1/images/1.png?truncation=1e400", 422, "truncation must be"),
        ("/v1/images/1.png?scale=0", 422, "scale must be"),
        ("/v1/images/1.png?scale=65", 422, "scale must be"),
        ("/v1/images/1.png?step=0.5", 422, "go together"),
        ("/v1/images/1.png?towards=2&step=2", 422, "step must be"),
        ("/v1/images/1.png?truncaton=1", 422, "not known here: truncaton"),
        ("/v1/images/1.png?scale=1&scale=2", 422, "given twice"),
        ("/v1/grid.png?seeds=5-4", 422, "runs backwards"),
        ("/v1/grid.png?seeds=", 422, "seeds are numbers"),
        ("/v1/grid.png?seeds=0-9&cols=0", 422, "cols must be"),
        ("/v1/grid.png?captions=yes", 422, "captions must be"),
        ("/v1/walk.webp?seeds=1", 422, "2 … 10000 seeds"),
        ("/v1/walk.webp?seeds=1-5&frames=3", 422, "5 … 1000000 frames"),
        ("/v1", 404, "Not Found"),
        ("/page/../server/app.py", 404, "Not Found"),
        ("/page/%2e%2e/server/app.py", 404, "Not Found"),
    ],
)
def test_wrong_addresses(site: Site, path: str, status: int, words: str) -> None:
    reply = site.get(path)
    assert reply.status == status
    assert words in reply.json["error"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b"[]", 400, "must be a JSON object"),
        (b"\xff\xfe", 400, "not JSON"),
        (b'{"seeds": [1e400]}', 400, "beyond what a number holds"),
        (b'{"seeds": [NaN]}', 400, "NaN is no number"),
        (b'{"seeds": ' + b"9" * 5000 + b"}", 400, "beyond what a number holds"),
        (b'{"latents": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "nested too deeply"),
        ({}, 422, "seeds or latents"),
        ({"seeds": [1], "latents": [[0.0] * 4]}, 422, "seeds or latents"),
        ({"seeds": []}, 422, "seeds must be"),
        ({"seeds": [True]}, 422, "seeds must be"),
        ({"seeds": [1.5]}, 422, "seeds must be"),
        ({"seeds": [-1]}, 422, "must lie in"),
        ({"seeds": {"a": 1}}, 422, "seeds must be"),
        ({"seeds": [1], "format": "tar"}, 422, "json or zip"),
        ({"seeds": [1], "format": 3}, 422, "format must be a text"),
        ({"seeds": [1], "extra": 1}, 422, "not known here: extra"),
        ({"seeds": [1], "class": {"a": 1}}, 422, "class must be"),
        ({"seeds": [1], "class": 10**19}, 422, "no classes"),
        ({"seeds": [1], "truncation": True}, 422, "truncation must be"),
        ({"seeds": [1], "truncation": [1]}, 422, "truncation must be"),
        ({"seeds": [1], "scale": 1.5}, 422, "scale must be"),
        ({"seeds": [1], "model": ["c"]}, 422, "model must be a text"),
        ({"latents": [[1, 2, 3]]}, 422, "lists of 4 numbers"),
        ({"latents": [[1, 2, 3, "4"]]}, 422, "lists of 4 numbers"),
        ({"latents": [[1, 2, 3, 1e39]]}, 422, "NaN or infinity"),
        ({"latents": [[1, 2, 3, 4]], "truncation": 1}, 422, "truncation is of seeds"),
    ],
)
def test_wrong_bodies(site: Site, body: Any, status: int, words: str) -> None:
    reply = site.post("/v1/images", body)
    assert reply.status == status
    assert words in reply.json["error"]


def test_the_models_and_the_pages(site: Site) -> None:
    g, c = site.get("/v1/models").json["models"]
    assert (g["name"], g["classes"], c["class_names"]) == ("g", 0, ["cat", "T-shirt, red", "7"])
    for path in ("/", "/docs", "/page/page.css", "/page/page.js", "/page/images.js"):
        reply = site.get(path)
        assert reply.status == 200
        assert "default-src 'self'" in reply.headers["Content-Security-Policy"]
        assert site.get(path, If_None_Match=reply.headers["ETag"] or "-").status in (200, 304)


def test_a_process_that_begins_to_count_does_not_disturb_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counter_1.db").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert Metrics().text() == b""


def test_metrics_count_what_was_done(site: Site) -> None:
    def counted(name: str) -> float:
        lines = site.get("/metrics").body.decode().splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(name)), 0.0)

    names = [
        'gan_inference_count_total{model="c"}',
        'gan_inference_request_success_total{model="c"}',
        'gan_inference_request_failure_total{model="c",reason="refused"}',
        'gan_inference_batch_size_sum{model="c"}',
    ]
    before = [counted(name) for name in names]
    assert site.get("/v1/grid.png?model=c&seeds=0-9").status == 200
    assert site.get("/v1/grid.png?model=c&seeds=0-9&scale=64&class=0").status == 200
    assert site.post("/v1/images", {"model": "c", "seeds": "0-511", "scale": 64}).status == 422
    after = [counted(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [20, 2, 1, 20]
    assert (
        'gan_http_requests_total{method="GET",route="/v1/grid.png",status="200"}' in site.get("/metrics").body.decode()
    )
