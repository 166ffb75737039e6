"""The OpenAPI document of the server, and a page of it for people."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from gan_core import __version__
from gan_core.latents import MIN_TRUNCATION
from gan_serve.server.exchange import Limits

_ERROR = {"description": "An error: a sentence, and what to do", "content": {
    "application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}  # fmt: skip
_REFUSALS = {
    400: "Malformed", 403: "Another site, or another Host", 404: "Unknown", 405: "Method", 408: "Too slow",
    413: "Too large", 415: "Encoding", 422: "Out of range", 429: "Busy: try again", 503: "Stopping: try again",
}  # fmt: skip


def document(limits: Limits, models: Sequence[str]) -> dict[str, Any]:
    """OpenAPI 3.1, of these limits and models."""
    one_of_them = {"type": "string", "enum": list(models)}
    seed = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
    seeds = {"type": "string", "pattern": "^[0-9]{1,15}(-[0-9]{1,15})?(,[0-9]{1,15}(-[0-9]{1,15})?)*$"}
    noise = {"anyOf": [{"type": "number", "minimum": -10, "maximum": 10}, {"const": "seed"}]}
    common = [
        _query("class", {"type": "string"}, "A class by index or name, several with commas (in turn), or all"),
        _query("truncation", {"type": "number", "minimum": MIN_TRUNCATION, "maximum": 1e6}, "Bound on |z|"),
        _query("psi", {"type": "number", "minimum": -10, "maximum": 10}, "Truncation of generators with styles"),
        _query("noise", noise, "What their noise is multiplied by, or noise of its own for each seed"),
        _query("scale", {"type": "string", "pattern": "^(auto|[1-9]|[1-5][0-9]|6[0-4])$"}, "How many times as large"),
        _query("model", one_of_them, "A model by name; the first where it is left out"),
        _query("v", {"type": "string"}, "The model's version (GET /v1/models): the answer may be kept for ever"),
    ]
    picture = {"type": "string", "format": "binary"}
    png, webp = {"image/png": {"schema": picture}}, {"image/webp": {"schema": picture}}
    asked = {
        "type": "object",
        "additionalProperties": False,
        "oneOf": [{"required": ["seeds"]}, {"required": ["latents"]}],
        "properties": {
            "seeds": {"anyOf": [{"type": "array", "items": seed, "minItems": 1, "maxItems": limits.images}, seeds]},
            "latents": {
                "type": "array", "minItems": 1, "items": {"type": "array", "items": {"type": "number"}},
                "description": "In place of seeds: lists of z_dim numbers",
            },
            "class": {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "array"}]},
            "truncation": {"type": "number", "minimum": MIN_TRUNCATION, "maximum": 1e6},
            "psi": {"type": "number", "minimum": -10, "maximum": 10},
            "noise": noise,
            "scale": {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 64}]},
            "format": {"enum": ["json", "zip"]},
            "model": one_of_them,
        },
    }  # fmt: skip
    tensors = {"application/json": {"schema": {"$ref": "#/components/schemas/Infer"}},
               "application/octet-stream": {"schema": picture}}  # fmt: skip
    body = {"required": True, "content": {"application/json": {"schema": asked}, "image/png": {"schema": picture}}}
    infer = {"required": True, "content": tensors}
    to, step = {"type": "string", "pattern": "^[0-9]{1,15}$"}, {"type": "number", "minimum": 0, "maximum": 1}
    paths = {
        "/v1/models": {"get": _about("The models and their limits")},
        "/v1/images/{seed}.png": {"get": _about("The image of a seed", png, [
            _in_path("seed", seed, "The number of the image"), *common,
            _query("towards", to, "With step: an image on the way to that of this seed"),
            _query("step", step, "The part of the way")])},
        "/v1/grid.png": {"get": _about("Images in rows", png, [
            _query("seeds", seeds, "Seeds and ranges: 0-24"),
            _query("cols", {"type": "integer", "minimum": 1}, "Images in a row"),
            _query("captions", {"enum": [0, 1]}, "1: classes or seeds under the images"), *common])},
        "/v1/walk.webp": {"get": _about("A loop through the images of seeds", webp, [
            _query("seeds", seeds, "At least two"),
            _query("frames", {"type": "integer", "minimum": 2}, "40 from seed to seed where left out"), *common])},
        "/v1/images": {"post": _about("Images of seeds or latents, or what a model makes of a picture", {
            "application/json": {"schema": {"type": "object"}}, "application/zip": {"schema": picture}, **png}, [
            _query("model", one_of_them, "With a picture as the body: the model that takes it"),
            _query("resize", {"enum": [0, 1]}, "1: resize the picture for a model of one size")], body)},
        "/v2": {"get": _about("The server, by the Open Inference Protocol")},
        "/v2/health/live": {"get": _about("Whether it runs")},
        "/v2/health/ready": {"get": _about("Whether it takes requests")},
        "/metrics": {"get": _about("Prometheus' metrics", {"text/plain": {}})},
    }  # fmt: skip
    model = _in_path("model", one_of_them, "A model by name (GET /v1/models)")
    version = _in_path("version", {"type": "string", "enum": ["1"]}, "1: a file is one version")
    for path, named in (("/v2/models/{model}", [model]), ("/v2/models/{model}/versions/{version}", [model, version])):
        paths[path] = {"get": _about("The model's inputs and outputs", parameters=named)}
        paths[f"{path}/ready"] = {"get": _about("Whether the model takes requests", parameters=named)}
        paths[f"{path}/infer"] = {"post": _about("Images of latents, as tensors", tensors, named, infer)}
    tensor = {"type": "object", "required": ["name", "shape", "datatype"], "properties": {
        "name": {"type": "string"}, "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"enum": ["FP32", "INT64", "UINT8"]}, "data": {"type": "array"},
        "parameters": {"type": "object"}}}  # fmt: skip
    schemas = {
        "Error": {"type": "object", "required": ["error"], "properties": {
            "error": {"type": "string"}, "hint": {"type": "string"}}},
        "Infer": {"type": "object", "properties": {
            "id": {"type": "string"}, "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": tensor}, "outputs": {"type": "array", "items": {"type": "object"}}}},
    }  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": "gan-serve", "version": __version__, "description": "Images of a generator, by seed."},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _query(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def _in_path(name: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return _query(name, schema, text) | {"in": "path", "required": True}


def _about(
    text: str,
    content: dict[str, Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    answer = {"description": text, "content": content or {"application/json": {}}}
    refusals = {str(status): _ERROR | {"description": meaning} for status, meaning in _REFUSALS.items()}
    said: dict[str, Any] = {
        "summary": text,
        "responses": {"200": answer, "304": {"description": "As before"}} | refusals,
    }
    if parameters:
        said["parameters"] = parameters
    if body:
        said["requestBody"] = body
    return said


def page(found: dict[str, Any]) -> str:
    """The paths and their parameters, as HTML without scripts."""
    escaped = html.escape
    parts = []
    for path, methods in found["paths"].items():
        for method, about in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escaped(path)}</code></h2><p>{escaped(about['summary'])}</p>")
            named = [(each["name"], each.get("description", "")) for each in about.get("parameters", [])]
            rows = "".join(f"<dt><code>{escaped(name)}</code></dt><dd>{escaped(text)}</dd>" for name, text in named)
            parts.append(f"<dl>{rows}</dl>" if rows else "")
    return _PAGE.replace("PATHS", "".join(parts))


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>gan-serve: addresses</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/page/page.css">
<main class="docs">
<h1>Addresses</h1>
<p><a href="/">Images</a> · <a href="/openapi.json">OpenAPI</a></p>
PATHS
</main>
</html>
"""
