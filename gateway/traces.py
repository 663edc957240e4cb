"""Spans for OpenTelemetry, where `KARTA_TRACES_URL` says so: which requests have them, and when they go.

A request that came with a trace of its own (`traceparent`) is part of it, if its caller records it; of all
others `percent` begin a trace, whose id is the request's. Strangers have no spans: only requests whose key
was verified do. Spans go in batches (`batches`), to one collector, in the form that `otlp` gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.batches import Batches
from gateway.ended import Ended

PERIOD_SECONDS: Final = 1.0
_ID_SPAN: Final = 16**4


class NotExported(Exception):
    """The collector did not take a batch."""


class Traces(Batches):
    """The spans of one worker. `export` sends those of a batch, and says whether they were taken."""

    def __init__(self, export: Callable[[list[Ended]], bool], percent: float) -> None:
        super().__init__("traces cannot be exported", PERIOD_SECONDS)
        self._export = export
        self._below = percent / 100 * _ID_SPAN

    def take(self, ended: Ended) -> None:
        """A request has ended. Never waits."""
        if ended.org_id is None:
            return
        if int(ended.request_id[-4:], 16) < self._below if ended.trace is None else ended.trace.sampled:
            self.put(ended)

    def _write(self, batch: list[Ended]) -> None:
        if not self._export(batch):
            raise NotExported
