"""Taking out of a stream what `include_usage` put in: the last chunk, and `"usage":null` on all others
(sans-IO).

Order: `feed` each piece of the body as it comes, without transfer framing, and send what it gives back;
`finish` at the end. What remains is, byte for byte, what the provider would have sent had nobody asked.

Strategy: an event goes on as soon as it is complete; no SDK can make use of one before that, so nothing that
matters is delayed. Of an event, the null member is cut out with the comma before it; an event whose
`choices` are empty and whose `usage` is an object is dropped. Anything else passes as it is, also usage that
a provider puts on a chunk with choices: it may well send that to everybody.

The word may stand elsewhere (a token of text, a member of a nested object), so a member is cut out only
where it is seen to be the chunk's own: what follows it is plain members and the last brace, or all brackets
before it but one are closed.

Bounds: of the places where the word stands in an event `PLACES_MAX` are looked at, since each look may pass
the whole of it; behind more of them the member stays, which is a null. `HELD_BYTES_MAX` of an unfinished
event are held; of a longer one, which is no usage chunk, all but the last `TAIL_BYTES` go on as they come,
and the member is looked for in its beginning and in those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

HELD_BYTES_MAX = 16 * 1024
# A member behind the content, and the padding behind that.
TAIL_BYTES = 1024
PLACES_MAX = 16

# The end of an event: two line ends in a row. Atomic, or the two halves of CRLF would count as two.
_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_END_BYTES_MAX = 4
_NULL = re.compile(rb'"usage"\s*+:\s*+null')
_COMMA = re.compile(rb"\s*+,\s*+")
_SPACE = b" \t\r\n"
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
# Members of no depth, then the brace that closes the chunk.
_PLAIN_END = re.compile(rb'\s*+(?:,\s*+"[^"\\]*+"\s*+:\s*+(?:"[^"\\]*+"|[a-z0-9.+\-E]++)\s*+)*+\}\s*+\Z')
_NO_CHOICES = re.compile(rb'"choices"\s*+:\s*+\[\s*+\]')
_DATA = re.compile(rb"(?:\A|[\r\n])data: ?([^\r\n]*+)")


class _Chunk(msgspec.Struct, gc=False):
    choices: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()


_chunk_decoder = msgspec.json.Decoder(_Chunk)


class UsageStripper:
    """One stream on its way to a client that did not ask for usage."""

    __slots__ = ("_after_cr", "_dropped", "_held", "_long")

    def __init__(self) -> None:
        self._held = b""
        self._long = False
        """The beginning of the event in `_held` has gone on already."""
        self._after_cr = False
        """The last event ended with a CR: an LF now is the second half of its line end."""
        self._dropped = False
        """That event was the usage chunk."""

    def feed(self, piece: bytes) -> bytes:
        """The bytes that may go on now; often b""."""
        if not piece:
            return b""
        kept: list[bytes] = []
        if self._after_cr:
            self._after_cr = False
            if piece.startswith(b"\n"):
                piece = piece[1:]
                if not self._dropped:
                    kept.append(b"\n")
        data = self._held + piece if self._held else piece
        at = 0
        for end in _ends(data, max(0, len(self._held) - _END_BYTES_MAX)):
            event = self._stripped(data[at:end])
            kept.append(event)
            self._dropped = not event
            at = end
            self._long = False
        rest = data[at:]
        if not rest:
            self._after_cr = data.endswith(b"\r")
        if len(rest) > HELD_BYTES_MAX or self._long:
            rest = self._let_go(rest, kept)
        self._held = rest
        return kept[0] if len(kept) == 1 else b"".join(kept)

    def finish(self) -> bytes:
        """The body ended: what was held of an event that has no end. The SDKs take it, so it is stripped."""
        rest, self._held = self._held, b""
        return self._stripped(rest)

    def _let_go(self, rest: bytes, kept: list[bytes]) -> bytes:
        """Too long to hold: send on all but the last bytes, which are given back."""
        if len(rest) <= TAIL_BYTES:
            return rest
        going = rest[:-TAIL_BYTES]
        if not self._long:
            self._long = True
            going = _without_null(going, begins=True, ends=False)
        kept.append(going)
        return rest[-TAIL_BYTES:]

    def _stripped(self, event: bytes) -> bytes:
        if b'"usage"' not in event:
            return event
        stripped = _without_null(event, begins=not self._long, ends=True)
        if stripped is event and not self._long and _NO_CHOICES.search(event) and _is_usage_chunk(event):
            return b""
        return stripped


def _ends(data: bytes, start: int) -> Iterator[int]:
    """Where events end. With LF alone, as both APIs write, it is searched for; all else is rare."""
    if b"\r" in data:
        yield from (end.end() for end in _END.finditer(data, start))
        return
    while (end := data.find(b"\n\n", start)) >= 0:
        start = end + 2
        yield start


def _is_usage_chunk(event: bytes) -> bool:
    data = b"\n".join(_DATA.findall(event.removeprefix(b"\xef\xbb\xbf")))
    try:
        chunk = _chunk_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    choices = bytes(chunk.choices)
    return choices[:1] == b"[" and not choices[1:-1].strip() and bytes(chunk.usage)[:1] == b"{"


def _without_null(event: bytes, *, begins: bool, ends: bool) -> bytes:
    """The event less its own `"usage":null`; whether it begins and ends here is what can be told by."""
    at = event.find(b'"usage"')
    for _ in range(PLACES_MAX):
        if at < 0:
            break
        member = _NULL.match(event, at)
        # Behind a backslash the quote is part of some other name.
        if member is not None and event[at - 1 : at] != b"\\":
            closed = ends and _PLAIN_END.match(event, member.end()) is not None
            if closed or (begins and _depth(event[:at]) == 1):
                before = event[:at].rstrip(_SPACE)
                if before.endswith(b","):
                    return before[:-1] + event[member.end() :]
                comma = _COMMA.match(event, member.end())
                return event[:at] + event[comma.end() if comma else member.end() :]
        at = event.find(b'"usage"', at + 7)
    return event


def _depth(before: bytes) -> int:
    """How many brackets are open behind `before`, the beginning of an event."""
    rest = _STRING.sub(b"", before)
    opened, closed = rest.count(b"{") + rest.count(b"["), rest.count(b"}") + rest.count(b"]")
    return opened - closed
