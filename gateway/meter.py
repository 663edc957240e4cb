"""Stage 8: `Metering → usage row`. One row a request, whatever its end.

`settle` is synchronous, so no cancellation can come between an answer and its row, and it is called before
the last bytes are relayed: an answer the client saw to its end is always counted. The first call decides;
later ones do nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gateway.authorize import Grant
from gateway.in_flight import NO_SLOT
from gateway.late_usage import Counted, LateKind, LateRecord, LateUsage, late_usage
from gateway.prices import SIMULATED, Prices
from gateway.quota import Ledger
from gateway.reservation import Reservation
from gateway.response_head import ClientHead
from gateway.spool import Spool
from gateway.stages import AllStages
from gateway.tally import BYTES_PER_TOKEN, Tally
from gateway.usage_writer import EPOCH_US, UsageWriter, token_counts
from gateway.worst_case import IN_PARTS
from storage.model import CredentialKind, Outcome

# Ends at which the provider may have worked although it said nothing: what was asked is estimated then.
_COMPLETED: Final = Outcome.COMPLETED
_PLATFORM: Final = CredentialKind.PLATFORM
_UNHEARD: Final = (Outcome.CLIENT_GONE, Outcome.TIMED_OUT, Outcome.REVOKED, Outcome.STOPPED)


class Metering:
    """The account of one request, from admission to its row."""

    __slots__ = (
        "_began",
        "_begin",
        "_grant",
        "_meter",
        "_slot",
        "body_us",
        "dial_us",
        "first_byte_us",
        "late",
        "provider_request_id",
        "queue_us",
        "request_bytes",
        "request_id",
        "reservation",
        "response_bytes",
        "sent",
        "sent_us",
        "settled",
        "started_us",
        "status",
        "streaming",
        "tally",
        "verify_us",
    )

    def __init__(
        self,
        meter: Meter,
        grant: Grant,
        request_id: str,
        began: float,
        started_us: int,
        reservation: Reservation | None,
        request_bytes: int,
    ) -> None:
        self._meter = meter
        self._grant = grant
        self._began = began
        self.request_id = request_id
        self.started_us = started_us
        """Microseconds since 1970; it also decides which window of a limit the request counts in."""
        self.late: LateUsage | None = None
        """Reads what the answer tells of earlier work, where it may."""
        self.reservation = reservation
        """What was set apart for it, settled with the row."""
        self._begin = meter.writer.begin(grant)
        self._slot = meter.spool.in_flight.begin(
            meter.writer.entry(
                self._begin,
                grant.request,
                request_id,
                started_us,
                request_bytes,
                reservation.picodollars if reservation else 0,
            )
        )
        self.settled = False
        self.sent = False
        """Something of the request has gone up."""
        self.status = 0
        self.tally: Tally | None = None
        self.provider_request_id: str | None = None
        self.request_bytes = request_bytes
        self.response_bytes = 0
        self.queue_us = 0
        self.verify_us = 0
        self.dial_us = 0
        self.first_byte_us = 0
        self.body_us = 0
        """How long the client took to send its body, where that had to be waited for."""
        self.sent_us = 0
        """When all of it had gone up (of a body that streams: when it began to)."""
        self.streaming = False
        """Its answer is a stream of events, which is open."""

    def turn_to(self, grant: Grant) -> None:
        """The provider before used nothing; from now on another one is asked."""
        meter = self._meter
        self._grant = grant
        self._begin = meter.writer.begin(grant)
        before = self._slot
        held = self.reservation.picodollars if self.reservation else 0
        self._slot = meter.spool.in_flight.begin(
            meter.writer.entry(
                self._begin, grant.request, self.request_id, self.started_us, self.request_bytes, held
            )
        )
        meter.spool.in_flight.end(before)
        self.sent = False

    def elapsed_us(self) -> int:
        return int((time.perf_counter() - self._began) * 1_000_000)

    def begin_answer(self, status: int, head: ClientHead) -> None:
        """The provider's answer has begun."""
        self.status = status
        self.first_byte_us = self.elapsed_us()
        if head.provider_request_id is not None:
            self.provider_request_id = head.provider_request_id.decode("ascii", "replace")
        request = self._grant.request
        if head.event_stream:
            self.streaming = True
            self._meter.streams += 1
        self.tally = Tally(self._grant.provider.usage_dialect, streamed=head.event_stream)
        if status == 200 and (not request.operation.metered or request.in_background):
            self.late = self._meter.late_reader(self._grant, streamed=head.event_stream)

    @property
    def _is_receipt(self) -> bool:
        """What the work used is told to whoever looks later: this was asked for, and the provider agreed."""
        return self._grant.request.in_background and (self.late is None or self.late.agreed)

    def feed_late(self, piece: bytes) -> None:
        """A piece of an answer that may tell of earlier work (there is a `late`)."""
        assert self.late is not None
        self._meter.append_late(self._grant, self.late.feed(piece), self.started_us)

    def _finish_late(self, outcome: Outcome) -> None:
        if self.late is not None:
            self._meter.append_late(self._grant, self.late.finish(), self.started_us)
            if outcome is _COMPLETED:
                self._meter.counted.add(self.late)

    def settle(self, outcome: Outcome) -> None:
        """Write the row, unless that has been done."""
        if self.settled:
            return
        self.settled = True
        self._finish_late(outcome)
        tally, complete, owed = self._take_stock(outcome)
        cost, version, charged = self._price(tally, complete, outcome) if owed else (0, None, 0)
        self._settle_limits(tally.tokens, charged)
        request = self._grant.request
        ended = outcome._value_  # `value` is a property written in Python
        total_us = self.elapsed_us()
        self._meter.append(
            self._begin,
            (request.model, tally.model, tally.service_tier, ended, version, self.provider_request_id),
            cost,
            (
                bytes.fromhex(self.request_id),
                self.started_us - EPOCH_US,
                self.status,
                tally.streamed,
                complete,
                *token_counts(tally),
                charged,
                self.request_bytes,
                self.response_bytes,
                self.queue_us,
                self.verify_us,
                self.dial_us,
                self.first_byte_us,
                total_us,
            ),
            self._slot,
        )
        meter = self._meter
        if self.streaming:
            meter.streams -= 1
        meter.stages.observe(
            self._grant.provider.name,
            ended,
            self.status,
            self.verify_us,
            self.queue_us,
            self.dial_us,
            self.sent_us - self.dial_us - self.body_us,
            self.first_byte_us,
            total_us,
        )
        if meter.on_settled is not None:
            meter.on_settled(self, self._grant, ended, tally, complete, cost, total_us)

    @property
    def added_us(self) -> int:
        """Karta's own time before it was sent; 0 or less when it was not."""
        return self.sent_us - self.dial_us - self.body_us

    def server_timing(self) -> bytes:
        """The header line that says how long each stage took so far, in milliseconds (W3C Server Timing)."""
        stages = (
            ("verify", self.verify_us),
            ("queue", self.queue_us),
            ("dial", self.dial_us),
            ("added", max(0, self.added_us)),
            ("provider", self.elapsed_us() - self.sent_us),
        )
        return (
            b"server-timing: "
            + ", ".join([f"karta-{name};dur={us / 1000:.3f}" for name, us in stages]).encode()
        )

    def _settle_limits(self, tokens: int, charged: int) -> None:
        caller = self._grant.caller
        reservation = self.reservation
        if self._grant.kind is _PLATFORM:
            limits, hard_limits = caller.key.limits, caller.hard_limits
        else:
            limits, hard_limits = caller.own_limits, caller.own_hard_limits
            if reservation is not None and reservation.limits is not hard_limits:
                reservation.release_credit()
        if limits and (
            reservation is None or reservation.limits is not hard_limits or len(limits) > len(hard_limits)
        ):
            model = self._grant.request.model
            self._meter.ledger.charge(limits, reservation, model, self.started_us, tokens, charged)
        if reservation is not None:
            reservation.settle(tokens, charged)

    def drop(self) -> None:
        """Nothing came of it, and it starts over: no row."""
        self.settled = True
        if self.reservation is not None:
            self.reservation.release()
        self._meter.spool.in_flight.end(self._slot)

    def _take_stock(self, outcome: Outcome) -> tuple[Tally, bool, bool]:
        """What was used, whether that is the provider's own last word, and whether it must be paid."""
        request = self._grant.request
        metered = request.operation.metered
        tally = self.tally
        if tally is not None and metered and self.status < 300 and not self._is_receipt:
            tally.finish()
            if not tally.complete:
                # The bytes of audio or an image say nothing of tokens.
                tally.estimate(self._bytes_read(tally) if request.json else 0)
            return tally, tally.complete, True
        # Nothing came back, or figures that tell of an earlier request, which had a row of its own: what a
        # refused or failed request used is known to be nothing.
        nothing = Tally(request.dialect, streamed=tally is not None and tally.streamed)
        if tally is not None or outcome not in _UNHEARD or not self.sent:
            return nothing, True, False
        if metered and request.json:
            nothing.estimate(self._bytes_read(nothing))
        return nothing, False, metered

    def _bytes_read(self, tally: Tally) -> int:
        """Its size, as far as that tells tokens: not the bytes of pictures, nor more than the model reads."""
        grant, request, at = self._grant, self._grant.request, self.started_us / 1_000_000
        request.weigh()
        most, org_id = request.input_tokens_max, grant.caller.key.org_id
        if request.operation.path not in IN_PARTS:
            provider, window = grant.provider.name, self._meter.prices.window
            most = min(most, window(tally, provider=provider, model_asked=grant.model, org_id=org_id, at=at))
        return min(self.request_bytes, most * BYTES_PER_TOKEN)

    def _price(self, tally: Tally, complete: bool, outcome: Outcome) -> tuple[int | None, str | None, int]:
        """Cost (None when it is not known), price version, and what money limits are charged."""
        grant = self._grant
        prices = self._meter.prices
        provider, org_id, at = grant.provider.name, grant.caller.key.org_id, self.started_us / 1_000_000
        cost, version = prices.cost(tally, provider=provider, model_asked=grant.model, org_id=org_id, at=at)
        silent = outcome is _COMPLETED and not tally.streamed and not tally.output_tokens
        if not complete and (silent or not tally.tokens) and provider != SIMULATED:
            # Something was made (speech, say), and nobody said how much: that is not nothing.
            cost = version = None
        # Bytes stand in for figures, and never against them; those of JSON are in the estimate.
        told = (complete or grant.request.json) and tally.tokens + tally.audio_ms > 0
        charged = prices.charge(tally, cost, 0 if told else self.request_bytes)
        held = 0 if complete or self.reservation is None else self.reservation.picodollars
        if charged < held and outcome in _UNHEARD:
            # Whoever leaves before the figures come would else use up a budget without its ever being full.
            unheard = tally.unheard((self.elapsed_us() - self.sent_us) / 1_000_000)
            cost_of_it, _ = prices.cost(
                unheard, provider=provider, model_asked=grant.model, org_id=org_id, at=at
            )
            charged = max(charged, min(held, prices.charge(unheard, cost_of_it)))
        return cost, version, charged


# The account, its grant, outcome, figures, whether those are whole, picodollars, microseconds in all.
OnSettled = Callable[[Metering, Grant, str, Tally, bool, int | None, int], None]


class Meter:
    """The meter of one worker."""

    def __init__(self, spool: Spool, prices: Prices, ledger: Ledger) -> None:
        self.spool = spool
        self.prices = prices
        self.settled = 0
        self.streams = 0
        """Streams of events that are open."""
        self.stages = AllStages()
        self.on_settled: OnSettled | None = None
        """Told of each row, where somebody watches."""
        self.counted = Counted()
        """Answers that have told of earlier work, and need not be read again."""
        self.ledger = ledger
        self.writer = UsageWriter()

    def begin(
        self,
        grant: Grant,
        request_id: str,
        began: float,
        started_us: int,
        reservation: Reservation | None,
        request_bytes: int,
    ) -> Metering:
        """A request has been admitted; it arrived at `began` by `time.perf_counter()`, and at `started_us`
        microseconds since 1970. What comes of it is told by `Metering.settle` or `drop`.
        """
        return Metering(self, grant, request_id, began, started_us, reservation, request_bytes)

    def append(
        self,
        begin: bytes,
        texts: tuple[str | None, ...],
        cost: int | None,
        numbers: tuple[object, ...],
        slot: int = NO_SLOT,
    ) -> None:
        """A row is on file, or held to be; then the slot that its request has in the register is free."""
        self.spool.append(self.writer.write(begin, texts, cost, numbers), slot)
        self.settled += 1

    def late_reader(self, grant: Grant, *, streamed: bool) -> LateUsage | None:
        """For an answer that may tell of earlier work and has not been read to its end before."""
        request = grant.request
        org_id = grant.caller.key.org_id
        if request.in_background:
            # Of what it starts itself.
            return LateUsage(LateKind.RESPONSE, "", org_id, streamed=streamed)
        return late_usage(
            request.inbound.method.decode("ascii", "replace"),
            request.dialect,
            request.operation.path,
            request.target,
            org_id,
            self.counted,
            streamed=streamed,
        )

    def append_late(self, grant: Grant, records: list[LateRecord], started_us: int) -> None:
        """Work that was paid for earlier: a row each. The database, which knows it again, charges limits."""
        for record in records:
            figures = record.figures
            cost, version = self.prices.cost(
                figures,
                provider=grant.provider.name,
                model_asked=None,
                org_id=grant.caller.key.org_id,
                at=started_us / 1_000_000,
            )
            charged = self.prices.charge(figures, cost)
            answered = figures.model, figures.service_tier
            self.append(
                self.writer.begin(grant),
                (grant.request.model, *answered, _COMPLETED.value, version, record.provider_id),
                cost,
                (
                    bytes.fromhex(record.request_id),
                    started_us - EPOCH_US,
                    200,
                    False,
                    record.complete,
                    *token_counts(figures),
                    charged,
                    *(0,) * 7,
                ),
            )
