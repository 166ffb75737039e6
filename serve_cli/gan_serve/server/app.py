"""The application: routes, and what every request passes (who may ask, errors as JSON, log, metrics)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route, Router

from gan_core import __version__
from gan_core.errors import GanportError
from gan_core.printable import printable
from gan_core.process import usable_cores
from gan_serve.server import openapi
from gan_serve.server.exchange import (
    CLIENT_GONE,
    Answer,
    Budget,
    ClientGoneError,
    Exchange,
    Limits,
    RefusedError,
    error_response,
    json_response,
    read_body,
    while_connected,
)
from gan_serve.server.images import Images
from gan_serve.server.inference import Inference
from gan_serve.server.metrics import Metrics
from gan_serve.server.served import GenerationFailedError, Served

_log = logging.getLogger(__name__)
access = logging.getLogger("gan_serve.server.access")
PAGE = Path(__file__).parents[1] / "page"
PAGE_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Handler = Callable[[Request], Awaitable[Response]]
BodyHandler = Callable[[Request, bytes], Awaitable[Response]]


class Server:
    """What is served, as an ASGI application (call it), and its state.

    models   in order; the first is served where a request names none
    hosts    names that a request's Host may have; None: any
    cores    that encode images; None: all there are
    draining whether no new work is taken, before the end
    """

    def __init__(
        self,
        models: Sequence[Served],
        limits: Limits,
        metrics: Metrics,
        hosts: frozenset[str] | None = None,
        cores: int | None = None,
    ) -> None:
        self.models = {served.name: served for served in models}
        if len(self.models) != len(models):
            raise GanportError("two models have the same name", hint="--model NAME=PATH names one")
        self.limits, self.metrics, self.hosts, self.cores = limits, metrics, hosts, cores or usable_cores()
        self.ready = self.draining = False
        self._bodies, self._requests = Budget(limits.bodies_bytes), Budget(limits.requests)
        self.routes = self._routes()
        self._lifecycle = Router(lifespan=self._lifespan)
        # A request should not cost more than its images: what is the same for many is found once.
        self._route = functools.lru_cache(256)(self._route_of)
        self._counted = functools.cache(metrics.http.labels)
        self._answered = functools.cache(metrics.success.labels)
        self._timed = functools.cache(metrics.request_s.labels)

    @property
    def busy(self) -> bool:
        """Whether images are under way."""
        return self._requests.held > 0

    def _routes(self) -> list[Route]:
        images, inference = Images(self.models), Inference(self.models)
        routes: list[tuple[str, str, Handler | BodyHandler, str]] = []
        for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [
                ("POST", f"{path}/infer", inference.infer, "body"),
                ("GET", path, inference.model, "plain"),
                ("GET", f"{path}/ready", self._model_ready(inference.model_ready), "plain"),
            ]
        routes += [
            ("GET", "/", self._page("page.html"), "plain"),
            *(
                ("GET", f"/page/{file.name}", self._page(file.name), "plain")
                for file in sorted(PAGE.iterdir())
                if file.suffix in PAGE_TYPES
            ),
            ("GET", "/docs", self._docs, "plain"),
            ("GET", "/openapi.json", self._openapi, "plain"),
            ("GET", "/metrics", self._metrics, "plain"),
            ("GET", "/v1/models", images.list, "plain"),
            ("GET", "/v1/images/{seed}.png", images.one, "work"),
            ("GET", "/v1/grid.png", images.grid, "work"),
            ("GET", "/v1/walk.webp", images.walk, "work"),
            ("POST", "/v1/images", images.post, "body"),
            ("GET", "/v2", inference.server, "plain"),
            ("GET", "/v2/health/live", self._live, "plain"),
            ("GET", "/v2/health/ready", self._readiness, "plain"),
        ]
        return [
            Route(path, self._endpoint(path, handler, kind), methods=[method]) for method, path, handler, kind in routes
        ]

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        # For encoding: as many at a time as there are cores, the rest waits.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(self.cores, "encode"))
        for served in self.models.values():
            await served.open()
        self.ready = True
        self.metrics.workers.set(1)
        try:
            yield
        finally:
            self.ready = False
            for served in self.models.values():
                await served.close()

    def _endpoint(self, path: str, handler: Any, kind: str) -> Handler:
        """`handler` with what its kind needs: "plain" answers at once, "work" generates images, "body" also reads."""

        async def call(request: Request) -> Response:
            exchange = Exchange.of(request)
            exchange.route = path
            try:
                if kind == "plain":
                    response: Response = await handler(request)
                    return response
                if self.draining or not self.ready:
                    raise RefusedError(503, "the server is stopping or starting", Retry_After="5", Connection="close")
                self._requests.take(1, exchange, "requests", 503)
                work = [await read_body(request, self.limits, self._bodies)] if kind == "body" else []
                return await while_connected(request, handler(request, *work))
            except GanportError as error:
                return error_response(error)
            except ClientGoneError:
                raise
            except Exception as error:
                cause = error.__cause__ if isinstance(error, GenerationFailedError) else error
                _log.error("%s %s failed: %s", request.method, path, printable(repr(cause)), exc_info=cause)
                return json_response({"error": "the model failed on this request; the server's log says how"}, 500)

        return call

    def _route_of(self, method: str, path: str) -> tuple[Handler, dict[str, Any]]:
        """The endpoint of an address, and the parameters in its path. Raises `RefusedError` where there is none."""
        allowed: set[str] = set()
        for route in self.routes:
            match, found = route.matches({"type": "http", "method": method, "path": path, "root_path": ""})
            if match is Match.FULL:
                return route.endpoint, found["path_params"]
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        if allowed:
            raise RefusedError(405, "Method Not Allowed", Allow=", ".join(sorted(allowed)))
        raise RefusedError(404, "Not Found", "see /docs")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._lifecycle(scope, receive, send)
            return
        began, status, sent = time.perf_counter(), CLIENT_GONE, 0
        exchange = scope["exchange"] = Exchange(headers=dict(scope["headers"]))
        scope["patience_s"] = self.limits.patience_s

        async def noted(message: Any) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_POLICY]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            try:
                _check_sender(scope["method"], exchange.headers, self.hosts)
                endpoint, scope["path_params"] = self._route(scope["method"], scope["path"])
                response = await endpoint(Request(scope, receive))
            except RefusedError as error:
                response = error_response(error)
            await response(scope, receive, noted)
        except ClientGoneError:
            status = CLIENT_GONE
        finally:
            for give_back in exchange.release:
                give_back()
            self._note(scope, exchange, status, sent, time.perf_counter() - began)

    def _note(self, scope: Any, exchange: Exchange, status: int, sent: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
        self._counted(method, exchange.route, status).inc()
        if exchange.model and status != 304:
            self._timed(exchange.model).observe(seconds)
            if status < 400:
                self._answered(exchange.model).inc()
            else:
                self.metrics.failure.labels(exchange.model, _REASONS.get(status, "refused")).inc()
        if access.isEnabledFor(logging.INFO):
            fields: dict[str, Any] = {
                "client": (scope.get("client") or ("",))[0],
                "method": scope["method"],
                "path": scope.get("raw_path", b"").decode("latin-1"),
                "query": scope.get("query_string", b"").decode("latin-1"),
                "status": status,
                "ms": round(1000 * seconds, 2),
                "bytes": sent,
            }
            if exchange.model:
                fields |= {"model": exchange.model, "images": exchange.images}
            text = f"{fields['client']} {fields['method']} {fields['path']} {status} {fields['ms']} ms"
            access.info("%s", printable(text), extra={"fields": fields})

    def _page(self, name: str) -> Handler:
        file = PAGE / name

        async def page(request: Request) -> Response:
            tag = f'"{__version__}-{file.stat().st_mtime_ns:x}"'
            headers = {"ETag": tag, "Cache-Control": "no-cache"}
            if tag in request.headers.get("if-none-match", ""):
                return Response(status_code=304, headers=headers)
            return Answer(file.read_bytes(), headers=headers, media_type=PAGE_TYPES[file.suffix])

        return page

    async def _docs(self, _: Request) -> Response:
        return Answer(openapi.page(openapi.document(self.limits, list(self.models))).encode(), media_type="text/html")

    async def _openapi(self, _: Request) -> Response:
        return json_response(openapi.document(self.limits, list(self.models)))

    async def _metrics(self, _: Request) -> Response:
        return Answer(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _live(self, _: Request) -> Response:
        return json_response({"live": True})

    async def _readiness(self, _: Request) -> Response:
        ready = self.ready and not self.draining
        return json_response({"ready": ready}, 200 if ready else 503)

    def _model_ready(self, handler: Handler) -> Handler:
        async def call(request: Request) -> Response:
            if not self.ready or self.draining:
                raise RefusedError(503, "the server is stopping or starting", Retry_After="5")
            return await handler(request)

        return call


_POLICY = [(name.lower().encode(), value.encode()) for name, value in POLICY.items()]
_REASONS = {429: "queue", 503: "queue", CLIENT_GONE: "canceled", 500: "backend"}


def _check_sender(method: str, headers: Mapping[bytes, bytes], hosts: frozenset[str] | None) -> None:
    """Refuses a page of another site by POST, and who knows the server by a name that is not its own."""
    host = headers.get(b"host", b"").decode("latin-1")
    if hosts is not None and not _is_ours(host, hosts):
        raise RefusedError(403, "this server does not answer to that Host", "gan-serve --allow-host NAME adds a name")
    origin = headers.get(b"origin")
    if method not in ("GET", "HEAD") and origin is not None:
        named = origin.decode("latin-1")
        if "//" not in named or named.split("//", 1)[1].lower() != host.lower():
            raise RefusedError(403, "a page of another site asks")


@functools.lru_cache(256)
def _is_ours(host: str, hosts: frozenset[str]) -> bool:
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name in hosts:
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return False
