"""Stage 8: `StreamOutcome → UsageRecord`. One record a request, whatever its end.

`settle` is synchronous, so no cancellation can come between an answer and its record, and it is called
before the last bytes are relayed: an answer the client saw to its end is always counted. The first call
decides; later ones do nothing.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from gateway.authorize import Grant
from gateway.refusal import Dialect
from gateway.response_head import ClientHead
from gateway.spool import Spool
from gateway.tally import Tally
from storage.model import Outcome, UsageRecord

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_CLIENT_GONE = Outcome.CLIENT_GONE

# Text a stranger chose, as long as it is kept.
_NAME_CHARACTERS_MAX = 200


def _clean(name: str | None) -> str | None:
    """A name that Postgres can store: no NUL, bounded."""
    return None if name is None else name[:_NAME_CHARACTERS_MAX].replace("\0", "�")


class Metering:
    """The account of one request, from admission to its record."""

    __slots__ = (
        "_began",
        "_grant",
        "_meter",
        "dial_us",
        "first_byte_us",
        "provider_request_id",
        "request_bytes",
        "request_id",
        "response_bytes",
        "settled",
        "started_at",
        "status",
        "tally",
        "verify_us",
    )

    def __init__(self, meter: Meter, grant: Grant, request_id: str, began: float) -> None:
        self._meter = meter
        self._grant = grant
        self._began = began
        self.request_id = request_id
        self.started_at = datetime.now(UTC)
        self.settled = False
        self.status = 0
        self.tally: Tally | None = None
        self.provider_request_id: str | None = None
        self.request_bytes = 0
        self.response_bytes = 0
        self.verify_us = 0
        self.dial_us = 0
        self.first_byte_us = 0

    def elapsed_us(self) -> int:
        return int((time.perf_counter() - self._began) * 1_000_000)

    def begin_answer(self, status: int, head: ClientHead) -> None:
        """The provider's answer has begun."""
        self.status = status
        self.first_byte_us = self.elapsed_us()
        if head.provider_request_id is not None:
            self.provider_request_id = head.provider_request_id.decode("ascii", "replace")
        self.tally = Tally(self._grant.request.dialect, streamed=head.event_stream)

    def settle(self, outcome: Outcome) -> None:
        """Write the record, unless that has been done."""
        if self.settled:
            return
        self.settled = True
        grant = self._grant
        request = grant.request
        tally = self.tally
        if tally is None:
            tally = _NOTHING
            # Nothing came back; what a refused or failed request used is known to be nothing.
            complete = outcome is not _CLIENT_GONE
        elif not request.operation.metered or self.status >= 300:
            # Figures in the answer to a look-up tell of an earlier request, which had a record of its own.
            tally = Tally(request.dialect, streamed=tally.streamed)
            complete = True
        else:
            tally.finish()
            complete = tally.complete
            if not complete:
                # The bytes of audio or an image say nothing of tokens.
                tally.estimate(self.request_bytes if request.json else 0)
        key = grant.caller.key
        self._meter.spool.append(
            UsageRecord(
                request_id=self.request_id,
                started_at=self.started_at,
                org_id=key.org_id,
                key_id=key.key_id,
                credential_kind=grant.kind,
                credential_id=None if grant.sealed is None else grant.sealed.credential_id,
                provider=grant.provider.name,
                endpoint=request.operation.path,
                model_asked=_clean(request.model),
                model_answered=_clean(tally.model),
                status=self.status,
                outcome=outcome,
                streamed=tally.streamed,
                usage_complete=complete,
                input_tokens=tally.input_tokens,
                output_tokens=tally.output_tokens,
                cache_read_tokens=tally.cache_read_tokens,
                cache_write_5m_tokens=tally.cache_write_5m_tokens,
                cache_write_1h_tokens=tally.cache_write_1h_tokens,
                reasoning_tokens=tally.reasoning_tokens,
                audio_tokens=tally.output_audio_tokens,
                server_tool_calls=tally.server_tool_calls,
                provider_request_id=_clean(self.provider_request_id),
                request_bytes=self.request_bytes,
                response_bytes=self.response_bytes,
                verify_us=self.verify_us,
                dial_us=self.dial_us,
                first_byte_us=self.first_byte_us,
                total_us=self.elapsed_us(),
            )
        )
        self._meter.settled += 1


class Meter:
    """The meter of one worker."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.settled = 0

    def begin(self, grant: Grant, request_id: str, began: float) -> Metering:
        """A request has been admitted; `began` is `time.perf_counter()` at its arrival."""
        return Metering(self, grant, request_id, began)


_NOTHING = Tally(Dialect.UNKNOWN, streamed=False)
