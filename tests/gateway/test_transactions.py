"""Which requests Sentry is told the times of, and what of them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import transactions
from gateway.transactions import EACH_BATCH_MAX, Transactions, transaction
from storage.report_form import reform
from tests.gateway.test_traces import ended


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(transactions, "send_transaction", found.append)
    return found


async def test_a_share_of_them_and_no_strangers(told: list[dict[str, Any]]) -> None:
    share = Transactions(25)
    for number in range(16):
        share.take(ended(number << 12))
        share.take(ended(number << 12, org_id=None))
    await share.flush()
    assert [one["tags"]["request_id"][-4] for one in told] == list("0123")


async def test_faults_must_find_room_beside_them(told: list[dict[str, Any]]) -> None:
    share = Transactions(100)
    for number in range(EACH_BATCH_MAX + 3):
        share.take(ended(number))
    await share.flush()
    assert len(told) == EACH_BATCH_MAX
    assert share.dropped == 3


def test_the_times_stand_in_it() -> None:
    made = transaction(
        ended(
            5,
            started_us=1_000_000,
            sent_us=500_000,
            total_us=2_000_000,
            status=503,
            method="POST",
            endpoint="/v1/messages",
            provider="anthropic",
            key_id="k1",
        )
    )
    kept = reform({"type": "transaction", **made})
    assert kept["transaction"] == "POST /v1/messages"
    assert (kept["start_timestamp"], kept["timestamp"]) == (1.0, 3.0)
    assert kept["contexts"]["trace"]["status"] == "internal_error"
    (span,) = kept["spans"]
    assert (span["start_timestamp"], span["timestamp"], span["description"]) == (1.5, 3.0, "anthropic")
    assert span["parent_span_id"] == kept["contexts"]["trace"]["span_id"] != span["span_id"]
    assert (kept["user"], kept["tags"]["status"]) == ({"id": "k1"}, "503")


def test_what_never_went_up_has_no_provider_s_part() -> None:
    assert transaction(ended(5))["spans"] == []
