"""From an admitted request to the head of an answer, in as many tries as that takes and may take.

Nothing has gone to the client yet, so that a try which came to nothing can be followed by another: at the
next target of the request's route, at once, or at the same one, after a pause (`retry` says when, `breaker`
whom not to ask at all). A dead idle connection is replaced besides, which is no try. Only a request whose
body is in memory is tried again: one that streams has gone.

Each try opens its own credential, and wipes it when the head is there or it failed. The usage row tells of
the last try. One that was given up for being slow may have been worked on, so that it gets a row, and a
reservation, of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import trio

from gateway.admission import Admission
from gateway.authorize import Grant, Upstreams
from gateway.connection import Connection
from gateway.decrypt import OpenedCredential, request_head
from gateway.dial import Pool, Pools, Upstream
from gateway.forward import receive_head
from gateway.include_usage import add_usage_request
from gateway.limits import Limits
from gateway.members import renamed
from gateway.meter import Meter, Metering
from gateway.refusal import Kind, Refusal
from gateway.response_reader import UpstreamBroken
from gateway.retry import Cause, Failure, failure_of_answer
from gateway.send_request import JOINED_BYTES_MAX, send_at_once, send_request
from gateway.targets import NO_FAILURE, Targets, admit, failure_of, judge, open_credential
from gateway.upload import upload
from gateway.upstream_response import NothingReceived, UpstreamResponse
from gateway.wait import Overdue
from gateway.watchdog import NEVER
from storage.model import Outcome
from storage.sealing import MasterKeys

# Fresh tries after an idle connection turned out dead: one, since a new connection cannot be stale.
_STALE_RETRIES: Final = 1


class Tries(Targets):
    """Those of one request: where it stands, and what it holds. `metering` is the last try's."""

    __slots__ = ("began", "metering", "opened", "request", "used", "whole")

    def __init__(
        self,
        grants: Sequence[Grant],
        metering: Metering,
        began: float,
        opened: OpenedCredential | None,
        upstream: Upstream | None,
        *,
        routed: bool,
    ) -> None:
        """`grants` in the order of trying; what was `opened` and dialled already is for the first of them."""
        super().__init__(grants, routed=routed)
        self.metering = metering
        self.began = began
        self.opened = opened
        self.used = [] if upstream is None else [upstream]
        """The connection that is the request's now, if there is one."""
        self.request = grants[0].request
        self.whole = self.request.inbound.complete
        """Its body is in memory, all of it."""

    def aim(self) -> None:
        """Make the request the target's: its name for the model, and what its streams are asked for."""
        grant = self.grant
        if self.routed and grant.request is self.request:
            request = self.request
            body = request.body
            if grant.model is not None and grant.model != request.model:
                body = renamed(body, grant.model)
            grant.request = request.again(body, request.fields)
        if not grant.request.usage_added:
            add_usage_request(grant.request, grant.provider)

    def release(self) -> None:
        """An answer has begun: what would have been sent elsewhere is let go."""
        for grant in self.grants:
            grant.request.forget()
        self.request.forget()

    def wipe(self) -> None:
        """A key that was opened in advance."""
        if self.opened is not None:
            self.opened.__exit__(None, None, None)
            self.opened = None

    def end(self, outcome: Outcome) -> None:
        """However it ended: nothing stays held."""
        self.wipe()
        for one in self.used:
            # Not settled: it was cut, and what is left on that connection belongs to an answer nobody reads.
            one.spoiled = one.spoiled or not self.metering.settled
            one.pool.give_back(one)
        self.metering.settle(outcome)


class Trier:
    """Tries requests, for a worker."""

    def __init__(
        self,
        *,
        limits: Limits,
        upstreams: Upstreams,
        master_keys: MasterKeys | None,
        pools: Pools,
        meter: Meter,
        admission: Admission,
        new_request_id: Callable[[], str],
    ) -> None:
        self._limits = limits
        self._upstreams = upstreams
        self._master_keys = master_keys
        self._pools = pools
        self._meter = meter
        self._admission = admission
        self._new_request_id = new_request_id
        self.failovers = 0

    async def ask(self, connection: Connection, tries: Tries) -> UpstreamResponse:
        """Until there is an answer to pass on. Raises how the last try failed: `Refusal`, `UpstreamBroken`,
        `Overdue`."""
        if connection.postponed:
            # The first try was the lane's, and is over.
            tries.repeats = tries.started = 1
            await trio.sleep(connection.postponed)
        while True:
            tries.aim()
            grant = tries.grant
            pool = self._pools.of(grant.provider.origin)
            last: Exception | None = None
            response: UpstreamResponse | None = None
            try:
                response = await self._try(connection, tries, pool)
            except (Refusal, UpstreamBroken, Overdue) as error:
                failure = failure_of(error)
                if failure is None:
                    raise
                # Without its frames, which hold a credential.
                last = error.with_traceback(None)
            else:
                reader = response.upstream.reader
                failure = failure_of_answer(reader.status, reader.lines) or NO_FAILURE
            judge(pool, grant, failure)
            delay = None if failure is NO_FAILURE else self._next(connection, tries, pool, failure)
            if delay is None:
                if response is None:
                    assert last is not None
                    try:
                        raise tries.final(last, failure)
                    finally:
                        # Its traceback holds this frame, and the request in it, which must not hold it.
                        del last
                response.head.lines += [line.encode("latin-1") for line in tries.lines(answered=True)]
                if grant.caller.server_timing:
                    response.head.lines.append(tries.metering.server_timing())
                return response
            await self._turn(connection, tries, failure, response, delay)

    def _next(self, connection: Connection, tries: Tries, pool: Pool, failure: Failure) -> float | None:
        """Seconds until the next try, `tries` being set on its target; None when there is to be none."""
        if not tries.whole:
            return None
        if tries.advance(self._pools, failure):
            self.failovers += 1
            return 0.0
        # What a broken connection did with it nobody knows: only what makes nothing is asked again.
        return tries.repeat(pool, failure, repeatable=tries.request.repeatable and not connection.tried)

    async def _turn(
        self,
        connection: Connection,
        tries: Tries,
        failure: Failure,
        response: UpstreamResponse | None,
        delay: float,
    ) -> None:
        """Leave the try behind, and get ready for the next."""
        for upstream in tries.used:
            _let_go(upstream, response)
        tries.used.clear()
        # It may not even have been used, and is of no use to another target.
        tries.wipe()
        connection.deadline = NEVER
        grant = tries.grant
        metering = tries.metering
        if failure.cause is Cause.SILENT:
            metering.status = Kind.UPSTREAM_TIMEOUT.value.status
            metering.settle(Outcome.TIMED_OUT)
            others = tries.grants[tries.at + 1 :]
            reservation = await self._admission.reserve(grant, metering.started_us, others)
            connection.request_id = request_id = self._new_request_id()
            tries.metering = self._meter.begin(
                grant, request_id, tries.began, metering.started_us, reservation, metering.request_bytes
            )
            tries.metering.body_us, tries.metering.sent_us = metering.body_us, metering.sent_us
        else:
            metering.turn_to(grant)
        if delay:
            await trio.sleep(delay)

    async def _try(self, connection: Connection, tries: Tries, pool: Pool) -> UpstreamResponse:
        """One target, once. Raises as `ask`."""
        grant = tries.grant
        admit(pool, grant)
        opened, tries.opened = tries.opened, None
        if opened is None:
            opened = open_credential(grant, self._master_keys)
        tries.started += 1
        with opened:
            return await self._send_and_wait(connection, tries, pool, opened)

    async def _send_and_wait(
        self, connection: Connection, tries: Tries, pool: Pool, opened: OpenedCredential
    ) -> UpstreamResponse:
        """Until an answer's head is here. A dead idle connection is replaced once, before any byte of an
        answer."""
        grant = opened.grant
        request = grant.request
        metering = tries.metering
        limits = self._limits
        used = tries.used
        if grant.first_byte_seconds is not None:
            limits = msgspec.structs.replace(limits, first_byte_seconds=grant.first_byte_seconds)
        if used and not used[0].transport.untouched():
            # It spoke while the key was verified, to nobody: that must not become this request's answer.
            pool.discard(used.pop())
        for attempt in range(_STALE_RETRIES + 1):
            if not used:
                began = time.perf_counter()
                # What must not be sent twice, or cannot be, goes on a connection that cannot be stale.
                fresh = connection.tried or not (request.inbound.complete and request.repeatable)
                used.append(await pool.acquire(fresh=fresh))
                metering.dial_us = int((time.perf_counter() - began) * 1_000_000)
            upstream = used[0]
            metering.sent = True
            upstream.reader.begin(head_only=request.inbound.method == b"HEAD")
            if not request.inbound.complete:
                length = None if request.content_length < 0 else request.content_length
                head = request_head(opened, length)
                metering.sent_us = metering.elapsed_us()
                return await upload(connection, upstream, head, grant, metering, limits)
            body = request.body
            joined = len(body) <= JOINED_BYTES_MAX
            head = request_head(opened, len(body), body if joined else b"")
            sent = send_at_once(upstream, head)
            if sent < len(head) or not joined:
                await send_request(connection, upstream, head, b"" if joined else body, limits, sent)
            # Of several tries the first: from then on it is the provider's time.
            metering.sent_us = metering.sent_us or metering.elapsed_us()
            try:
                return await receive_head(connection, upstream, grant, limits)
            except NothingReceived:
                if not upstream.reused or attempt == _STALE_RETRIES or not request.repeatable:
                    raise
                used.clear()
                pool.discard(upstream)
                connection.tried = True
        raise AssertionError("the loop above returns or raises")


def _let_go(upstream: Upstream, response: UpstreamResponse | None) -> None:
    """Of an answer that goes nowhere the connection is kept when the whole of it is here for certain."""
    reader = upstream.reader
    whole = response is not None and reader.content_length == len(response.start)
    upstream.spoiled = upstream.spoiled or not whole
    reader.take()
    upstream.pool.give_back(upstream)
