"""A generator with styles, served: psi and noise, walks from style to style, batches of one psi each."""

from __future__ import annotations

import base64
import concurrent.futures
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient import http as triton

from export.style_networks import save_weights
from gan_export import identify
from gan_export.answers import Answers
from gan_export.exporting import export_onnx
from gan_serve.runtime import runtimes
from gan_serve.runtime.generator import Generator
from gan_serve.server.served import Batching
from server.running import Site, running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = tmp_path_factory.mktemp("styles")
    source = identify.source_of(identify.identify(save_weights(folder / "g.pth"), Answers()))
    assert export_onnx(source, folder / "g.onnx").ok
    return runtimes.load(folder / "g.onnx", "cpu", 1)


@pytest.fixture(scope="module")
def styled(generator: Generator) -> Iterator[Site]:
    with running(("styled", generator), batching=Batching(delay_s=0.05)) as site:
        yield site


def pixels_of(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_psi_and_noise_are_the_librarys(styled: Site, generator: Generator) -> None:
    every: list[tuple[str, dict[str, Any]]] = [
        ("", {}), ("?psi=0.5", {"psi": 0.5}), ("?psi=0.7&noise=0", {"psi": 0.7, "noise": 0.0}),
        ("?psi=0.7&noise=seed", {"psi": 0.7, "noise": "seed"}),
    ]  # fmt: skip
    for query, settings in every:
        reply = styled.get(f"/v1/images/3.png{query}")
        assert np.array_equal(pixels_of(reply.body), generator.generate([3], **settings)[0])
    maps = generator.contract.interface.noise_maps
    assert maps is not None
    assert styled.get("/v1/models").json["models"][0]["noise_maps"] == {"size": maps.size, "law": maps.law}
    assert Image.open(io.BytesIO(styled.get("/v1/images/3.png?psi=0.5").body)).info["gan.psi"] == "0.5"
    assert styled.get("/v1/walk.webp?seeds=1,4&frames=4&noise=seed").status == 422
    assert styled.get("/v1/images/3.png?noise=loud").status == 422
    listed = styled.post("/v1/images", {"seeds": [1, 2], "psi": 0, "class": 1}).json["images"]
    first, second = (pixels_of(base64.b64decode(entry["png"])) for entry in listed)
    assert np.array_equal(first, second)
    assert np.array_equal(first, generator.generate([1], labels=1, psi=0.0)[0])


def test_requests_with_other_psi_do_not_mix(styled: Site, generator: Generator) -> None:
    every = [0.3, 0.6, 0.9] * 4
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda psi: styled.get(f"/v1/images/5.png?psi={psi}"), every))
    for psi, reply in zip(every, replies, strict=True):
        expected = generator.generate([5], psi=psi)[0].astype(int)
        assert np.abs(pixels_of(reply.body) - expected).max() <= 1  # of 12 in a batch, or of 4


def test_a_walk_goes_from_style_to_style(styled: Site, generator: Generator) -> None:
    film: Any = Image.open(io.BytesIO(styled.get("/v1/walk.webp?seeds=1,4&frames=4&scale=1&psi=0.8").body))
    expected = generator.walk([1, 4], 4, psi=0.8)
    for index in range(4):
        film.seek(index)
        difference = np.asarray(film.convert("RGB")).astype(int) - expected[index]
        assert np.abs(difference).max() <= 1


def test_the_protocol_takes_psi_as_a_parameter(styled: Site, generator: Generator) -> None:
    z = generator.contract.interface.latents([3])
    given = [triton.InferInput("z", z.shape, "FP32"), triton.InferInput("label", [1], "INT64")]
    given[0].set_data_from_numpy(z)
    given[1].set_data_from_numpy(np.array([1]))
    with triton.InferenceServerClient(f"127.0.0.1:{styled.port}") as client:
        pixels = client.infer("styled", given, parameters={"psi": 0.5}).as_numpy("pixels")
    assert np.array_equal(pixels, generator.generate([3], psi=0.5))


def asked(**shapes: tuple[list[int], Any]) -> list[dict[str, Any]]:
    """Inputs of the protocol in JSON, by name (shape, data)."""
    return [
        {"name": name, "shape": shape, "datatype": "INT64" if name == "label" else "FP32", "data": data}
        for name, (shape, data) in shapes.items()
    ]


def test_the_protocol_takes_and_gives_styles(styled: Site, generator: Generator) -> None:
    about = styled.get("/v2/models/styled").json
    assert [port["name"] for port in about["inputs"]] == ["z", "label", "w"]
    assert [port["name"] for port in about["outputs"]] == ["image", "pixels", "styles"]
    z, path = generator.contract.interface.latents([3, 4]), "/v2/models/styled/infer"
    label = triton.InferInput("label", [2], "INT64")
    label.set_data_from_numpy(np.array([1, 0]))
    latents = triton.InferInput("z", z.shape, "FP32")
    latents.set_data_from_numpy(z)
    outputs = [triton.InferRequestedOutput(name) for name in ("pixels", "styles")]
    with triton.InferenceServerClient(f"127.0.0.1:{styled.port}") as client:
        first = client.infer("styled", [latents, label], outputs=outputs, parameters={"psi": 0.5})
        styles = first.as_numpy("styles")
        w = triton.InferInput("w", styles.shape, "FP32")
        w.set_data_from_numpy(styles)
        again = client.infer("styled", [label, w])
    assert np.allclose(styles, generator.to_w([3, 4], [1, 0], psi=0.5), atol=1e-6)
    assert np.array_equal(first.as_numpy("pixels"), generator.generate([3, 4], [1, 0], psi=0.5))
    assert np.abs(again.as_numpy("pixels").astype(int) - first.as_numpy("pixels")).max() <= 1
    assert np.array_equal(again.as_numpy("styles"), styles)
    layers, size = styles.shape[1:]
    reply = styled.post(path, {"inputs": asked(label=([2], [1, 0]), w=(list(styles.shape), styles.tolist()))})
    found = {output["name"]: output for output in reply.json["outputs"]}
    assert found["styles"]["shape"] == [2, layers, size]
    assert found["pixels"]["data"] == again.as_numpy("pixels").reshape(-1).tolist()


def test_styles_that_do_not_fit(styled: Site, generator: Generator) -> None:
    z, path = generator.contract.interface.latents([3]), "/v2/models/styled/infer"
    of_z, label = ([1, z.shape[1]], z.tolist()), ([1], [0])
    w = generator.to_w([3], 0)
    of_w = (list(w.shape), w.tolist())
    for inputs, words in (
        (asked(z=of_z, label=label, w=of_w), "expected one of them"),
        (asked(label=label), "'z' is missing"),
        (asked(w=of_w), "'label' is missing"),
        (asked(w=([1, w.shape[2]], w[0, 0].tolist()), label=label), f"expected [n, {w.shape[1]}, {w.shape[2]}]"),
        (asked(w=([1, w.shape[1] + 1, w.shape[2]], w.tolist()), label=label), "unexpected shape"),
        (asked(w=(of_w[0], [1e39] * w.size), label=label), "beyond FP32"),
        (asked(w=([2, *w.shape[1:]], [0.5] * 2 * w.size), label=label), "different numbers of images"),
        (asked(styles=of_w, label=label), "unexpected input 'styles'"),
        (asked(psi=([1], [0.5]), z=of_z, label=label), "unexpected input 'psi'"),
    ):
        reply = styled.post(path, {"inputs": inputs})
        assert reply.status in (400, 422)
        assert words in reply.json["error"]


def test_a_model_without_styles_takes_no_w(site: Site) -> None:
    inputs = asked(w=([1, 4], [0, 0, 0, 0]))
    assert "unexpected input 'w'" in site.post("/v2/models/g/infer", {"inputs": inputs}).json["error"]
    wanted = {"inputs": asked(z=([1, 4], [0, 0, 0, 0])), "outputs": [{"name": "styles"}]}
    assert "unexpected output 'styles'" in site.post("/v2/models/g/infer", wanted).json["error"]


def test_what_is_out_of_range_or_not_there(styled: Site, site: Site) -> None:
    for path in ("/v1/images/1.png?psi=11", "/v1/images/1.png?psi=nan", "/v1/grid.png?noise=-20"):
        assert styled.get(path).status == 422
    assert "its truncation is psi" in styled.get("/v1/images/1.png?truncation=0.5").json["error"]
    assert "has no mapping network" in site.get("/v1/images/1.png?psi=0.5").json["error"]
    assert "adds no noise" in site.get("/v1/images/1.png?noise=0").json["error"]
    body = {"inputs": [], "parameters": {"psi": "half"}}
    assert "must be numbers" in styled.post("/v2/models/styled/infer", body).json["error"]
