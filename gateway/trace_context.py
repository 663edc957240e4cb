"""`traceparent` (W3C Trace Context, level 1): whose trace a request belongs to.

Read only while spans are exported. It goes up to the provider as it came, whether they are or not: what it
names is the client's, and Karta puts no ids of its own into requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

# Later versions add at the end, and begin as this one; ff is none.
_VALUE = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?\Z")
_NAME = b"traceparent:"
_SAMPLED = 1


class TraceParent(msgspec.Struct, frozen=True, gc=False):
    trace_id: int
    span_id: int
    sampled: bool


def trace_parent(lines: Iterable[bytes]) -> TraceParent | None:
    """That of a request's header lines; None when there is none, several, or one that is not valid."""
    found = [line[len(_NAME) :].strip(b" \t") for line in lines if _is_trace(line)]
    if len(found) != 1:
        return None
    match = _VALUE.match(found[0])
    if match is None or (match[4] and found[0][:2] == b"00"):
        return None
    trace_id, span_id = int(match[1], 16), int(match[2], 16)
    if not trace_id or not span_id:
        return None
    return TraceParent(trace_id, span_id, bool(int(match[3], 16) & _SAMPLED))


def tells_trace(lines: Iterable[bytes]) -> bool:
    """Whether some of the header lines tell of a trace, be it valid or not."""
    return any(_is_trace(line) for line in lines)


def _is_trace(line: bytes) -> bool:
    return line[: len(_NAME)].lower() == _NAME
