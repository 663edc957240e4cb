"""The request log (`KARTA_REQUEST_LOG`): a line of JSON for each request, to stderr or a file.

What has gathered is written in one piece (`batches`). Several workers append to one file: a piece is written
at once, by `O_APPEND`. A file that was moved away (as log rotation does) is opened anew.

What a line has is `Ended`, and nothing else: there are no messages, headers, paths or bodies in it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Final

import msgspec

from gateway.batches import Batches
from gateway.ended import Ended

PERIOD_SECONDS: Final = 0.2
_STDERR: Final = "stderr"
_STDERR_DESCRIPTOR: Final = 2
_ID_SPAN: Final = 16**4

_encoder = msgspec.json.Encoder()


class RequestLog(Batches):
    """The log of one worker."""

    def __init__(self, target: str, percent: float) -> None:
        """`target` is `stderr` or a file's path; `percent` of the requests that ended well are told, and all
        others."""
        super().__init__("the request log cannot be written", PERIOD_SECONDS)
        self._target = target
        self._below = percent / 100 * _ID_SPAN
        self._descriptor = _STDERR_DESCRIPTOR if target == _STDERR else -1

    def take(self, ended: Ended) -> None:
        """A request has ended. Never waits."""
        # Ids end in random bits, so their end is as good as a die, and the same for whoever else looks at it.
        well = ended.outcome == "completed" and ended.status < 400
        if not well or int(ended.request_id[-4:], 16) < self._below:
            self.put(ended)

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
