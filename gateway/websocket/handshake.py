"""The opening handshake with a provider: with one target of the model's route after another, until one
agrees, or there is none left to ask.

A handshake makes nothing and costs nothing, so whatever went wrong with it may be tried elsewhere, as long as
the client has not been answered. `targets` and `retry` decide as they do for any request.

Bounds: a connection as `dial` says; an answer's head `HEAD_BYTES_MAX`, within the target's
`first_byte_seconds` or else `handshake_seconds`.
"""

from __future__ import annotations

from typing import NamedTuple

import trio

from gateway.authorize import Grant, Upstreams
from gateway.connection import Connection
from gateway.decrypt import request_head
from gateway.dial import Pool, Pools, Upstream
from gateway.head_layout import layout_of
from gateway.limits import Limits
from gateway.refusal import Kind, Refusal
from gateway.response_head import ClientHead
from gateway.response_reader import HEAD_BYTES_MAX, UpstreamBroken
from gateway.retry import Cause, Failure, failure_of_answer
from gateway.send_request import send_at_once, send_request
from gateway.targets import NO_FAILURE, Targets, admit, failure_of, judge, open_credential
from gateway.websocket.upgrade import Handshake, answer_head, check_fields, upstream_prefix
from storage.sealing import MasterKeys


class Answer(NamedTuple):
    """What a provider said."""

    upstream: Upstream
    grant: Grant
    raw: bytes
    """Its head as it came, and what came along with it."""
    head: bytes
    """Of one that agreed: the 101 for the client but for the empty line; otherwise nothing."""


class Handshakes:
    """Shakes hands, for a worker."""

    def __init__(
        self, *, limits: Limits, upstreams: Upstreams, master_keys: MasterKeys | None, pools: Pools
    ) -> None:
        self._limits = limits
        self._upstreams = upstreams
        self._master_keys = master_keys
        self._pools = pools
        self.failovers = 0

    async def shake(
        self, connection: Connection, targets: Targets, handshake: Handshake, request_id: bytes
    ) -> Answer:
        """The first answer to pass on, whose connection is the caller's. Raises how the last try failed:
        `Refusal`, `UpstreamBroken`."""
        while True:
            grant = targets.grant
            pool = self._pools.of(grant.provider.origin)
            answer: Answer | None = None
            last: Exception | None = None
            try:
                answer, failure = await self._try(connection, targets, pool, handshake, request_id)
            except (Refusal, UpstreamBroken) as error:
                found = _failure_of(error)
                if found is None:
                    raise
                # Without its frames, which hold a credential.
                failure, last = found, error.with_traceback(None)
            judge(pool, grant, failure)
            delay = None if failure is NO_FAILURE else self._next(targets, pool, failure)
            if delay is None:
                if answer is not None:
                    return answer
                assert last is not None
                raise targets.final(last, failure)
            if answer is not None:
                let_go(answer.upstream)
            if delay:
                await trio.sleep(delay)

    def _next(self, targets: Targets, pool: Pool, failure: Failure) -> float | None:
        if targets.advance(self._pools, failure):
            self.failovers += 1
            return 0.0
        # Silence has cost the client its time already, as it does for any request.
        return targets.repeat(pool, failure, repeatable=failure.cause is not Cause.SILENT)

    async def _try(
        self, connection: Connection, targets: Targets, pool: Pool, handshake: Handshake, request_id: bytes
    ) -> tuple[Answer, Failure]:
        grant = targets.grant
        admit(pool, grant)
        targets.started += 1
        upstream = await pool.acquire(fresh=True)
        try:
            hide = grant.hides_account
            prefix = grant.request.upstream_prefix(grant.provider, hide_account=hide)
            prefix = upstream_prefix(prefix, handshake, hide_account=hide)
            raw = await self._ask(connection, upstream, grant, self._head(grant, prefix))
            lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
            if raw.startswith(b"HTTP/1.1 101 "):
                told = self._agreed(upstream, grant, handshake, lines, request_id)
                route = [line.encode("latin-1") for line in targets.lines(answered=True)]
                return Answer(upstream, grant, raw, b"\r\n".join((told, *route))), NO_FAILURE
            status = raw[9:12]
            failure = failure_of_answer(int(status), lines) if status.isdigit() else None
            return Answer(upstream, grant, raw, b""), failure or NO_FAILURE
        except BaseException:
            let_go(upstream)
            raise

    def _head(self, grant: Grant, prefix: bytes) -> bytearray:
        with open_credential(grant, self._master_keys) as opened:
            return request_head(opened, 0, b"", prefix)

    async def _ask(self, connection: Connection, upstream: Upstream, grant: Grant, head: bytearray) -> bytes:
        """Send the request up; the head of the answer, and what came along with it."""
        raw = b""
        seconds = grant.first_byte_seconds or self._limits.handshake_seconds
        with trio.move_on_after(seconds):
            sent = send_at_once(upstream, head)
            if sent < len(head):
                await send_request(connection, upstream, head, b"", self._limits, sent)
            while b"\r\n\r\n" not in raw:
                try:
                    data = await upstream.transport.receive()
                except OSError:
                    raise UpstreamBroken("it reset the connection") from None
                if not data:
                    raise UpstreamBroken("it closed the connection without an answer")
                raw += data
                if len(raw) > HEAD_BYTES_MAX and b"\r\n\r\n" not in raw:
                    raise UpstreamBroken("its head is too long")
            return raw
        raise Refusal(Kind.UPSTREAM_TIMEOUT, "The provider did not answer in time.")

    def _agreed(
        self,
        upstream: Upstream,
        grant: Grant,
        handshake: Handshake,
        lines: list[bytes],
        request_id: bytes,
    ) -> bytes:
        reader = upstream.reader
        try:
            check_fields(lines)
        except ValueError as error:
            raise UpstreamBroken(str(error)) from None
        reader.status, reader.lines = 101, lines
        reader.layout = layout_of(lines, reader.layout)
        client_head = ClientHead(reader, grant.provider, hide_account=grant.hides_account)
        reader.lines = []
        try:
            return answer_head(handshake, lines, client_head, request_id)
        except ValueError as error:
            raise UpstreamBroken(str(error)) from None


def let_go(upstream: Upstream) -> None:
    """What was a socket, or became none, is of no further use."""
    upstream.spoiled = True
    if upstream.transport.sock.fileno() >= 0:
        upstream.pool.give_back(upstream)


def _failure_of(error: Exception) -> Failure | None:
    failure = failure_of(error)
    if failure is None and isinstance(error, Refusal) and error.kind is Kind.UPSTREAM_TIMEOUT:
        return Failure(Cause.SILENT)
    return failure
