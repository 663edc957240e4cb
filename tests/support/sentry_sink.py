"""What stands for Sentry: takes its SDK's envelopes over HTTP on loopback, and keeps what was in them."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.http_server import QuietHandler, serving

PATIENCE_SECONDS = 30
KEY = "0123456789abcdef0123456789abcdef"
PROJECT = "7"


class Sink:
    def __init__(self) -> None:
        self.dsn = ""
        self.bodies: list[bytes] = []
        """Envelopes as they came, unpacked."""
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []

    @property
    def items(self) -> list[tuple[str, dict[str, Any]]]:
        """The type and payload of each item, in the order they came."""
        return [item for body in self.bodies for item in _items(body)]

    def of_type(self, wanted: str) -> list[dict[str, Any]]:
        return [payload for kind, payload in self.items if kind == wanted]

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.of_type("event")

    @property
    def transactions(self) -> list[dict[str, Any]]:
        return self.of_type("transaction")

    def wait(self, enough: Callable[[], object]) -> None:
        """Until `enough`. Blocks its thread."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        tick = threading.Event()
        while not enough():
            assert time.monotonic() < deadline, f"only this came: {self.items}"
            tick.wait(0.02)


def _items(body: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The envelope's items: after its own header, a header and a payload each."""
    _, _, rest = body.partition(b"\n")
    while rest.strip():
        line, _, rest = rest.partition(b"\n")
        header = json.loads(line)
        length = header.get("length")
        payload, rest = rest.partition(b"\n")[::2] if length is None else (rest[:length], rest[length + 1 :])
        yield header["type"], json.loads(payload)


@contextmanager
def sentry_sink() -> Iterator[Sink]:
    sink = Sink()

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            sink.headers.append({name.lower(): value for name, value in self.headers.items()})
            sink.paths.append(self.path)
            sink.bodies.append(body)
            answer = b'{"id":"00000000000000000000000000000000"}'
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    with serving(Handler) as origin:
        sink.dsn = f"{origin.replace('//', f'//{KEY}@')}/{PROJECT}"
        yield sink


def arrived_whole(sink: Sink) -> None:
    """What came is the protocol: the place, the authorization, and an envelope."""
    assert set(sink.paths) == {f"/api/{PROJECT}/envelope/"}
    assert all(re.search(rf"sentry_key={KEY}", one["x-sentry-auth"]) for one in sink.headers)
    assert all(one["content-type"] == "application/x-sentry-envelope" for one in sink.headers)
