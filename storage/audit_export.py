"""Audit rows as files, and the proof of such a file without a database.

JSONL holds each row as it is kept, byte for byte, with its place in the chain: `verify_lines` needs nothing
else. CSV is for spreadsheets: the same columns, but with a quote before what they would take for a formula.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from storage.audit import AuditRow, first_hash, hash_row
from storage.csv_cells import safe
from storage.errors import InvalidValue

LINE_BYTES_MAX = 256 * 1024
"""A row has 16 KiB of details at most, and a few KiB more."""
HEADER = (
    *("org_id", "seq", "created_at", "event", "actor_kind", "actor_id", "subject", "address", "user_agent"),
    *("request_id", "details", "prev_hash", "hash"),
)


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"

    @property
    def content_type(self) -> str:
        return {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}[self.value]


class _Line(msgspec.Struct):
    org_id: UUID
    seq: int
    created_at: datetime
    event: str
    actor_kind: str
    actor_id: str
    subject: str
    address: str | None
    user_agent: str | None
    request_id: str | None
    details: msgspec.Raw
    prev_hash: str
    hash: str


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What checking a file found: it proves rows `first_seq` to `last_seq`, where `problem` is None."""

    org_id: UUID | None
    rows: int
    first_seq: int | None
    last_seq: int | None
    last_hash: bytes | None
    problem: str | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Line)


def encode_header(form: Format) -> bytes:
    """What a file begins with."""
    return b"" if form is Format.JSONL else (",".join(HEADER) + "\r\n").encode()


def encode_rows(form: Format, rows: Sequence[AuditRow]) -> bytes:
    """Some rows, whole lines."""
    return _encode_jsonl(rows) if form is Format.JSONL else _encode_csv(rows)


def _encode_jsonl(rows: Sequence[AuditRow]) -> bytes:
    lines = bytearray()
    for row in rows:
        lines += _encoder.encode(
            _Line(
                row.org_id,
                row.seq,
                row.created_at,
                row.event,
                row.actor_kind,
                row.actor_id,
                row.subject,
                row.address,
                row.user_agent,
                row.request_id,
                msgspec.Raw(row.details.encode()),
                row.prev_hash.hex(),
                row.hash.hex(),
            )
        )
        lines += b"\n"
    return bytes(lines)


def _encode_csv(rows: Sequence[AuditRow]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(
        (
            row.org_id,
            row.seq,
            row.created_at.isoformat(timespec="microseconds"),
            row.event,
            row.actor_kind,
            safe(row.actor_id),
            safe(row.subject),
            safe(row.address or ""),
            safe(row.user_agent or ""),
            safe(row.request_id or ""),
            safe(row.details),
            row.prev_hash.hex(),
            row.hash.hex(),
        )
        for row in rows
    )
    return out.getvalue().encode()


def verify_lines(lines: Iterable[bytes]) -> FileReport:
    """Recomputes the chain of a JSONL file; stops at the first problem. Raises InvalidValue when a line is
    not one of ours."""
    first: AuditRow | None = None
    last: AuditRow | None = None
    count = 0
    problem = None
    for number, line in enumerate(lines, 1):
        row = _decode(line, number)
        if last is None:
            first = row
            if row.seq == 1 and row.prev_hash != first_hash(row.org_id):
                problem = "row 1 is not the beginning of this chain"
        elif row.org_id != last.org_id or row.seq != last.seq + 1:
            problem = f"row {last.seq + 1} is missing"
        elif row.prev_hash != last.hash:
            problem = f"row {row.seq} does not follow the row before it"
        if problem is None and hash_row(row) != row.hash:
            problem = f"row {row.seq} is not as it was written"
        if problem is not None:
            break
        last, count = row, count + 1
    return FileReport(
        org_id=None if first is None else first.org_id,
        rows=count,
        first_seq=None if first is None else first.seq,
        last_seq=None if last is None else last.seq,
        last_hash=None if last is None else last.hash,
        problem=problem,
    )


def _decode(line: bytes, number: int) -> AuditRow:
    try:
        found = _decoder.decode(line)
        return AuditRow(
            org_id=found.org_id,
            seq=found.seq,
            created_at=found.created_at.astimezone(UTC),
            event=found.event,
            actor_kind=found.actor_kind,
            actor_id=found.actor_id,
            subject=found.subject,
            address=found.address,
            user_agent=found.user_agent,
            request_id=found.request_id,
            details=bytes(found.details).decode(),
            prev_hash=bytes.fromhex(found.prev_hash),
            hash=bytes.fromhex(found.hash),
        )
    except (msgspec.MsgspecError, ValueError):
        raise InvalidValue(f"line {number} is not a row of an audit export in JSONL") from None
