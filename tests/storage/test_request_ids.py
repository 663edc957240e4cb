from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from storage.request_ids import made_at
from storage.usage_rows import LATE_PREFIX


def test_an_id_tells_when_it_was_made() -> None:
    now = datetime.now(UTC)
    nanoseconds = int(now.timestamp()) * 10**9 + 123_456_789
    assert made_at(UUID(int=nanoseconds << 64 | 5)) == now.replace(microsecond=123_456)


@pytest.mark.parametrize(
    "number",
    [
        0,
        2**128 - 1,
        int(datetime(2025, 12, 31, tzinfo=UTC).timestamp()) * 10**9 << 64,
        int((datetime.now(UTC) + timedelta(hours=1)).timestamp()) * 10**9 << 64,
        int(LATE_PREFIX, 16) << 96,
    ],
    ids=["none", "the last", "before Karta", "in an hour", "of late usage"],
)
def test_others_tell_no_time(number: int) -> None:
    assert made_at(UUID(int=number)) is None
