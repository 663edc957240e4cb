"""A simulated Postmark on loopback: the documented paths that Karta uses, with the documented answers.

A test scripts how the next calls end, or has a share of them fail by a seed. What was taken is kept, as
Postmark does, whether its answer arrived or not."""

from __future__ import annotations

import json
import random
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

TOKEN = "8f3b1a52-7d0c-4e7b-9c55-simulated000"
STREAMS = {"outbound", "broadcast"}
_ADDRESS = re.compile(r"[^@\s,]+@[^@\s,]+\.[^@\s,]+")
FAILURES = ("lost", "unavailable", "throttled", "taken and lost", "taken and cut")
"""How a call can end instead of `fine`."""


class PostmarkServer:
    """What it was told, and what it is to do."""

    def __init__(self) -> None:
        self.url = ""
        self.taken: list[dict[str, Any]] = []
        """Messages, in the order in which they were taken, with their MessageID."""
        self.calls: list[str] = []
        self.script: deque[str] = deque()
        self.failing_share = 0.0
        self.inactive: set[str] = set()
        self.hidden: set[str] = set()
        """Ids of the outbox that the search does not find (yet)."""
        self.random = random.Random(7)
        self.lock = threading.Lock()

    def of(self, message_id: object) -> list[dict[str, Any]]:
        return [message for message in self.taken if message["Metadata"]["outbox"] == str(message_id)]

    def next_end(self) -> str:
        if self.script:
            return self.script.popleft()
        return self.random.choice(FAILURES) if self.random.random() < self.failing_share else "fine"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def postmark(self) -> PostmarkServer:
        return cast("_Server", self.server).postmark

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        with self.postmark.lock:
            self.postmark.calls.append(f"POST {path}")
            end = self.postmark.next_end()
            if not self._allowed() or not self._goes_on(end):
                return
            status, answer = self._take(path, raw)
            if end == "taken and cut":
                self.close_connection = True
                return
            if end == "taken and lost":
                status, answer = 500, {"ErrorCode": 0, "Message": "Internal Server Error"}
            if end != "taken and hung":
                self._answer(status, answer)
        if end == "taken and hung":
            self.rfile.read(1)  # until the client has gone
            self.close_connection = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self.postmark.lock:
            self.postmark.calls.append(f"GET {parts.path}")
            if not self._allowed() or not self._goes_on(self.postmark.next_end()):
                return
            if parts.path != "/messages/outbound":
                self._answer(404, {})
            elif "count" not in query or "offset" not in query:
                self._answer(422, {"ErrorCode": 600, "Message": "Missing required parameters."})
            else:
                self._answer(200, self._search(query))

    def _search(self, query: dict[str, str]) -> dict[str, Any]:
        wanted = {name[9:]: value for name, value in query.items() if name.startswith("metadata_")}
        stream = query.get("messagestream", "outbound")
        found = [
            {key: message[key] for key in ("MessageID", "Metadata", "MessageStream", "Subject", "Tag")}
            for message in reversed(self.postmark.taken)
            if message["MessageStream"] == stream
            and wanted.items() <= message["Metadata"].items()
            and message["Metadata"]["outbox"] not in self.postmark.hidden
        ]
        return {"TotalCount": len(found), "Messages": found[: int(query["count"])]}

    def _allowed(self) -> bool:
        if self.headers.get("X-Postmark-Server-Token") == TOKEN:
            return True
        self._answer(401, {"ErrorCode": 10, "Message": "No Account or Server API tokens were supplied."})
        return False

    def _goes_on(self, end: str) -> bool:
        answers = {
            "lost": (500, {"ErrorCode": 0, "Message": "Internal Server Error"}),
            "unavailable": (503, {"ErrorCode": 100, "Message": "Service Unavailable"}),
            "throttled": (429, {"ErrorCode": 429, "Message": "Rate limit exceeded"}),
            "no credits": (422, {"ErrorCode": 405, "Message": "Not allowed to send"}),
            "elsewhere": (307, {}),
            "nonsense": (200, "nonsense"),
        }
        if end in answers:
            self._answer(*answers[end])
            return False
        return True

    def _take(self, path: str, raw: bytes) -> tuple[int, Any]:
        try:
            body = json.loads(raw)
        except ValueError:
            return 422, {"ErrorCode": 402, "Message": "Invalid JSON"}
        if path == "/email":
            answer = self._take_one(body)
            return (200 if answer["ErrorCode"] == 0 else 422), answer
        if path != "/email/batch":
            return 404, {}
        if len(body) > 500:
            return 422, {"ErrorCode": 410, "Message": "Too many batch messages"}
        return 200, [self._take_one(message) for message in body]

    def _take_one(self, message: dict[str, Any]) -> dict[str, Any]:
        if not _ADDRESS.fullmatch(message["To"]) or not (message.get("TextBody") or message.get("HtmlBody")):
            return {"ErrorCode": 300, "Message": "Invalid email request"}
        if message["MessageStream"] not in STREAMS:
            return {"ErrorCode": 1235, "Message": "The message stream provided does not exist."}
        if message["To"] in self.postmark.inactive:
            return {
                "ErrorCode": 406,
                "Message": "You tried to send to a recipient that has been marked as inactive.",
            }
        message["MessageID"] = str(uuid4())
        self.postmark.taken.append(message)
        return {
            "To": message["To"],
            "SubmittedAt": "2026-11-26T02:00:00.0000000-05:00",
            "MessageID": message["MessageID"],
            "ErrorCode": 0,
            "Message": "OK",
        }

    def _answer(self, status: int, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 307:
            self.send_header("Location", "https://example.com/email")
        if status == 429:
            self.send_header("Retry-After", "20")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    postmark: PostmarkServer


@contextmanager
def running_postmark() -> Iterator[PostmarkServer]:
    postmark = PostmarkServer()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.postmark = postmark
    postmark.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield postmark
    finally:
        server.shutdown()
        server.server_close()
