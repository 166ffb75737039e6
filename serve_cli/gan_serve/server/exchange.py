"""One request and its answer: limits, errors as JSON, bodies that are read within bounds, answers that are sent so.

What a request may cost is decided before it is paid: a body is cut off while it arrives, images are counted before
their latents are made.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from gan_core.errors import GanportError

T = TypeVar("T")

CLIENT_GONE = 499
"""What the log and the metrics have as the status where a client did not wait for its answer."""
DISCARDED_BYTES = 1 << 24
"""Read of a body beyond its limit and dropped, so that the client gets to read its answer."""
AT_ONCE_BYTES = 1 << 16
"""Work on fewer bytes is done where it comes up; more goes to a thread."""
MAX_RATIO = 100
"""How many times as large as it was sent a body may unpack, where it is over a kilobyte."""
_PIECE = 1 << 16


@dataclass(frozen=True)
class Limits:
    """images, pixels: of one answer. body_bytes: of one body, unpacked. queue: images of a model that wait, are
    generated or are being sent. requests: at a time. patience_s: for a body to arrive, and for an answer to be taken.
    """

    images: int = 512
    pixels: int = 1 << 24
    body_bytes: int = 8 << 20
    queue: int = 4096
    requests: int = 1024
    patience_s: float = 30.0

    @property
    def bodies_bytes(self) -> int:
        """Of all bodies that are held at a time."""
        return 16 * self.body_bytes


class RefusedError(GanportError):
    """A request that is not carried out: `status` is HTTP's, `headers` go along with the answer."""

    def __init__(self, status: int, message: str, hint: str = "", **headers: str) -> None:
        super().__init__(message, hint)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


def busy(message: str, status: int = 429) -> RefusedError:
    return RefusedError(status, message, "try again", Retry_After="1")


@dataclass
class Exchange:
    """What is noted of a request while it is carried out, for the log and the metrics.

    `headers` has the request's, by their names in lower case; of several of one name the last. `release` has what is
    given back when the answer is sent, or will not be.
    """

    route: str = "unknown"
    model: str = ""
    images: int = 0
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    release: list[Callable[[], None]] = field(default_factory=list)

    @staticmethod
    def of(request: Request) -> Exchange:
        found: Exchange = request.scope["exchange"]
        return found


class Budget:
    """An amount of something, such as images or bytes, of which at most `most` is held at a time."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    def take(self, amount: int, exchange: Exchange, what: str, status: int = 429) -> None:
        """Held until the exchange is over. Raises `RefusedError` where there is not that much left."""
        if self.held + amount > self.most:
            raise busy(f"too many {what} at the moment", status)
        self.held += amount

        def back() -> None:
            self.held -= amount

        exchange.release.append(back)


def error_response(error: GanportError, status: int = 422) -> Response:
    """`{"error": …, "hint": …}`, as clients of the Open Inference Protocol need it."""
    headers: dict[str, str] = {}
    if isinstance(error, RefusedError):
        status, headers = error.status, error.headers
    body = {"error": str(error).replace("`", "")}
    if error.hint:
        body["hint"] = error.hint.replace("`", "")
    return json_response(body, status, headers)


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return Answer(text.encode(), status, headers, "application/json")


class Answer(Response):
    """A response that is sent piece by piece, so that a client that reads slowly, or never, holds little and not for
    ever."""

    def __init__(
        self, body: bytes, status_code: int = 200, headers: Mapping[str, str] | None = None, media_type: str = ""
    ) -> None:
        # Starlette's own takes several times as long: it allows for bodies, headers and charsets of every kind.
        self.body, self.status_code, self.media_type, self.background = body, status_code, media_type, None
        if media_type.startswith("text/") and "charset" not in media_type:
            media_type += "; charset=utf-8"
        named = {"content-length": str(len(body)), "content-type": media_type, **(headers or {})}
        self.raw_headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        until = 0.0
        try:
            for message in self._messages():
                if not scope["flow"].write_paused:  # then it is not waited for, and no clock is needed
                    await send(message)
                    continue
                until = until or asyncio.get_running_loop().time() + scope["patience_s"]
                async with asyncio.timeout_at(until):
                    await send(message)
        except TimeoutError as error:
            scope["abort"]()
            raise ClientGoneError from error

    def _messages(self) -> Iterator[dict[str, Any]]:
        yield {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        for start in range(0, max(len(self.body), 1), _PIECE):
            more, piece = start + _PIECE < len(self.body), self.body[start : start + _PIECE]
            yield {"type": "http.response.body", "body": bytes(piece), "more_body": more}


async def read_body(request: Request, limits: Limits, bodies: Budget) -> bytes:
    """The body, unpacked where it is gzip or deflate. Raises `RefusedError` beyond the limits."""
    exchange, pieces, size = Exchange.of(request), list[bytes](), 0
    told = exchange.headers.get(b"content-length", b"")
    most = limits.body_bytes + (0 if b"expect" in exchange.headers else DISCARDED_BYTES)
    if told.isdigit() and int(told[:20]) > most:
        raise _too_large(limits)
    try:
        more, until = True, asyncio.get_running_loop().time() + limits.patience_s
        while more:
            if request.scope.get("whole"):  # then it is not waited for, and no clock is needed
                message = await request.receive()
            else:
                async with asyncio.timeout_at(until):
                    message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            piece, more = message["body"], message["more_body"]
            size += len(piece)
            if size <= limits.body_bytes:
                bodies.take(len(piece), exchange, "uploads", 503)
                pieces.append(piece)
            elif size > limits.body_bytes + DISCARDED_BYTES:
                break
            else:
                pieces.clear()
    except TimeoutError as error:
        raise RefusedError(
            408, f"the body did not arrive within {limits.patience_s:g} s", "send it faster", Connection="close"
        ) from error
    if size > limits.body_bytes:
        raise _too_large(limits)
    packing = exchange.headers.get(b"content-encoding", b"").strip().lower()
    body = b"".join(pieces)
    if packing in (b"identity", b""):
        return body
    if packing not in (b"gzip", b"x-gzip", b"deflate"):
        raise RefusedError(415, "the body's encoding is not known", "gzip, deflate or none")
    most = min(limits.body_bytes, max(MAX_RATIO * len(body), 1024))
    bodies.take(most, exchange, "uploads", 503)
    return await at_once_or_aside(len(body), lambda: _unpacked(body, most))


def _too_large(limits: Limits) -> RefusedError:
    text = f"the body is larger than {limits.body_bytes} bytes"
    return RefusedError(413, text, "send several requests", Connection="close")


def _unpacked(body: bytes, most: int) -> bytes:
    """Raises `RefusedError` beyond `most` bytes, before they are allocated."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip's header or zlib's
    try:
        found = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise RefusedError(400, "the body is not what its Content-Encoding says") from error
    if len(found) > most:
        raise RefusedError(413, f"the body unpacks to more than {most} bytes", "send several requests")
    if not unpacker.eof or unpacker.unused_data:
        raise RefusedError(400, "the packed body is cut off or goes on after its end")
    return found


def parsed(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises `RefusedError` for what is none, and for numbers that are not finite."""
    try:
        value = _DECODER.decode(body.decode("utf-8-sig"))
    except RecursionError as error:
        raise RefusedError(400, "the JSON is nested too deeply") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise RefusedError(400, f"the body is not JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise RefusedError(400, "the body must be a JSON object")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError(f"{text[:20]} is beyond what a number holds")
    return value


def _whole(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"{text[:20]}… is beyond what a number holds")
    return int(text)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


# Python's own functions for numbers: between them other threads get a turn, in a body of millions.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_int=_whole, parse_constant=_no_number)


async def at_once_or_aside(size_bytes: int, work: Callable[[], T]) -> T:
    """`work()`, in a thread where it is more than a moment's: the event loop has to answer others."""
    return work() if size_bytes <= AT_ONCE_BYTES else await asyncio.to_thread(work)


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """`work`, which is cancelled when the client goes away; then `ClientGoneError`.

    `scope["gone"]` has what the protocol (`serving`) calls then: a task that waits for it would cost as much as the
    rest of a short request.
    """
    here, gone = asyncio.current_task(), False
    assert here is not None

    def leave() -> None:
        nonlocal gone
        gone = True
        here.cancel()

    watched: set[Callable[[], None]] = request.scope["gone"]
    watched.add(leave)
    try:
        return await work
    except asyncio.CancelledError as error:
        if gone and not here.uncancel():
            raise ClientGoneError from error
        raise
    finally:
        watched.discard(leave)
