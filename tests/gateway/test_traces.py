"""Which requests have spans, and that they go in batches."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.batches import BATCH_MAX
from gateway.ended import Ended
from gateway.trace_context import TraceParent
from gateway.traces import Traces


def ended(number: int = 0, **changes: Any) -> Ended:
    fields: dict[str, Any] = {
        "started_us": 1,
        "request_id": f"{number:032x}",
        "org_id": "an organization",
        "status": 200,
        "outcome": "completed",
    }
    return Ended(**(fields | changes))


class Collector:
    def __init__(self) -> None:
        self.batches: list[list[Ended]] = []
        self.takes = True

    def __call__(self, batch: list[Ended]) -> bool:
        self.batches.append(batch)
        return self.takes


async def test_a_share_of_those_without_a_trace() -> None:
    collector = Collector()
    traces = Traces(collector, 25)
    for number in range(16):
        traces.take(ended(number << 12))
    await traces.flush()
    assert [one.request_id[-4] for one in collector.batches[0]] == list("0123")


async def test_a_caller_s_own_decision_counts_and_strangers_have_none() -> None:
    collector = Collector()
    traces = Traces(collector, 0)
    traces.take(ended(1, trace=TraceParent(1, 1, sampled=True)))
    traces.take(ended(2, trace=TraceParent(1, 1, sampled=False)))
    traces.take(ended(3, trace=TraceParent(1, 1, sampled=True), org_id=None))
    traces.take(ended(4))
    await traces.flush()
    assert [[int(one.request_id, 16) for one in batch] for batch in collector.batches] == [[1]]


async def test_many_go_in_batches() -> None:
    collector = Collector()
    traces = Traces(collector, 100)
    for number in range(BATCH_MAX + 1):
        traces.take(ended(number))
    await traces.flush()
    assert [len(batch) for batch in collector.batches] == [BATCH_MAX, 1]
    assert traces.written == BATCH_MAX + 1


async def test_what_is_not_taken_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector()
    collector.takes = False
    traces = Traces(collector, 100)
    for number in range(3):
        traces.take(ended(number))
        await traces.flush()
    assert (traces.written, traces.dropped) == (0, 3)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "traces cannot be exported"
    ]
