"""What is learnt of a cost after the fact: from a batch's results, and from a response that ran in the
background (sans-IO).

The request that started it told nothing of what it would use; the bill stands in an answer to a later look.
Order: `late_usage` says whether an answer may tell; then `feed` each piece of its body and `finish`, each
giving the records found; then `Counted.add` when the answer was read to its end.

Counted once, however often somebody looks: a record's id is derived from what the provider named the work,
and from the organization, so that nobody can use up another's ids. A batch's output file goes by its own id,
which the provider gave it, for the lines in a file are whatever its author wrote. The answer to a look has a
row of its own that counts nothing.

Not counted here: a stored response that did not run in the background, which was metered when it was made.
One that did may tell its figures both in the answer that made it and later: read that first answer by a
`LateUsage(LateKind.RESPONSE, "", org_id)` as well, and count nothing for it otherwise if the provider
`agreed`.

Bounds: one line of a batch is kept at a time, of a longer one than a megabyte its ends (`sse.Window`); a file
that does not begin as a batch's output is not read, nor are more than `LINES_MAX` lines; `Counted` remembers
`SOURCES_MAX` answers, so that polling costs nothing. What it has forgotten gets the same ids again, and the
database knows those.
"""

from __future__ import annotations

import re
from enum import StrEnum
from uuid import UUID, uuid5

import msgspec

from gateway.refusal import Dialect
from gateway.sse import Splitter, Window, event_data
from gateway.tally import Tally
from gateway.usage_figures import Figures
from storage.usage_rows import LATE_PREFIX

SOURCES_MAX = 4096
# Twice what the larger of the two APIs takes in a batch.
LINES_MAX = 200_000
# Ids in paths, and what a client named its requests.
_NAME_CHARACTERS_MAX = 200
_NAMESPACE = UUID("6a0f0a3e-5d6c-5b8e-9a55-3c7d1f0e2b41")
# Where a line names itself.
_LINE_HEAD_BYTES = 1024
_CUSTOM_ID = re.compile(rb'"custom_id"\s*+:\s*+("(?:[^"\\]++|\\.)*+")')
_LINE_ID = re.compile(rb'\s*+\{\s*+"id"\s*+:\s*+"(batch_req_[^"\\]{1,100})"')
# How the first line of an output file begins, spaces aside.
_LINE_START = b'{"id":"batch_req_'
_RESPONSE_ID = re.compile(rb'"id"\s*+:\s*+"(resp_[^"\\]{1,200})"')
_BACKGROUND = re.compile(rb'"background"\s*+:\s*+true')


class LateKind(StrEnum):
    ANTHROPIC_BATCH = "anthropic_batch"
    OPENAI_FILE = "openai_file"
    RESPONSE = "response"


_KINDS = {
    ("GET", Dialect.ANTHROPIC, "/v1/messages/batches/{message_batch_id}/results"): LateKind.ANTHROPIC_BATCH,
    ("GET", Dialect.OPENAI, "/v1/files/{file_id}/content"): LateKind.OPENAI_FILE,
    ("GET", Dialect.OPENAI, "/v1/responses/{response_id}"): LateKind.RESPONSE,
    ("POST", Dialect.OPENAI, "/v1/responses/{response_id}/cancel"): LateKind.RESPONSE,
}


class LateRecord(msgspec.Struct, frozen=True, gc=False):
    """One piece of work that was paid for earlier. `request_id` is the same whenever it is looked at."""

    request_id: str
    figures: Figures
    complete: bool
    provider_id: str | None
    """What the provider calls it: a message, a line of a batch, a response."""


class _Message(msgspec.Struct, gc=False):
    type: str | None = None
    message: msgspec.Raw = msgspec.Raw()


class _Body(msgspec.Struct, gc=False):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw()


class _Line(msgspec.Struct, gc=False):
    """A line of either API's batches."""

    custom_id: str | None = None
    id: str | None = None
    result: _Message | None = None
    response: _Body | None = None


class _Response(msgspec.Struct, gc=False):
    id: str | None = None
    background: bool | None = None
    usage: msgspec.Raw = msgspec.Raw()


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    response: msgspec.Raw = msgspec.Raw()


class _Identified(msgspec.Struct, gc=False):
    id: str | None = None


_line_decoder = msgspec.json.Decoder(_Line)
_response_decoder = msgspec.json.Decoder(_Response)
_event_decoder = msgspec.json.Decoder(_Event)
_identified_decoder = msgspec.json.Decoder(_Identified)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Counted:
    """The answers that were read to their end lately, the oldest out first."""

    def __init__(self) -> None:
        self._sources: dict[tuple[UUID, str], None] = {}

    def add(self, reader: LateUsage) -> None:
        """The answer `reader` read has been told whole."""
        if not reader.told:
            return
        if len(self._sources) >= SOURCES_MAX:
            del self._sources[next(iter(self._sources))]
        self._sources[reader.org_id, reader.source] = None

    def __contains__(self, source: tuple[UUID, str]) -> bool:
        return source in self._sources


def late_usage(
    method: str,
    dialect: Dialect,
    template: str,
    target: bytes,
    org_id: UUID,
    counted: Counted,
    *,
    streamed: bool,
) -> LateUsage | None:
    """A reader for a successful answer (200, not encoded) to this operation; None when it cannot tell a cost
    or has told it before. `target` is the raw path asked for.
    """
    kind = _KINDS.get((method, dialect, template))
    if kind is None:
        return None
    segments = target.partition(b"?")[0].split(b"/")
    # The id stands where the template has its parameter.
    at = next(index for index, part in enumerate(template.split("/")) if part.startswith("{"))
    source = f"{kind}:{segments[at][:_NAME_CHARACTERS_MAX].decode('ascii', 'replace')}"
    if (org_id, source) in counted:
        return None
    return LateUsage(kind, source, org_id, streamed=streamed)


class LateUsage:
    """One answer that may tell of earlier work."""

    __slots__ = (
        "_body",
        "_kind",
        "_lines",
        "_over",
        "_splitter",
        "_start",
        "agreed",
        "org_id",
        "source",
        "told",
    )

    def __init__(self, kind: LateKind, source: str, org_id: UUID, *, streamed: bool = False) -> None:
        self._kind = kind
        self._lines = 0
        """Lines read so far."""
        self._over = False
        """What follows cannot tell anything."""
        self._splitter = Splitter() if streamed and kind is LateKind.RESPONSE else None
        self._start = b""
        self._body = Window()
        self.source = source
        self.org_id = org_id
        self.agreed = False
        """The provider says that it runs in the background: a later look tells its cost."""
        self.told = False
        """Something of a cost was found, so that the next look can tell nothing new."""

    def feed(self, piece: bytes) -> list[LateRecord]:
        """The records that this piece of the body completes."""
        if self._over or not piece:
            return []
        if self._splitter is not None:
            return self._read_events(self._splitter.feed(piece))
        if self._kind is LateKind.RESPONSE:
            self._body.add(piece)
            return []
        if len(self._start) < len(_LINE_START) and self._kind is LateKind.OPENAI_FILE:
            self._look_at_start(piece)
            if self._over:
                self._body = Window()
                return []
        found: list[LateRecord] = []
        *whole, rest = piece.split(b"\n")
        for line in whole:
            if line:
                self._body.add(line)
            found += self._end_line()
        if rest:
            self._body.add(rest)
        return found

    def _look_at_start(self, piece: bytes) -> None:
        """Most files are no batch's output, and their first bytes say so."""
        self._start += piece[:_LINE_HEAD_BYTES].translate(None, b" \t\r\n")
        self._start = self._start[: len(_LINE_START)]
        self._over = not _LINE_START.startswith(self._start)

    def finish(self) -> list[LateRecord]:
        """The body ended, cleanly or not: what the last line or the whole of it tells."""
        if self._over:
            return []
        if self._splitter is not None:
            return self._read_events(self._splitter.finish())
        if self._kind is not LateKind.RESPONSE:
            return self._end_line()
        body, self._body = self._body, Window()
        return self._read_long_response(body) if body.overflowed else self._read_response(body.whole())

    def _end_line(self) -> list[LateRecord]:
        if self._body.empty or self._over:
            return []
        line, self._body = self._body, Window()
        self._lines += 1
        if self._lines > LINES_MAX:
            self._over = True
        return [] if self._over else self._read_line(line)

    def _read_line(self, line: Window) -> list[LateRecord]:
        if line.overflowed:
            return self._read_long_line(line)
        data = line.whole()
        if b'"usage"' not in data:
            return []
        try:
            told = _line_decoder.decode(data)
            if self._kind is LateKind.ANTHROPIC_BATCH:
                if told.custom_id is None or told.result is None or told.result.type != "succeeded":
                    return []
                body, name = bytes(told.result.message), told.custom_id
            else:
                if told.id is None or told.response is None or told.response.status_code != 200:
                    return []
                body, name = bytes(told.response.body), told.id
            # A line that is not what it seems is nobody's bill.
            provider_id = _identified_decoder.decode(body).id
        except _UNREADABLE:
            return []
        tally = self._tally()
        tally.feed(body)
        tally.finish()
        return self._record(tally, name, provider_id)

    def _read_long_line(self, line: Window) -> list[LateRecord]:
        """Over a megabyte: its name stands first, its usage last."""
        pattern = _CUSTOM_ID if self._kind is LateKind.ANTHROPIC_BATCH else _LINE_ID
        found = pattern.search(line.head[:_LINE_HEAD_BYTES])
        if found is None:
            return []
        name = found.group(1).decode("utf-8", "replace")
        if self._kind is LateKind.ANTHROPIC_BATCH:
            name = msgspec.json.decode(found.group(1), type=str, strict=False)
        tally = self._tally()
        tally.read_ends(line)
        return self._record(tally, name, None)

    def _read_events(self, block: bytes) -> list[LateRecord]:
        assert self._splitter is not None
        long, self._splitter.oversized = self._splitter.oversized, []
        found = [record for event in long for record in self._read_long_response(event)]
        if b'"usage"' not in block and (self.agreed or b'"background"' not in block):
            return found
        for event in block.split(b"\n\n"):
            data = event_data(event)
            if b'"usage"' in data or b'"background"' in data:
                try:
                    found += self._read_response(bytes(_event_decoder.decode(data).response))
                except _UNREADABLE:
                    continue
        return found

    def _read_response(self, data: bytes) -> list[LateRecord]:
        try:
            response = _response_decoder.decode(data)
        except _UNREADABLE:
            return []
        response_id = response.id
        self.agreed = response_id is not None and response.background is True
        if response_id is None or not self.agreed or bytes(response.usage)[:1] != b"{":
            return []
        tally = Tally(Dialect.OPENAI, streamed=False)
        tally.feed(data)
        tally.finish()
        return self._record_response(tally, response_id)

    def _read_long_response(self, body: Window) -> list[LateRecord]:
        """Over a megabyte, of pictures mostly: what it is stands first, its usage last."""
        named = _RESPONSE_ID.search(body.head)
        if named is None:
            return []
        self.agreed = _BACKGROUND.search(body.head) is not None
        if not self.agreed:
            return []
        tally = Tally(Dialect.OPENAI, streamed=False)
        tally.read_ends(body)
        return self._record_response(tally, named.group(1).decode("ascii", "replace"))

    def _record_response(self, tally: Tally, response_id: str) -> list[LateRecord]:
        # By its own id, since the answer that created it may be fed here, too, and had none in its path.
        self.source = f"{LateKind.RESPONSE}:{response_id[:_NAME_CHARACTERS_MAX]}"
        return self._record(tally, "", response_id)

    def _tally(self) -> Tally:
        anthropic = self._kind is LateKind.ANTHROPIC_BATCH
        return Tally(Dialect.ANTHROPIC if anthropic else Dialect.OPENAI, streamed=False)

    def _record(self, tally: Tally, name: str, provider_id: str | None) -> list[LateRecord]:
        if not tally.final:
            return []
        if self._kind is not LateKind.RESPONSE:
            # OpenAI's lines name the tier of a request of its own.
            tally.service_tier = "batch"
        self.told = True
        key = f"{self.org_id}:{self.source}:{name[:_NAME_CHARACTERS_MAX]}"
        provider_id = provider_id[:_NAME_CHARACTERS_MAX] if provider_id else None
        # Marked, so that the database knows it for one that may come again.
        request_id = LATE_PREFIX + uuid5(_NAMESPACE, key).hex[len(LATE_PREFIX) :]
        return [LateRecord(request_id, tally, tally.complete, provider_id)]
