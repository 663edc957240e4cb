"""One request as it came off the wire, and how much of its body is kept.

Every body is counted and hashed whole; what is kept is bounded, since the rest only matters to its receiver.
JSON must be kept whole to be read; of an upload only the beginning is needed (the form fields stand before
the file).
"""

import hashlib
from typing import Any
from urllib.parse import parse_qs

import msgspec

from bench.sim.form import Form
from bench.sim.ledger import Entry

JSON_KEPT_BYTES_MAX = 272 * 1024 * 1024
"""Anthropic takes batches of 256 MB; a simulator that held less would refuse what the real one takes."""
UPLOAD_KEPT_BYTES_MAX = 8 * 1024 * 1024
"""Files up to this size come back as they went in; longer ones come back as filler of the same length."""
HASHED_AT_ONCE_BYTES_MAX = 64 * 1024
"""Below this one hash at the end is cheaper than one per chunk."""


class Request:
    """A request being received, then answered. Header names are lower-case bytes, values as sent."""

    __slots__ = (
        "_hasher",
        "_kept_bytes_max",
        "_model",
        "_parts",
        "dialect",
        "document",
        "entry",
        "form",
        "header_map",
        "headers",
        "http10",
        "keep_alive",
        "kept_whole",
        "method",
        "parameters",
        "path",
        "query",
        "size_bytes",
        "target",
        "template",
    )

    def __init__(self, target: bytes) -> None:
        self.target = target
        path, _, query = target.partition(b"?")
        self.path = path.decode("latin-1")
        self.query = query.decode("latin-1")
        self.method = ""
        self.headers: list[tuple[bytes, bytes]] = []
        self.header_map: dict[bytes, bytes] = {}
        self.http10 = False
        self.keep_alive = True
        self.dialect = "openai"
        self.entry: Entry
        self.template = ""
        self.parameters: tuple[str, ...] = ()
        self.document: dict[str, Any] = {}
        """The decoded JSON body."""
        self.form = Form({}, [])
        """The decoded multipart body."""
        self.size_bytes = 0
        self.kept_whole = True
        self._kept_bytes_max = UPLOAD_KEPT_BYTES_MAX
        self._parts: list[bytes] = []
        self._hasher: Any = None
        self._model: str | None = None

    @classmethod
    def inner(cls, target: str, document: dict[str, Any]) -> "Request":
        """A request that came inside another one: a line of a batch."""
        request = cls(target.encode())
        request.method = "POST"
        request.document = document
        request.receive(msgspec.json.encode(document))
        return request

    def headers_complete(self) -> None:
        """Settle what depends on the head: how much of the body is worth keeping."""
        self.header_map = dict(self.headers)
        if not self.header_map.get(b"content-type", b"").startswith(b"multipart/"):
            self._kept_bytes_max = JSON_KEPT_BYTES_MAX

    def receive(self, data: bytes) -> None:
        """Take one piece of the body."""
        kept_before = self.size_bytes
        self.size_bytes += len(data)
        if self._hasher is not None:
            self._hasher.update(data)
        elif self.size_bytes > HASHED_AT_ONCE_BYTES_MAX:
            self._hasher = hashlib.sha256(b"".join(self._parts))
            self._hasher.update(data)
        if self.size_bytes <= self._kept_bytes_max:
            self._parts.append(data)
        elif self.kept_whole:
            self.kept_whole = False
            self._parts.append(data[: self._kept_bytes_max - kept_before])

    @property
    def body(self) -> bytes:
        """The kept beginning of the body: all of it when `kept_whole`."""
        parts = self._parts
        if len(parts) > 1:
            parts[:] = [b"".join(parts)]
        return parts[0] if parts else b""

    def sha256(self) -> str:
        """Hexadecimal digest of the whole body received so far."""
        if self._hasher is None:
            return hashlib.sha256(self.body).hexdigest()
        return str(self._hasher.hexdigest())

    def forget_body(self) -> None:
        """Drop the kept bytes once the answer has been decided: a long stream need not hold its prompt."""
        self._parts.clear()

    def json(self) -> dict[str, Any]:
        """The body as a JSON object, {} for an empty body.

        Raises msgspec.DecodeError when it is not JSON and TypeError when it is not an object.
        """
        if not self.body:
            return {}
        document = msgspec.json.decode(self.body)
        if not isinstance(document, dict):
            raise TypeError("the request body must be a JSON object")
        return document

    def question(self) -> bytes:
        """What is asked, whatever is said of how the stream of its answer shall be: the same gets the same
        answer."""
        return msgspec.json.encode({**self.json(), "stream_options": None}, order="sorted")

    def asked(self, name: str, default: str = "") -> str:
        """The last value of a query parameter."""
        return parse_qs(self.query, keep_blank_values=True).get(name, [default])[-1]

    def header(self, name: bytes) -> str:
        """The last value of a header by its lower-case name, "" when absent."""
        return self.header_map.get(name, b"").decode("latin-1")
