"""Stage 8: `StreamOutcome → usage row`. One row a request, whatever its end.

`settle` is synchronous, so no cancellation can come between an answer and its row, and it is called before
the last bytes are relayed: an answer the client saw to its end is always counted. The first call decides;
later ones do nothing.
"""

from __future__ import annotations

import time

from gateway.authorize import Grant
from gateway.prices import Prices
from gateway.reservation import Reservation
from gateway.response_head import ClientHead
from gateway.spool import Spool
from gateway.tally import Tally
from gateway.usage_writer import EPOCH_US, UsageWriter
from storage.model import Outcome

# Ends at which the provider may have worked although it said nothing: what was asked is counted then,
# estimated.
_UNHEARD = (Outcome.CLIENT_GONE, Outcome.TIMED_OUT)


class Metering:
    """The account of one request, from admission to its row."""

    __slots__ = (
        "_began",
        "_grant",
        "_meter",
        "dial_us",
        "first_byte_us",
        "provider_request_id",
        "queue_us",
        "request_bytes",
        "request_id",
        "reservation",
        "response_bytes",
        "settled",
        "started_us",
        "status",
        "tally",
        "verify_us",
    )

    def __init__(self, meter: Meter, grant: Grant, request_id: str, began: float, started_us: int) -> None:
        self._meter = meter
        self._grant = grant
        self._began = began
        self.request_id = request_id
        self.started_us = started_us
        """Microseconds since 1970; it also decides which window of a limit the request counts in."""
        self.reservation: Reservation | None = None
        """What was set apart for it, settled with the row."""
        self.settled = False
        self.status = 0
        self.tally: Tally | None = None
        self.provider_request_id: str | None = None
        self.request_bytes = 0
        self.response_bytes = 0
        self.queue_us = 0
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
        """Write the row, unless that has been done."""
        if self.settled:
            return
        self.settled = True
        tally, complete, owed = self._take_stock(outcome)
        cost, version, charged = self._price(tally, complete) if owed else (0, None, 0)
        if self.reservation is not None:
            self.reservation.settle(tally.tokens, charged)
        request = self._grant.request
        self._meter.append(
            self._grant,
            (
                request.model,
                tally.model,
                tally.service_tier,
                outcome.value,
                version,
                self.provider_request_id,
            ),
            cost,
            (
                bytes.fromhex(self.request_id),
                self.started_us - EPOCH_US,
                self.status,
                tally.streamed,
                complete,
                tally.input_tokens,
                tally.output_tokens,
                tally.cache_read_tokens,
                tally.cache_write_5m_tokens,
                tally.cache_write_1h_tokens,
                tally.reasoning_tokens,
                tally.input_audio_tokens,
                tally.output_audio_tokens,
                tally.server_tool_calls,
                charged,
                self.request_bytes,
                self.response_bytes,
                self.queue_us,
                self.verify_us,
                self.dial_us,
                self.first_byte_us,
                self.elapsed_us(),
            ),
        )

    def _take_stock(self, outcome: Outcome) -> tuple[Tally, bool, bool]:
        """What was used, whether that is the provider's own last word, and whether something is owed for
        it."""
        request = self._grant.request
        metered = request.operation.metered
        tally = self.tally
        if tally is not None and metered and self.status < 300:
            tally.finish()
            if not tally.complete:
                # The bytes of audio or an image say nothing of tokens.
                tally.estimate(self.request_bytes if request.json else 0)
            return tally, tally.complete, True
        # Nothing came back, or figures that tell of an earlier request, which had a row of its own: what a
        # refused or failed request used is known to be nothing.
        nothing = Tally(request.dialect, streamed=tally is not None and tally.streamed)
        if tally is not None or outcome not in _UNHEARD:
            return nothing, True, False
        if metered and request.json:
            nothing.estimate(self.request_bytes)
        return nothing, False, metered

    def _price(self, tally: Tally, complete: bool) -> tuple[int | None, str | None, int]:
        """Cost (None when it is not known), price version, and what money limits are charged."""
        grant = self._grant
        prices = self._meter.prices
        cost, version = prices.cost(
            tally,
            provider=grant.provider.name,
            model_asked=grant.request.model,
            org_id=grant.caller.key.org_id,
            at=self.started_us / 1_000_000,
        )
        if not complete and not tally.tokens:
            # Something was made, and nobody said how much: that is not nothing.
            cost = version = None
        return cost, version, prices.charge(tally, cost, self.request_bytes)


class Meter:
    """The meter of one worker."""

    def __init__(self, spool: Spool, prices: Prices) -> None:
        self.spool = spool
        self.prices = prices
        self.settled = 0
        self._writer = UsageWriter()

    def begin(self, grant: Grant, request_id: str, began: float, started_us: int) -> Metering:
        """A request has been admitted; it arrived at `began` by `time.perf_counter()`, and at `started_us`
        microseconds since 1970.
        """
        return Metering(self, grant, request_id, began, started_us)

    def append(
        self, grant: Grant, texts: tuple[str | None, ...], cost: int | None, numbers: tuple[object, ...]
    ) -> None:
        self.spool.append(self._writer.write(grant, texts, cost, numbers))
        self.settled += 1
