"""Request heads of a known shape: the same names in the same order, whatever most of the values are.

A balancer adds a trace id and the client's address to each request, an instrumented client a `traceparent` of
its own: no two of their heads are the same, and all have the same shape. So a head that is none of the
`known_heads` is laid beside the shapes of those that were understood before. Names, and the values by which
Karta judges a request, must be the same to the byte; the other values go up as they come or are dropped, as
the shape's own were, and may be anything that is printable. What the whole way would make of such a head is
then known without going it (the tests compare the two).

Bounds: shapes are learnt of admitted requests only. `STARTS_MAX` request lines have some, `SHAPES_MAX` each,
the oldest forgotten first.
"""

from __future__ import annotations

from typing import Final

from gateway.api_request import APIRequest
from gateway.body_fields import NO_FIELDS
from gateway.request_head import Field, decide

STARTS_MAX: Final = 256
SHAPES_MAX: Final = 8

# What stands in a head for the key and for the digits of the length: none that is parsed has them.
KEY_MARK: Final = b"\1"
LENGTH_MARK: Final = b"\0"

_PRINTABLE: Final = bytes(range(0x20, 0x7F))
ANY_KEY: Final = b"kt_"
# Free to differ are those fields whose values nothing but the provider looks at. Of the others some decide
# how the head is read (hop-by-hop: RFC 9110 section 7.6.1, and what llhttp takes for it), some what Karta
# does.
_FREE: Final = (Field.FORWARD, Field.ACCOUNT, Field.DROP, Field.API_KEY, Field.AUTHORIZATION)
_HOP_BY_HOP: Final = {b"http2-settings", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade"}


class Shape:
    """One order of names."""

    __slots__ = ("_beginnings", "_forwarded", "_request", "_unprintable", "_whole")

    def __init__(self, constant: bytes, request: APIRequest) -> None:
        """`constant` is a head with its marks; `request` is what it means, without its body and key."""
        self._request = request
        self._beginnings: list[bytes] = []
        """What each line begins with, that of the request included."""
        self._whole: list[int] = []
        """Which of those are the whole line."""
        self._forwarded: list[int] = []
        self._unprintable = constant.translate(None, _PRINTABLE)
        """The ends of the lines and the marks: that others are the same shows that they have nothing else."""
        for index, line in enumerate(constant.split(b"\r\n")):
            name, colon, _ = line.partition(b":")
            if line in request.lines:
                self._forwarded.append(index)
            if index and _is_free(name.lower()) and not line.endswith(KEY_MARK):
                self._beginnings.append(name + colon)
            else:
                self._beginnings.append(line)
                self._whole.append(index)

    def read(self, constant: bytes, lines: list[bytes]) -> APIRequest | None:
        """What the head with these lines means, if it has this shape; without its body and key."""
        beginnings = self._beginnings
        if len(lines) != len(beginnings):
            return None
        for index, beginning in enumerate(beginnings):
            if not lines[index].startswith(beginning):
                return None
        for index in self._whole:
            if len(lines[index]) != len(beginnings[index]):
                return None
        if constant.translate(None, _PRINTABLE) != self._unprintable:
            return None
        request = self._request.again(b"", NO_FIELDS)
        request.lines = [lines[index] for index in self._forwarded]
        return request


class Shapes:
    """Those that one worker knows."""

    def __init__(self) -> None:
        self._known: dict[bytes, list[Shape]] = {}

    def __len__(self) -> int:
        return sum(len(shapes) for shapes in self._known.values())

    def read(self, constant: bytes) -> APIRequest | None:
        """What a head means, with its marks in it; None where it has no known shape."""
        shapes = self._known.get(constant[: constant.find(b"\r\n")])
        # A second key, wherever it stands, is for the whole way to judge.
        if shapes is None or ANY_KEY in constant:
            return None
        lines = constant.split(b"\r\n")
        for shape in shapes:
            request = shape.read(constant, lines)
            if request is not None:
                return request
        return None

    def learn(self, constant: bytes, request: APIRequest) -> None:
        """That a head means `request`, which has been admitted."""
        if self.read(constant) is not None:
            return
        start = constant[: constant.find(b"\r\n")]
        shapes = self._known.get(start)
        if shapes is None:
            if len(self._known) >= STARTS_MAX:
                del self._known[next(iter(self._known))]
            shapes = self._known[start] = []
        elif len(shapes) >= SHAPES_MAX:
            del shapes[0]
        shapes.append(Shape(constant, request.without_body()))


def _is_free(name: bytes) -> bool:
    return name not in _HOP_BY_HOP and decide(name) in _FREE
