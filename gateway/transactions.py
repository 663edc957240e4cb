"""A share of the requests as Sentry's transactions, where `KARTA_SENTRY_TRACES_PERCENT` says so.

Made of `Ended`, as the spans for OpenTelemetry are, so there is nothing of a prompt in one either. Strangers
have none, and of a batch at most `EACH_BATCH_MAX` go: reports of faults go the same way, and must find room.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.batches import Batches
from gateway.ended import Ended
from storage.error_reports import send_transaction

PERIOD_SECONDS: Final = 1.0
EACH_BATCH_MAX: Final = 50
_ID_SPAN: Final = 16**4


class Transactions(Batches):
    """Those of one worker; `percent` of its requests."""

    def __init__(self, percent: float) -> None:
        super().__init__("Sentry cannot be told of requests", PERIOD_SECONDS)
        self._below = percent / 100 * _ID_SPAN

    def take(self, ended: Ended) -> None:
        """A request has ended. Never waits."""
        if ended.org_id is not None and int(ended.request_id[-4:], 16) < self._below:
            self.put(ended)

    def _write(self, batch: list[Ended]) -> None:
        for one in batch[:EACH_BATCH_MAX]:
            send_transaction(transaction(one))
        self.dropped += max(0, len(batch) - EACH_BATCH_MAX)


def transaction(ended: Ended) -> dict[str, Any]:
    """As Sentry takes it: the whole request, and within it the provider's part."""
    trace_id, own_id = ended.request_id, ended.request_id[16:]
    began = ended.started_us / 1_000_000
    ends = began + ended.total_us / 1_000_000
    spans = []
    if ended.sent_us:
        spans.append(
            {
                "op": "http.client",
                "description": ended.provider,
                "trace_id": trace_id,
                "span_id": ended.request_id[:16],
                "parent_span_id": own_id,
                "start_timestamp": began + ended.sent_us / 1_000_000,
                "timestamp": ends,
            }
        )
    status = "ok" if ended.status < 400 else "internal_error" if ended.status >= 500 else "invalid_argument"
    trace = {"op": "http.server", "trace_id": trace_id, "span_id": own_id, "status": status}
    return {
        "transaction": f"{ended.method} {ended.endpoint}",
        "start_timestamp": began,
        "timestamp": ends,
        "contexts": {"trace": trace},
        "spans": spans,
        "user": {"id": ended.key_id},
        "tags": {
            "organization": ended.org_id,
            "role": "api_key",
            "request_id": ended.request_id,
            "status": str(ended.status),
        },
    }
