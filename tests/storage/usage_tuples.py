"""Usage tuples made from records and read back, in plain `struct` code that says what is meant: what the
gateway's writer writes is checked against it."""

from __future__ import annotations

import struct
from datetime import timedelta
from typing import Any
from uuid import UUID

from storage.errors import InvalidValue
from storage.model import CredentialKind, Outcome, UsageRecord
from storage.usage_tuple import COLUMNS, EPOCH, split_tuples

_NULL = b"\xff\xff\xff\xff"
_COUNT = struct.Struct(">h")
_LENGTH = struct.Struct(">i")
_INTEGERS = {"integer": struct.Struct(">i"), "bigint": struct.Struct(">q")}
_TIMES = struct.Struct(">q")
_MICROSECOND = timedelta(microseconds=1)
_MEMBERS = {"credential_kind": CredentialKind, "outcome": Outcome}


def encode_tuple(record: UsageRecord) -> bytes:
    """The tuple of a record. Raises InvalidValue for what its column cannot hold."""
    parts = [_COUNT.pack(len(COLUMNS))]
    try:
        for name, pg_type in COLUMNS.items():
            value = getattr(record, name)
            if value is None:
                parts.append(_NULL)
            else:
                content = _encode(value, pg_type)
                parts += (_LENGTH.pack(len(content)), content)
    except (ValueError, struct.error):
        raise InvalidValue("a usage record holds a value that has no place in its column") from None
    return b"".join(parts)


def decode_tuple(data: bytes) -> UsageRecord:
    """The record of one whole tuple. Raises InvalidValue for anything else."""
    tuples = list(split_tuples(data, len(COLUMNS)))
    if len(tuples) != 1:
        raise InvalidValue("this is not one usage tuple")
    try:
        values: dict[str, Any] = {
            name: None if content is None else _decode(content, name, pg_type)
            for (name, pg_type), content in zip(COLUMNS.items(), tuples[0], strict=True)
        }
    except (ValueError, struct.error, OverflowError):
        raise InvalidValue("a usage tuple holds bytes that are no value of its column") from None
    return UsageRecord(**values)


def _encode(value: Any, pg_type: str) -> bytes:
    if pg_type == "uuid":
        return (value if isinstance(value, UUID) else UUID(value)).bytes
    if pg_type == "text":
        return str(value).encode()
    if pg_type == "boolean":
        return b"\1" if value else b"\0"
    if pg_type == "timestamptz":
        return _TIMES.pack((value - EPOCH) // _MICROSECOND)
    return _INTEGERS[pg_type].pack(value)


def _decode(content: bytes, name: str, pg_type: str) -> Any:
    if pg_type == "uuid":
        found = UUID(bytes=content)
        return found.hex if name == "request_id" else found
    if pg_type == "text":
        text = content.decode()
        return _MEMBERS[name](text) if name in _MEMBERS else text
    if pg_type == "boolean":
        return {b"\0": False, b"\1": True}[content] if content in (b"\0", b"\1") else _refuse()
    if pg_type == "timestamptz":
        return EPOCH + _TIMES.unpack(content)[0] * _MICROSECOND
    return _INTEGERS[pg_type].unpack(content)[0]


def _refuse() -> None:
    raise ValueError
