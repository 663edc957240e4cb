"""A metered request as PostgreSQL's COPY takes it: the form in which usage is journaled and shipped.

A tuple is a count of fields (2 bytes) and, for each, its length (4 bytes, -1 for NULL) and bytes, big-endian
and in the order of `COLUMNS`. The data plane writes such tuples, shipping copies them unread, and the
database decodes them. Here they are taken apart and mended.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from uuid import NAMESPACE_OID, uuid5

from storage.errors import InvalidValue

COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "request_id": "uuid",
        "started_at": "timestamptz",
        "org_id": "uuid",
        "key_id": "text",
        "credential_kind": "text",
        "credential_id": "uuid",
        "provider": "text",
        "endpoint": "text",
        "model_asked": "text",
        "model_answered": "text",
        "service_tier": "text",
        "status": "integer",
        "outcome": "text",
        "streamed": "boolean",
        "usage_complete": "boolean",
        "input_tokens": "integer",
        "output_tokens": "integer",
        "cache_read_tokens": "integer",
        "cache_write_5m_tokens": "integer",
        "cache_write_1h_tokens": "integer",
        "reasoning_tokens": "integer",
        "input_audio_tokens": "integer",
        "output_audio_tokens": "integer",
        "server_tool_calls": "integer",
        "cost_picodollars": "bigint",
        "price_version": "text",
        "charged_picodollars": "bigint",
        "provider_request_id": "text",
        "request_bytes": "bigint",
        "response_bytes": "bigint",
        "queue_us": "integer",
        "verify_us": "integer",
        "dial_us": "integer",
        "first_byte_us": "integer",
        "total_us": "bigint",
    }
)
"""Every column and its type, in the order of a tuple. A newer release adds at the end."""
NULLABLE = frozenset(
    {
        *("credential_id", "model_asked", "model_answered", "service_tier"),
        *("cost_picodollars", "price_version", "provider_request_id"),
    }
)
TEXT_CHARS_MAX = 256
"""Model names and ids are far shorter; a client may send anything."""
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""PostgreSQL's: a timestamptz is microseconds since then."""

_NULL = b"\xff\xff\xff\xff"
_COUNT = struct.Struct(">h")
_LENGTH = struct.Struct(">i")
_INTEGERS = {"integer": struct.Struct(">i"), "bigint": struct.Struct(">q")}
_INTEGER_MAX = {"integer": 2**31 - 1, "bigint": 2**63 - 1}
_FIXED_BYTES = {"integer": 4, "bigint": 8, "timestamptz": 8, "uuid": 16, "boolean": 1}
_DEFAULTS = {**{name: bytes(size) for name, size in _FIXED_BYTES.items()}, "text": b""}
_TIMES = struct.Struct(">q")
_MICROSECOND = timedelta(microseconds=1)
_TIME_MIN = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND
_TIME_MAX = (datetime(9999, 12, 31, tzinfo=UTC) - EPOCH) // _MICROSECOND


def split_tuples(data: bytes, columns: int) -> Iterator[list[bytes | None]]:
    """The fields of each tuple, undecoded. Raises InvalidValue where the bytes are not tuples of so many
    columns."""
    at = 0
    while at < len(data):
        if data[at : at + 2] != _COUNT.pack(columns):
            raise InvalidValue(f"no tuple of {columns} columns begins at byte {at}")
        at += 2
        fields: list[bytes | None] = []
        for _ in range(columns):
            if at + 4 > len(data):
                raise InvalidValue("a tuple breaks off")
            [size] = _LENGTH.unpack_from(data, at)
            at += 4
            if size == -1:
                fields.append(None)
                continue
            if size < 0 or at + size > len(data):
                raise InvalidValue("a tuple breaks off")
            fields.append(data[at : at + size])
            at += size
        yield fields


def fit_tuple(columns: Sequence[str], fields: Sequence[bytes | None]) -> bytes:
    """The tuple with everything that has no place in its column cut, cleaned or replaced; always the same
    for the same."""
    parts = [_COUNT.pack(len(columns))]
    for name, content in zip(columns, fields, strict=True):
        fitted = _fit(content, COLUMNS[name], nullable=name in NULLABLE)
        parts += (_NULL,) if fitted is None else (_LENGTH.pack(len(fitted)), fitted)
    return b"".join(parts)


def _fit(content: bytes | None, pg_type: str, *, nullable: bool) -> bytes | None:
    if content is None:
        return None if nullable else _DEFAULTS[pg_type]
    if pg_type == "text":
        # PostgreSQL's text takes no NUL, and only well-formed UTF-8.
        return content.decode("utf-8", "replace")[:TEXT_CHARS_MAX].replace("\0", "\ufffd").encode()
    if len(content) != _FIXED_BYTES[pg_type]:
        if pg_type == "uuid":
            # The same every time, so that sending it again still adds nothing.
            return uuid5(NAMESPACE_OID, content.hex()).bytes
        return _DEFAULTS[pg_type]
    if pg_type == "timestamptz":
        return _TIMES.pack(max(_TIME_MIN, min(_TIMES.unpack(content)[0], _TIME_MAX)))
    if pg_type in _INTEGERS:
        layout = _INTEGERS[pg_type]
        return layout.pack(max(0, min(layout.unpack(content)[0], _INTEGER_MAX[pg_type])))
    return content
