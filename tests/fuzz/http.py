"""What bytes say, by h11: a parser that shares no code with the gateway's."""

from __future__ import annotations

import json
import re
from typing import Any

import h11
import msgspec

Fields = list[tuple[bytes, bytes]]
_EVENT_BYTES_MAX = 1024 * 1024
# More than one space in a request line is read as one, as RFC 9112 section 3 allows and llhttp does.
_START_LINE = re.compile(rb"\A([A-Za-z]+) +(\S+) +(HTTP/)")


class ReadRequest(msgspec.Struct):
    """A request as read; `complete` is False when the bytes ended in its body."""

    method: bytes
    target: bytes
    headers: Fields
    body: bytes
    complete: bool

    def values(self, name: bytes) -> list[bytes]:
        return [value for its_name, value in self.headers if its_name.lower() == name]


class ReadAnswer(msgspec.Struct):
    """An answer as read; `complete` is False when the bytes ended in its body."""

    status: int
    headers: Fields
    body: bytes
    complete: bool

    def value(self, name: bytes) -> bytes | None:
        values = [value for its_name, value in self.headers if its_name.lower() == name]
        assert len(values) < 2, f"{name!r} came {len(values)} times"
        return values[0] if values else None

    @property
    def error(self) -> dict[str, Any] | None:
        """The error object of a refusal in either dialect, None for other bodies."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return None
        error = document.get("error") if isinstance(document, dict) else None
        return error if isinstance(error, dict) else None


def read_requests(data: bytes) -> tuple[list[ReadRequest], str | None]:
    """The requests in what a client (or the gateway) wrote, and why reading stopped if the bytes are wrong."""
    found: list[ReadRequest] = []
    # Line ends before a request are skipped, whichever they are: RFC 9112 section 2.2 wants CRLF skipped, and
    # a lone one changes nothing either.
    while data := data.lstrip(b"\r\n"):
        data = _START_LINE.sub(rb"\1 \2 \3", data, count=1)
        one, rest, problem = _read_request(data)
        if problem is not None and "Host" in problem:
            # Where it ends is clear all the same; but it must not be forwarded, so nothing may equal it.
            one, rest, problem = _read_request(_with_one_host(data))
            if one is not None:
                one.target = b"(with no host, or too many)"
        if one is not None:
            found.append(one)
        if one is None or not one.complete:
            return found, problem
        data = rest
    return found, None


def _read_request(data: bytes) -> tuple[ReadRequest | None, bytes, str | None]:
    """The request at the beginning of `data` (None when its head is not all there), what follows it, and what
    is wrong with it."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=_EVENT_BYTES_MAX)
    server.receive_data(data)
    one = None
    try:
        request = server.next_event()
        if not isinstance(request, h11.Request):
            return None, b"", None
        one = ReadRequest(request.method, request.target, list(request.headers), b"", complete=False)
        while isinstance(event := server.next_event(), h11.Data):
            one.body += bytes(event.data)
    except h11.RemoteProtocolError as error:
        return one, b"", str(error)
    one.complete = isinstance(event, h11.EndOfMessage)
    return one, server.trailing_data[0] if one.complete else b"", None


def _with_one_host(data: bytes) -> bytes:
    head, blank, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"host:")]
    return b"\r\n".join([lines[0], b"host: x", *lines[1:]]) + blank + body


def read_answers(data: bytes, methods: list[bytes], *, ended: bool) -> tuple[list[ReadAnswer], bytes]:
    """The answers to requests of these methods (GET beyond the last), and what could not be read after them."""
    found: list[ReadAnswer] = []
    while data:
        method = methods[len(found)] if len(found) < len(methods) else b"GET"
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_EVENT_BYTES_MAX)
        client.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        try:
            while isinstance(answer := client.next_event(), h11.InformationalResponse):
                pass
            if not isinstance(answer, h11.Response):
                return found, client.trailing_data[0]
            one = ReadAnswer(answer.status_code, list(answer.headers), b"", complete=False)
            found.append(one)
            while isinstance(event := client.next_event(), h11.Data):
                one.body += bytes(event.data)
        except h11.RemoteProtocolError:
            return found, data
        one.complete = isinstance(event, h11.EndOfMessage) or (ended and _ends_here(client))
        if not one.complete:
            return found, b""
        data = client.trailing_data[0]
    return found, b""


def _ends_here(client: h11.Connection) -> bool:
    """True when the end of the connection is how this answer ends."""
    client.receive_data(b"")
    try:
        return isinstance(client.next_event(), h11.EndOfMessage)
    except h11.RemoteProtocolError:
        return False
