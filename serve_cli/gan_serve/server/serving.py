"""The process that serves: its socket, its HTTP protocol with limits on headers, its log, and how it stops."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import Any, NoReturn, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gan_core.errors import GanportError
from gan_serve.server import app

HEADER_BYTES = 1 << 15
KEEP_ALIVE_S = 30
_FILES = 1 << 16


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with bounds on the size of a request's head and on the time that it takes to arrive.

    A request's scope has `abort`, which ends the connection, `gone`: what is called when the client has ended it,
    `flow.write_paused`: whether so much is to be sent that an answer has to wait, and `whole`, when all of it is there.
    """

    _clock: Any = None
    _head = 0
    _hosts = 0
    _wrong = ""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._gone: set[Callable[[], None]] = set()
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)
        for tell in list(self._gone):
            tell()

    def on_message_begin(self) -> None:
        self._begin()
        super().on_message_begin()
        cast("dict[str, Any]", self.scope).update(abort=self.transport.abort, gone=self._gone, flow=self.flow)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        if name.lower() == b"host":
            self._hosts += 1
            if self._hosts > 1:
                self._refuse("the request has two Hosts")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._end()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        cast("dict[str, Any]", self.scope)["whole"] = True
        super().on_message_complete()

    def _begin(self) -> None:
        self._end()
        self._head = self._hosts = 0
        self._clock = self.loop.call_later(KEEP_ALIVE_S, self.transport.abort)

    def _end(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _count(self, size_bytes: int) -> None:
        self._head += size_bytes
        if self._head > HEADER_BYTES:
            self._refuse(f"the address and headers are larger than {HEADER_BYTES} bytes")

    def _refuse(self, text: str) -> NoReturn:
        self._wrong = text
        raise ValueError  # httptools makes a parser's error of it, which uvicorn answers with 400

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade to WebSockets is not followed, as HTTP allows; clients do not fill the log with it."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """As other errors are sent: as JSON."""
        body = json.dumps({"error": self._wrong or "this is not a request of HTTP/1.1"}).encode()
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        self.transport.write(head + b"connection: close\r\n\r\n" + body)
        self.transport.close()


class _Uvicorn(uvicorn.Server):
    """Stops on SIGTERM and Ctrl-C when the work that it has is done, or `grace_s` are over; a second one does not wait.

    Until then it goes on to answer, that it is not ready. A worker is one of several, and has to call `ready` when it
    serves: its second signal is from another sender, such as systemd, and to kill it is up to who started it.
    """

    def __init__(
        self, config: uvicorn.Config, server: app.Server, grace_s: float, ready: Callable[[], None] | None
    ) -> None:
        super().__init__(config)
        self._server, self._grace_s, self._until, self._ready = server, grace_s, 0.0, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._server.draining:
            if self._ready is None:
                self.should_exit = self.force_exit = True
            return
        self._until = time.monotonic() + self._grace_s
        self._server.draining = True

    async def on_tick(self, counter: int) -> bool:
        if self._server.draining and (not self._server.busy or time.monotonic() >= self._until):
            self.should_exit = True
        return await super().on_tick(counter)


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that listens when it is served, not before: nobody is kept waiting while models are loaded.

    shared  whether other processes of the user may listen on the same address, so that Linux divides connections
            among them: of one socket that several accept from, one process may get nearly all

    Raises `GanportError` where the address cannot be had.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as failing:
            bound = failing.enter_context(socket.socket(family, kind, number))
            if os.name == "posix":  # otherwise a port could not be had again for minutes
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind(address)
            failing.pop_all()
            return bound
    except (OSError, OverflowError, UnicodeError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise GanportError(
            f"cannot listen on {host}, port {port}: {said}", hint="another `port`; 0 takes any that is free"
        ) from error


def serve(server: app.Server, bound: socket.socket, grace_s: float, ready: Callable[[], None] | None = None) -> None:
    """Serves until a signal comes; `ready` is for a worker (`_Uvicorn`)."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # each connection is an open file
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, _FILES)), hard))
    sys.setswitchinterval(0.001)  # s: the event loop gets Python's lock soon from a thread that encodes
    uvicorn_server(server, grace_s, ready).run([bound])


def uvicorn_server(server: app.Server, grace_s: float, ready: Callable[[], None] | None = None) -> uvicorn.Server:
    """What `serve` runs."""
    config = uvicorn.Config(
        server,
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    return _Uvicorn(config, server, grace_s, ready)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": record.levelname}
        fields = getattr(record, "fields", None)
        line |= (
            {"event": "message", "message": record.getMessage()} if fields is None else {"event": "request"} | fields
        )
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(line)


@contextlib.contextmanager
def log_lines(*, as_json: bool, quiet: bool) -> Iterator[None]:
    """Within, each request is a line on stderr (not with `quiet`); with `as_json` everything that is logged is JSON."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(_JsonLines() if as_json else logging.Formatter("%(message)s"))
    notes = logging.getLogger("gan_serve")
    others = logging.getLogger("uvicorn")
    before = [(logger, logger.handlers[:], logger.propagate) for logger in (notes, others, app.access)]
    if as_json:
        notes.handlers[:] = [stream]
    others.handlers[:], others.propagate = notes.handlers, False
    app.access.handlers[:], app.access.propagate = [stream], False
    app.access.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers[:], logger.propagate = handlers, propagate
        app.access.setLevel(logging.NOTSET)
