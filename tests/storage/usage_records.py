"""Usage records to test with."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from storage.bridge import Database
from storage.model import CredentialKind, Outcome, UsageRecord
from storage.usage_rows import COLUMNS, ingest
from tests.storage.usage_tuples import encode_tuple

ORG = UUID(int=7)
NOBODY = UUID(int=0)
START = datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)


def usage(**changes: Any) -> UsageRecord:
    record = UsageRecord(
        request_id=uuid4().hex,
        started_at=START,
        org_id=ORG,
        key_id="0123456789ab",
        credential_kind=CredentialKind.BYOK,
        credential_id=uuid4(),
        provider="anthropic",
        endpoint="messages",
        model_asked="claude-x",
        model_answered="claude-x-20260101",
        service_tier="standard",
        status=200,
        outcome=Outcome.COMPLETED,
        streamed=True,
        usage_complete=True,
        input_tokens=10,
        output_tokens=20,
        cache_read_tokens=1,
        cache_write_5m_tokens=2,
        cache_write_1h_tokens=3,
        reasoning_tokens=4,
        input_audio_tokens=5,
        output_audio_tokens=6,
        server_tool_calls=7,
        cost_picodollars=1_234_500_000,
        price_version="0.2.3",
        charged_picodollars=1_234_500_000,
        provider_request_id="req_1",
        request_bytes=100,
        response_bytes=1000,
        queue_us=6,
        verify_us=7,
        dial_us=8,
        first_byte_us=9,
        total_us=3_600_000_000,
    )
    return msgspec.structs.replace(record, **changes)


async def insert_usage(db: Database, records: Iterable[UsageRecord], owner: UUID = NOBODY) -> int:
    """Stores records as `ingest` does tuples. Raises InvalidValue for one that no tuple can hold."""
    return await ingest(db, owner, tuple(COLUMNS), b"".join(encode_tuple(record) for record in records))
