"""A metered request as the journal holds it: one of PostgreSQL's binary COPY tuples, made in a few calls.

Shipping copies these bytes as they are (`storage.usage_tuple` says what they mean, and is what this is tested
against), so nobody decodes a record on its way into the table. The order of columns is this module's own:
what is the same for all requests of a key to an endpoint comes first and is kept ready, the numbers come last
and are packed at once.

Bounds: names are strangers' words, cut at `NAME_CHARACTERS_MAX`; of prepared pieces `PREPARED_MAX` are kept,
and none of a longer name, which may be as long as a body.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from gateway.api_request import APIRequest
from gateway.authorize import Grant
from gateway.tally import BYTES_PER_TOKEN
from gateway.usage_figures import Figures
from storage.model import Outcome
from storage.usage_tuple import COLUMNS as TYPES

_BY_GRANT: Final = ("org_id", "key_id", "credential_kind", "credential_id", "provider", "endpoint")
_TEXTS: Final = (
    "model_asked",
    "model_answered",
    "service_tier",
    "outcome",
    "price_version",
    "provider_request_id",
)
_COST: Final = "cost_picodollars"
NUMBERS: Final = tuple(name for name in TYPES if name not in {*_BY_GRANT, *_TEXTS, _COST})
"""The columns `UsageWriter.write` takes as numbers, in this order."""
COLUMNS: Final = (*_BY_GRANT, *_TEXTS, _COST, *NUMBERS)
"""The order of a tuple made here."""

NAME_CHARACTERS_MAX: Final = 200
# A stranger can make up as many model names as he likes: the store of prepared ones then starts anew.
PREPARED_MAX: Final = 4096

_COUNT: Final = struct.pack(">h", len(COLUMNS))
_NULL: Final = b"\xff\xff\xff\xff"
_LENGTH: Final = struct.Struct(">i")
_BIGINT: Final = struct.Struct(">iq")
_UUID: Final = struct.Struct(">i16s")
# Of a request in flight: id, start, bytes, tokens they are taken for, picodollars reserved, whether it
# streams.
_ENTRY: Final = struct.Struct(">16sqqqq?")

_LAYOUTS: Final = {"uuid": ("i16s", 16), "timestamptz": ("iq", 8), "bigint": ("iq", 8), "integer": ("ii", 4)}
_LAYOUTS["boolean"] = ("i?", 1)
_numbers: Final = struct.Struct(">" + "".join(_LAYOUTS[TYPES[name]][0] for name in NUMBERS))
# Each number after its size, as the fields of a tuple are written.
_SIZED: Final[list[Any]] = [value for name in NUMBERS for value in (_LAYOUTS[TYPES[name]][1], None)]
_BIGINT_MAX: Final = 2**63 - 1
_MAXIMA: Final = tuple({"integer": 2**31 - 1, "bigint": _BIGINT_MAX}.get(TYPES[name]) for name in NUMBERS)

# PostgreSQL's epoch, 2000-01-01, in microseconds of ours.
EPOCH_US: Final = 946_684_800_000_000


def token_counts(used: Figures) -> tuple[int, ...]:
    """In the order of `NUMBERS`."""
    return (
        used.input_tokens,
        used.output_tokens,
        used.cache_read_tokens,
        used.cache_write_5m_tokens,
        used.cache_write_1h_tokens,
        used.reasoning_tokens,
        used.input_audio_tokens,
        used.output_audio_tokens,
        used.server_tool_calls,
    )


class UsageWriter:
    """Makes tuples for one worker."""

    def __init__(self) -> None:
        self._grants: dict[tuple[object, ...], bytes] = {}
        self._texts: dict[str | None, bytes] = {None: _NULL}

    def write(
        self, begin: bytes, texts: tuple[str | None, ...], cost: int | None, numbers: tuple[Any, ...]
    ) -> bytes:
        """One tuple.

        `begin` is what the method of that name gave; `texts` are model asked, model answered, service tier,
        outcome, price version and the provider's request id; `numbers` are `NUMBERS`, among them the request
        id as 16 bytes and the start in microseconds since 2000.
        """
        prepared = self._texts
        parts = [_COUNT, begin]
        for text in texts[:-1]:
            part = prepared.get(text)
            parts.append(self._prepare(text) if part is None else part)
        parts.append(_text(texts[-1]))
        parts.append(_NULL if cost is None else _BIGINT.pack(8, min(_BIGINT_MAX, cost)))
        try:
            parts.append(_pack(numbers))
        except struct.error:
            parts.append(_pack(_within_range(numbers)))
        return b"".join(parts)

    def entry(
        self,
        begin: bytes,
        request: APIRequest,
        request_id: str,
        started_us: int,
        request_bytes: int,
        reserved_picodollars: int,
    ) -> bytes:
        """What `interrupted_row` needs to know of a request that is admitted now."""
        model = request.model
        told = self._texts.get(model)
        tokens = request_bytes // BYTES_PER_TOKEN if request.operation.metered and request.json else 0
        numbers = _ENTRY.pack(
            bytes.fromhex(request_id),
            started_us,
            request_bytes,
            tokens,
            reserved_picodollars,
            request.streaming,
        )
        return numbers + begin + (self._prepare(model) if told is None else told)

    def begin(self, grant: Grant) -> bytes:
        """The columns that are the same for all requests of a key to an endpoint."""
        sealed = grant.sealed
        endpoint = grant.request.operation.path
        credential_id = None if sealed is None else sealed.credential_id
        # By its number: a UUID's own hash is written in Python.
        number = 0 if credential_id is None else credential_id.int
        key = (grant.caller.key.key_id, grant.kind, number, grant.provider.name, endpoint)
        found = self._grants.get(key)
        if found is None:
            if len(self._grants) >= PREPARED_MAX:
                self._grants.clear()
            found = self._grants[key] = b"".join(
                (
                    _UUID.pack(16, grant.caller.key.org_id.bytes),
                    _text(grant.caller.key.key_id),
                    _text(grant.kind.value),
                    _NULL if credential_id is None else _UUID.pack(16, credential_id.bytes),
                    _text(grant.provider.name),
                    _text(endpoint),
                )
            )
        return found

    def _prepare(self, text: str | None) -> bytes:
        part = _text(text)
        if text is not None and len(text) <= NAME_CHARACTERS_MAX:
            if len(self._texts) >= PREPARED_MAX:
                self._texts = {None: _NULL}
            self._texts[text] = part
        return part


def interrupted_row(entry: bytes) -> bytes:
    """The row of a request whose worker died: what was asked is estimated, what was reserved is charged."""
    request_id, started_us, request_bytes, tokens, charged, streamed = _ENTRY.unpack_from(entry)
    row = dict.fromkeys(NUMBERS, 0) | {
        "request_id": request_id,
        "started_at": started_us - EPOCH_US,
        "streamed": streamed,
        "usage_complete": False,
        "input_tokens": tokens,
        "request_bytes": request_bytes,
        "charged_picodollars": charged,
    }
    texts = (_NULL, _NULL, _text(Outcome.INTERRUPTED.value), _NULL, _NULL)
    numbers = _pack(_within_range(tuple(row[name] for name in NUMBERS)))
    return b"".join((_COUNT, entry[_ENTRY.size :], *texts, _NULL, numbers))


def _text(text: str | None) -> bytes:
    """A text field that Postgres can store: no NUL, no lone surrogate, bounded."""
    if text is None:
        return _NULL
    data = text[:NAME_CHARACTERS_MAX].replace("\0", "\ufffd").encode("utf-8", "replace")
    return _LENGTH.pack(len(data)) + data


def _pack(numbers: tuple[Any, ...]) -> bytes:
    fields = _SIZED[:]
    fields[1::2] = numbers
    return _numbers.pack(*fields)


def _within_range(numbers: tuple[Any, ...]) -> tuple[Any, ...]:
    """A request of hours has more microseconds than its column holds; nothing else is expected here."""
    return tuple(
        value if most is None else max(0, min(value, most))
        for value, most in zip(numbers, _MAXIMA, strict=True)
    )
