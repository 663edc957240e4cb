"""Journals to test with: records, an opened spool, and what a directory of segments holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from gateway.spool import Damage, Spool, read_frames
from storage.model import CredentialKind, Outcome, UsageRecord

BEGAN = datetime(2026, 11, 23, tzinfo=UTC)


def record(number: int, *, model: str | None = "claude-ö") -> UsageRecord:
    return UsageRecord(
        request_id=str(UUID(int=number)),
        started_at=BEGAN + timedelta(microseconds=number),
        org_id=UUID(int=1),
        key_id="abcdefghijkl",
        credential_kind=CredentialKind.BYOK,
        credential_id=UUID(int=2),
        provider="anthropic",
        endpoint="/v1/messages",
        model_asked=model,
        model_answered=model,
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
        audio_tokens=7,
        server_tool_calls=8,
        provider_request_id="req_1",
        request_bytes=9,
        response_bytes=10,
        verify_us=11,
        dial_us=12,
        first_byte_us=13,
        total_us=14,
    )


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
            records, offset, at_end = read_frames(segment, offset, records_max)
        except Damage:
            return found
        found += records
        if at_end or not records:
            return found


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.spool"))


def everything(directory: Path) -> list[UsageRecord]:
    return [one for segment in segments(directory) for one in read_all(segment)]
