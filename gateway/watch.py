"""Whoever watches requests end: the request log, the traces and Sentry, where they are wanted.

Where nobody watches there is no `Watch`, and all a request pays is to see that there is none.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import version

from gateway import ended
from gateway.api_request import APIRequest
from gateway.authorize import Grant
from gateway.ended import Ended
from gateway.fault import tell
from gateway.meter import Metering
from gateway.prices import Prices
from gateway.refusal import Refusal
from gateway.request_log import RequestLog
from gateway.settings import GatewaySettings
from gateway.tally import Tally
from gateway.traces import Traces
from gateway.transactions import Transactions

_log = logging.getLogger("karta.gateway.watch")


class Watch:
    """What watches the requests of one worker."""

    def __init__(
        self,
        prices: Prices,
        log: RequestLog | None,
        traces: Traces | None,
        close: Callable[[], None] | None = None,
        transactions: Transactions | None = None,
    ) -> None:
        """`close` ends what the traces are exported by."""
        self._prices = prices
        self._close = close
        self.log = log
        self.traces = traces
        self.transactions = transactions

    @property
    def services(self) -> list[Callable[[], Awaitable[None]]]:
        """What has to run for it."""
        return [one.run for one in (self.log, self.traces, self.transactions) if one is not None]

    def settled(
        self,
        metering: Metering,
        grant: Grant,
        outcome: str,
        tally: Tally,
        complete: bool,
        cost: int | None,
        total_us: int,
    ) -> None:
        """A request has its usage row."""
        prices = self._prices
        self._tell(
            metering.request_id,
            lambda: ended.settled(metering, grant, outcome, tally, complete, cost, total_us, prices),
        )

    def refused(
        self,
        request_id: str,
        request: APIRequest | None,
        grant: Grant | None,
        refusal: Refusal,
        total_us: int,
    ) -> None:
        """A request will have none."""
        kind = refusal.kind
        self._tell(
            request_id, lambda: ended.refused(request_id, request, grant, kind, refusal.status, total_us)
        )

    def _tell(self, request_id: str, make: Callable[[], Ended]) -> None:
        try:
            one = make()
            if self.log is not None:
                self.log.take(one)
            if self.traces is not None:
                self.traces.take(one)
            if self.transactions is not None:
                self.transactions.take(one)
        except Exception as error:
            # A request's end is no place to fail for the sake of those who watch.
            tell(_log, error, "request %s cannot be told of", request_id, request_id=request_id)

    async def finish(self) -> None:
        """Tell what has not been told yet, at the end of the worker."""
        try:
            if self.log is not None:
                await self.log.flush()
            if self.traces is not None:
                await self.traces.flush()
            if self.transactions is not None:
                await self.transactions.flush()
        finally:
            if self.log is not None:
                self.log.close()
            if self._close is not None:
                self._close()


def watching(settings: GatewaySettings, prices: Prices) -> Watch | None:
    """What the settings want."""
    log = None
    if settings.request_log is not None:
        log = RequestLog(settings.request_log, settings.request_log_percent)
    transactions = None
    if settings.sentry_dsn is not None and settings.sentry_traces_percent > 0:
        transactions = Transactions(settings.sentry_traces_percent)
    if settings.traces_url is None:
        nobody = log is None and transactions is None
        return None if nobody else Watch(prices, log, None, transactions=transactions)
    # A library of its own, and not a small one: only for those who want it.
    from gateway.otlp import SpanSender

    sender = SpanSender(settings.traces_url, version("karta"))
    traces = Traces(sender, settings.traces_percent)
    return Watch(prices, log, traces, sender.close, transactions)
