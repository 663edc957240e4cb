"""Journals to test with: records and rows, an opened spool, and what a directory of segments holds."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from gateway import usage_writer
from gateway.spool import Damage, Frames, Spool, read_frames
from storage import usage_tuple
from storage.model import CredentialKind, Outcome, UsageRecord
from tests.storage.usage_tuples import decode_tuple, encode_tuple

BEGAN = datetime(2026, 11, 23, tzinfo=UTC)


def record(number: int, *, model: str | None = "claude-ö") -> UsageRecord:
    return UsageRecord(
        request_id=UUID(int=number).hex,
        started_at=BEGAN + timedelta(microseconds=number),
        org_id=UUID(int=1),
        key_id="abcdefghijkl",
        credential_kind=CredentialKind.BYOK,
        credential_id=UUID(int=2),
        provider="anthropic",
        endpoint="/v1/messages",
        model_asked=model,
        model_answered=model,
        service_tier=None,
        status=200,
        outcome=Outcome.COMPLETED,
        streamed=True,
        usage_complete=True,
        input_tokens=number,
        output_tokens=2,
        cache_read_tokens=3,
        cache_write_5m_tokens=4,
        cache_write_1h_tokens=5,
        reasoning_tokens=6,
        input_audio_tokens=7,
        output_audio_tokens=8,
        server_tool_calls=9,
        cost_picodollars=number * 1_000_000,
        price_version="1-test",
        charged_picodollars=number * 1_000_000,
        provider_request_id="req_1",
        request_bytes=9,
        response_bytes=10,
        queue_us=0,
        verify_us=11,
        dial_us=12,
        first_byte_us=13,
        total_us=14,
    )


def row(record: UsageRecord) -> bytes:
    """The record as the journal holds it: its fields in the data plane's own order."""
    (fields,) = usage_tuple.split_tuples(encode_tuple(record), len(usage_tuple.COLUMNS))
    return _reordered(fields, tuple(usage_tuple.COLUMNS), usage_writer.COLUMNS)


def records_of(frames: Frames) -> list[UsageRecord]:
    """What rows of a journal say."""
    if not frames.number:
        assert frames.rows == b""
        return []
    found = [
        decode_tuple(_reordered(fields, frames.columns, tuple(usage_tuple.COLUMNS)))
        for fields in usage_tuple.split_tuples(frames.rows, len(frames.columns))
    ]
    assert len(found) == frames.number
    return found


def _reordered(fields: list[bytes | None], columns: tuple[str, ...], wanted: tuple[str, ...]) -> bytes:
    by_name = dict(zip(columns, fields, strict=True))
    return usage_tuple.fit_tuple(wanted, [by_name[name] for name in wanted])


@contextmanager
def opened(directory: Path) -> Iterator[Spool]:
    spool = Spool(directory)
    try:
        yield spool
    finally:
        spool.close()


def read_all(segment: Path, records_max: int = 100) -> list[UsageRecord]:
    """The records up to the end, or to what is torn or damaged."""
    found: list[UsageRecord] = []
    offset = 0
    while True:
        try:
            frames = read_frames(segment, offset, records_max)
        except Damage:
            return found
        found += records_of(frames)
        offset = frames.next_offset
        if frames.at_end or not frames.number:
            return found


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.spool"))


def everything(directory: Path) -> list[UsageRecord]:
    return [one for segment in segments(directory) for one in read_all(segment)]


@contextmanager
def file_bytes_max(size: int) -> Iterator[None]:
    """As a full disk does: a write is cut short at the limit, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
