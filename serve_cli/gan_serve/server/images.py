"""`/v1`: pictures for people. An address says all of a picture, and with the model's version (`v`) it never changes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from gan_core import __version__
from gan_core.arrays import F32, U8
from gan_core.grids import MAX_SCALE, Canvas, auto_scale, enlarged, grid_shape
from gan_core.images import encode_batch, encode_png, text_chunks
from gan_core.interface import parse_classes
from gan_core.latents import MIN_TRUNCATION, Seeds, parse_seeds
from gan_serve.runtime.animation import SEEN_ALONE, write_frames
from gan_serve.runtime.plan import LatentPlan, Plan, SeedPlan, WalkPlan, pictures
from gan_serve.runtime.styles import MAX_PSI, SEED
from gan_serve.runtime.walk import FRAMES_PER_SEED, Walk, between
from gan_serve.server.batching import Options
from gan_serve.server.exchange import (
    Answer,
    Exchange,
    RefusedError,
    at_once_or_aside,
    json_response,
    parsed,
)
from gan_serve.server.served import Served, check_few, check_length, check_pixels, transform

FOR_EVER = "public, max-age=31536000, immutable"
AGAIN = "public, no-cache"
_MOST_FIELDS = 100
Models = Mapping[str, Served]


class Fields:
    """The values of a query or of a JSON object, each taken once; `done` refuses those that nobody took."""

    def __init__(self, values: Sequence[tuple[str, Any]]) -> None:
        if len(values) > _MOST_FIELDS:
            raise RefusedError(422, f"{len(values)} parameters, the most is {_MOST_FIELDS}", "see /docs")
        self._values = dict(values)
        if len(self._values) != len(values):
            raise RefusedError(422, "a parameter is given twice")

    def take(self, name: str) -> Any:
        return self._values.pop(name, None)

    def text(self, name: str) -> str | None:
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise RefusedError(422, f"{name} must be a text")
        return value

    def whole(self, name: str, low: int, high: int) -> int | None:
        value = self.take(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 18:
            value = int(value)
        if value is not None and (type(value) is not int or not low <= value <= high):
            raise RefusedError(422, f"{name} must be a whole number in {low} … {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        value = self.take(name)
        try:
            found = None if value is None or isinstance(value, bool) else float(value)
        except (ValueError, TypeError, OverflowError):
            found = float("nan")
        if (value is not None and found is None) or (found is not None and not low <= found <= high):
            raise RefusedError(422, f"{name} must be a number in {low:g} … {high:g}")
        return found

    def classes(self, served: Served) -> tuple[int, ...]:
        """Of `class`: an index, a name, several with commas, or a list of them."""
        value = self.take("class")
        values = [] if value is None else value if isinstance(value, list) else [value]
        if not all(type(each) in (int, str) for each in values) or len(values) > served.limits.images:
            raise RefusedError(422, "class must be an index, a name, or a list of them")
        texts = [str(each) for each in values]
        check_length("class", sum(map(len, texts)), served.limits)
        return parse_classes(texts, served.interface)

    def seeds(self, served: Served) -> Seeds | None:
        value = self.take("seeds")
        if value is None:
            return None
        if isinstance(value, str):
            check_length("seeds", len(value), served.limits)
            return parse_seeds(value)
        values = value if isinstance(value, list) else [value]
        if not values or len(values) > served.limits.images or not all(type(each) is int for each in values):
            raise RefusedError(422, f"seeds must be 1 … {served.limits.images} whole numbers, or a text such as 0,4-6")
        return Seeds.of(values)

    def scale(self) -> int | None:
        """None: auto."""
        value = self.take("scale")
        if value in (None, "auto"):
            return None
        self._values["scale"] = value
        return self.whole("scale", 1, MAX_SCALE)

    def truncation(self) -> float | None:
        return self.number("truncation", MIN_TRUNCATION, 1e6)

    def options(self, served: Served) -> Options:
        """psi and noise, a number or "seed"."""
        noise = self.take("noise") if self._values.get("noise") == SEED else self.number("noise", -MAX_PSI, MAX_PSI)
        return served.options(self.number("psi", -MAX_PSI, MAX_PSI), noise)

    def flag(self, name: str) -> bool:
        return bool(self.whole(name, 0, 1))

    def done(self) -> None:
        if self._values:
            known = ", ".join(sorted(self._values))[:80]
            raise RefusedError(422, f"not known here: {known}", "see /docs")


class Images:
    """The handlers of `/v1`. `models` by name; the first is served where a request names none."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def _served(self, fields: Fields) -> Served:
        name = fields.text("model")
        if name is None:
            return next(iter(self._models.values()))
        if name not in self._models:
            raise RefusedError(404, f"there is no model {name[:100]!r}", "GET /v1/models lists them")
        return self._models[name]

    def _asked(self, request: Request) -> tuple[Fields, Served, bool]:
        """The query, the model, and whether the address names its version."""
        fields = Fields(request.query_params.multi_items())
        served, version = self._served(fields), fields.text("v")
        if version is not None and (len(version) < 8 or not served.generator.sha256.startswith(version)):
            raise RefusedError(404, f"another version of {served.name} is served", "leave v out for the one that is")
        return fields, served, version is not None

    async def list(self, _: Request) -> Response:
        return json_response({"models": [served.about() for served in self._models.values()]})

    async def one(self, request: Request) -> Response:
        """`/v1/images/{seed}.png`; with `towards` and `step`, an image on the way to another seed's."""
        fields, served, fixed = self._asked(request)
        seed = _seed(request.path_params["seed"])
        classes, truncation, options = fields.classes(served), fields.truncation(), fields.options(served)
        scale = fields.scale() or 1
        towards, step = fields.text("towards"), fields.number("step", 0, 1)
        fields.done()
        if len(classes) > 1 or (towards is None) != (step is None):
            raise RefusedError(422, "an image has one class; towards and step go together")
        plan: Plan = SeedPlan(served.generator.contract, Seeds.of([seed]), classes, truncation)
        text = _text(served, options) | plan.text(0)
        if towards is not None and step is not None:
            ends = served.interface.latents([seed, _seed(towards)], truncation)
            z = between(ends[:1], ends[1:], np.array([step]), served.interface.latent)
            label = plan.labels(0, 1)
            own = () if label is None else label.tolist()
            plan = LatentPlan(served.generator.contract, z, "steps", own)
            text |= {"gan.towards": towards, "gan.step": f"{step:g}"}

        async def made() -> bytes:
            pixels = await served.draw_plan(plan, options)
            return await at_once_or_aside(
                pixels.size * scale * scale, lambda: encode_png(enlarged(pixels[0], scale), text)
            )

        return await _cached(request, served, fixed, 1, scale, "image/png", made)

    async def grid(self, request: Request) -> Response:
        """`/v1/grid.png`."""
        fields, served, fixed = self._asked(request)
        seeds = fields.seeds(served) or parse_seeds("0-24")
        classes, truncation, options = fields.classes(served), fields.truncation(), fields.options(served)
        scale = fields.scale()
        cols, captioned = fields.whole("cols", 1, served.limits.images), fields.flag("captions")
        fields.done()
        check_few(len(seeds), served.limits)
        plan = SeedPlan(served.generator.contract, seeds, classes, truncation)
        image = served.interface.image
        scale = scale or auto_scale(plan.n, image, cols, captioned=captioned)
        rows, columns = grid_shape(plan.n, image[1] * scale, image[2] * scale, cols)
        text = _text(served, options) | plan.describe()

        def encoded(pixels: U8) -> bytes:
            canvas = Canvas(plan.n, image, cols, scale=scale, captioned=captioned)
            return encode_png(next(pictures(plan, canvas, [pixels], captioned=captioned)), text)

        async def made() -> bytes:
            pixels = await served.draw_plan(plan, options)
            return await at_once_or_aside(pixels.size * scale * scale, lambda: encoded(pixels))

        check_pixels(rows * columns * (image[1] * scale + 20) * (image[2] * scale + 4), served.limits)
        return await _cached(request, served, fixed, plan.n, scale, "image/png", made)

    async def walk(self, request: Request) -> Response:
        """`/v1/walk.webp`."""
        fields, served, fixed = self._asked(request)
        seeds = fields.seeds(served) or parse_seeds("0-2")
        classes, truncation, options = fields.classes(served), fields.truncation(), fields.options(served)
        scale = fields.scale()
        frames = fields.whole("frames", 2, 1_000_000)
        fields.done()
        check_few(FRAMES_PER_SEED * len(seeds) if frames is None else max(frames, len(seeds)), served.limits)
        contract, mixed = served.generator.contract, served.generator.mixes_classes
        way = partial(Walk, served.interface, seeds, frames, classes, truncation, mixed=mixed)
        walk = way()
        scale = scale or auto_scale(1, served.interface.image, side=SEEN_ALONE)

        def encoded(pixels: U8) -> bytes:
            file = io.BytesIO()
            write_frames(file, (enlarged(frame, scale) for frame in pixels), "WEBP")
            return file.getvalue()

        async def made() -> bytes:
            walked, given = walk, options
            if served.interface.styles is not None:  # the styles have psi in them
                to_w = served.generator.with_options(psi=options[0]).to_w
                walked, given = await asyncio.to_thread(lambda: way(to_w=to_w)), (None, options[1])
            pixels = await served.draw_plan(WalkPlan(contract, walked, seeds, classes), given)
            return await at_once_or_aside(1 << 30, lambda: encoded(pixels))

        return await _cached(request, served, fixed, len(walk), scale, "image/webp", made)

    async def post(self, request: Request, body: bytes) -> Response:
        """`POST /v1/images`: many images at once, from seeds or latents, as a zip or as base64 in JSON.

        With a picture as its body, what a model that takes images makes of it, as PNG.
        """
        kind = request.headers.get("content-type", "")
        if kind.startswith("multipart/"):
            raise RefusedError(415, "a form is not read", "send the picture, or the JSON, itself: curl --data-binary")
        if kind.startswith(("image/", "application/octet-stream")):
            fields = Fields(request.query_params.multi_items())
            served, resize = self._served(fields), fields.flag("resize")
            fields.done()
            return Answer(await transform(served, request, body, resize=resize), media_type="image/png")
        fields = Fields(list((await at_once_or_aside(len(body), lambda: parsed(body))).items()))
        served = self._served(fields)
        seeds, latents = fields.seeds(served), fields.take("latents")
        classes, truncation, options = fields.classes(served), fields.truncation(), fields.options(served)
        scale = fields.scale() or 1
        kind = fields.text("format") or "json"
        fields.done()
        if kind not in ("json", "zip"):
            raise RefusedError(422, "format must be json or zip")
        if (seeds is None) == (latents is None):
            raise RefusedError(422, "give seeds or latents, one of them")
        contract = served.generator.contract
        plan: Plan
        if served.interface.input is not None:
            raise RefusedError(
                422, f"{served.name} takes {served.interface.taken}", "post a picture: Content-Type: image/png"
            )
        if seeds is not None:
            check_few(len(seeds), served.limits)
            plan = SeedPlan(contract, seeds, classes, truncation)
        elif truncation is not None:
            raise RefusedError(422, "truncation is of seeds, latents are taken as they are")
        else:
            plan = LatentPlan(contract, _latents(latents, served), "latents", classes)
        served.admit(plan.n, Exchange.of(request), scale)
        pixels = await served.draw_plan(plan, options)
        encode = _zipped if kind == "zip" else _listed
        return await at_once_or_aside(
            pixels.size * scale * scale, lambda: encode(served, plan, _pngs(served, plan, pixels, scale, options))
        )


def _seed(text: str) -> int:
    seeds = parse_seeds(text)
    if len(seeds) != 1:
        raise RefusedError(422, "one seed makes one image", "GET /v1/grid.png takes several")
    return seeds[0]


def _latents(value: Any, served: Served) -> F32:
    z_dim, most = served.interface.z_dim, served.limits.images
    wrong = RefusedError(422, f"latents must be 1 … {most} lists of {z_dim} numbers")
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise wrong
    if not all(isinstance(row, list) and len(row) == z_dim for row in value):
        raise wrong
    if not all(type(number) in (int, float) for row in value for number in row):
        raise wrong
    with np.errstate(over="ignore"):
        z: F32 = np.array(value, np.float64).astype(np.float32)
    return z


def _text(served: Served, options: Options) -> dict[str, str]:
    """What the PNG file of any image says."""
    shown = {"Software": f"ganport {__version__}", "gan.model_sha256": served.generator.sha256}
    named = zip(("gan.psi", "gan.noise"), options, strict=True)
    return shown | {k: v if isinstance(v, str) else f"{v:g}" for k, v in named if v is not None}


def _pngs(served: Served, plan: Plan, pixels: U8, scale: int, options: Options) -> list[bytes]:
    common = text_chunks(_text(served, options))
    return encode_batch(enlarged(pixels, scale), [common + text_chunks(plan.text(index)) for index in range(plan.n)])


def _zipped(_: Served, plan: Plan, files: Sequence[bytes]) -> Response:
    file, names = io.BytesIO(), [plan.stem(index) for index in range(plan.n)]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for index, data in enumerate(files):
            again = names.index(names[index]) != index
            name = f"{index:06d}-{names[index]}" if again else names[index]
            archive.writestr(zipfile.ZipInfo(f"{name}.png"), data)
    return Answer(file.getvalue(), media_type="application/zip")


def _listed(served: Served, plan: Plan, files: Sequence[bytes]) -> Response:
    labels, listed = plan.labels(0, plan.n), []
    for index, data in enumerate(files):
        kind, number = plan.number(index)
        entry: dict[str, Any] = {kind: int(number)}
        if labels is not None:
            entry["class"] = int(labels[index])
            if served.interface.class_names:
                entry["class_name"] = served.interface.class_names[labels[index]]
        listed.append(entry | {"png": base64.b64encode(data).decode("ascii")})
    return json_response({"model": served.name, "sha256": served.generator.sha256, "images": listed})


async def _cached(
    request: Request, served: Served, fixed: bool, n: int, scale: int, media_type: str, made: Callable[[], Any]
) -> Response:
    """What `made` makes, or 304 where the client has it. `fixed`: the address names the model's version."""
    query = sorted(pair for pair in request.query_params.multi_items() if pair[0] != "v")
    named = repr((__version__, served.generator.sha256, request.url.path, query))
    tag = f'"{hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": FOR_EVER if fixed else AGAIN}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    served.admit(n, Exchange.of(request), scale)
    return Answer(await made(), headers=headers, media_type=media_type)
