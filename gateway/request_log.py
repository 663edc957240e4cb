"""The request log (`KARTA_REQUEST_LOG`): a line of JSON for each request, to stderr or a file.

Taking an ended request is an append to a queue; a task writes what has gathered, in one piece and in a
thread, so that a disk or a pipe that takes nothing holds up nobody. Several workers append to one file: a
piece is written at once, by `O_APPEND`. A file that was moved away (as log rotation does) is opened anew.

What a line has is `Ended`, and nothing else: there are no messages, headers, paths or bodies in it.

Bounds: `QUEUE_MAX` requests wait to be written; what comes beyond them is counted, and left out.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from datetime import UTC, datetime
from typing import Final

import msgspec
import trio

from gateway.ended import Ended

QUEUE_MAX: Final = 20_000
PERIOD_SECONDS: Final = 0.2
_BATCH_MAX: Final = 1000
_STDERR: Final = "stderr"
_STDERR_DESCRIPTOR: Final = 2
_ID_SPAN: Final = 16**4

_log = logging.getLogger("karta.gateway.request_log")
_encoder = msgspec.json.Encoder()


class RequestLog:
    """The log of one worker."""

    def __init__(self, target: str, percent: float) -> None:
        """`target` is `stderr` or a file's path; `percent` of the requests that ended well are told, and all
        others."""
        self._target = target
        self._below = percent / 100 * _ID_SPAN
        self._queue: deque[Ended] = deque()
        self._writing = trio.Lock()
        self._thread = trio.CapacityLimiter(1)
        self._descriptor = _STDERR_DESCRIPTOR if target == _STDERR else -1
        self._failing = False
        self.written = 0
        self.dropped = 0
        """Requests that found no room, or could not be written."""

    def take(self, ended: Ended) -> None:
        """A request has ended. Never waits."""
        # Ids are random, so their beginning is as good as a die, and the same for whoever else looks at it.
        well = ended.outcome == "completed" and ended.status < 400
        if well and int(ended.request_id[:4], 16) >= self._below:
            return
        if len(self._queue) >= QUEUE_MAX:
            self.dropped += 1
        else:
            self._queue.append(ended)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self.flush()
            await trio.sleep(PERIOD_SECONDS)

    async def flush(self) -> None:
        """Write what has gathered."""
        async with self._writing:
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH_MAX))]
                try:
                    await trio.to_thread.run_sync(
                        self._write, batch, limiter=self._thread, abandon_on_cancel=True
                    )
                except OSError as error:
                    self.dropped += len(batch)
                    if not self._failing:
                        _log.error("the request log cannot be written: %s", os.strerror(error.errno or 0))
                    self._failing = True
                else:
                    self.written += len(batch)
                    self._failing = False

    def close(self) -> None:
        if self._descriptor > _STDERR_DESCRIPTOR:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, batch: list[Ended]) -> None:
        data = memoryview(b"".join(_line(one) for one in batch))
        descriptor = self._open()
        while data:
            data = data[os.write(descriptor, data) :]

    def _open(self) -> int:
        if self._target == _STDERR:
            return self._descriptor
        if self._descriptor >= 0:
            try:
                here, there = os.fstat(self._descriptor), os.stat(self._target)  # noqa: PTH116
                if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                    return self._descriptor
            except FileNotFoundError:
                pass
            self.close()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._target, flags, 0o640)
        return self._descriptor


def _line(ended: Ended) -> bytes:
    """As it stands in the log: what people and programs look for first stands first."""
    cost = ended.cost_picodollars
    fields: dict[str, object] = {
        "time": datetime.fromtimestamp(ended.started_us / 1_000_000, UTC).isoformat(timespec="microseconds"),
        "event": "request",
        "request_id": ended.request_id,
        "org_id": ended.org_id,
        "key_id": ended.key_id,
        "api": ended.api,
        "method": ended.method,
        "endpoint": ended.endpoint,
        "provider": ended.provider,
        "credential": ended.credential,
        "model": ended.model,
        "response_model": ended.response_model,
        "status": ended.status,
        "outcome": ended.outcome,
        "error": ended.error,
        "streamed": ended.streamed,
        "usage_complete": ended.usage_complete,
        "input_tokens": ended.input_tokens,
        "output_tokens": ended.output_tokens,
        "cache_read_tokens": ended.cache_read_tokens,
        "cache_write_tokens": ended.cache_write_tokens,
        "reasoning_tokens": ended.reasoning_tokens,
        "cost_usd": None if cost is None else cost / 10**12,
        "request_bytes": ended.request_bytes,
        "response_bytes": ended.response_bytes,
        "verify_ms": ended.verify_us / 1000,
        "queue_ms": ended.queue_us / 1000,
        "dial_ms": ended.dial_us / 1000,
        "added_ms": ended.added_us / 1000,
        "first_byte_ms": ended.first_byte_us / 1000,
        "total_ms": ended.total_us / 1000,
    }
    return _encoder.encode(fields) + b"\n"
