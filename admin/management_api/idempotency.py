"""A request that is sent twice under one `Idempotency-Key` is done once, and answered twice.

The key belongs to the management key, and to one request: its method, path, query and body. What was answered
is kept for a day, without what is shown once only. From the claim to the kept answer a request is not cut off
when its client leaves: who asks again shall find what became of it.

A request that was refused changed nothing, so its key is free again; one of which nobody knows (its process
died, the database went away in the middle) is told so, and never done again by itself.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import trio
from quart import request

from admin import bearer, throttle
from admin.management_api.call import Call, Operation
from admin.management_api.problems import Problem
from storage.errors import CommitUnknown, StorageError
from storage.idempotency import Kept, claim, keep_answer, release

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
NAME_CHARS_MAX = 255
UNDER_WAY_MAX = timedelta(seconds=60)
"""A claim without an answer that is older belongs to no request any more."""
SECONDS_MAX = 45.0
"""How long a request that cannot be cut off may take; each statement has a shorter deadline of its own."""

_log = logging.getLogger("karta.admin")


class Answer(NamedTuple):
    status: int
    body: bytes
    replayed: bool = False


async def run(operation: Operation, call: Call[Any, Any], body: bytes) -> Answer:
    """Does the operation, or repeats what it came to. Raises `Problem` and what the operation raises."""
    name = _read_name() if operation.is_write else None
    if name is None:
        return Answer(operation.status, msgspec.json.encode(await operation.run(call)))
    await throttle.count(throttle.API_IDEMPOTENT_KEY, call.acting.key.key_id)
    with trio.move_on_after(SECONDS_MAX, shield=True):
        return await _run_once(operation, call, _digest(b"name", name.encode()), _digest_request(body))
    raise Problem("outcome-unknown")


async def _run_once(
    operation: Operation, call: Call[Any, Any], name_digest: bytes, request_digest: bytes
) -> Answer:
    key_id = call.acting.key.key_id
    kept = await claim(call.db, key_id, name_digest, request_digest)
    if kept is not None:
        return _repeat(kept, request_digest)
    try:
        answer = await operation.run(call)
    except CommitUnknown:
        raise
    except Exception:
        await _try("release", release(call.db, key_id, name_digest))
        raise
    shown = answer if operation.once is None else msgspec.structs.replace(answer, **{operation.once: None})
    kept_body = msgspec.json.encode(shown)
    await _try("keep", keep_answer(call.db, key_id, name_digest, operation.status, kept_body))
    return Answer(operation.status, msgspec.json.encode(answer))


def _repeat(kept: Kept, request_digest: bytes) -> Answer:
    if kept.request_digest != request_digest:
        raise Problem("key-reused")
    if kept.status is not None and kept.answer is not None:
        return Answer(kept.status, kept.answer, replayed=True)
    if datetime.now(UTC) - kept.created_at < UNDER_WAY_MAX:
        raise Problem("under-way", retry_after=1)
    raise Problem("outcome-unknown")


async def _try(what: str, step: Any) -> None:
    """The request itself was done or refused, and that is what is answered."""
    try:
        await step
    except StorageError as error:
        _log.warning("an idempotent request: %s failed: %s", what, error)


def _read_name() -> str | None:
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    name: str = given[0]
    if len(given) > 1 or not 1 <= len(name) <= NAME_CHARS_MAX or not (name.isascii() and name.isprintable()):
        raise Problem(
            "malformed", f"{HEADER} is one value of 1 to {NAME_CHARS_MAX} printable ASCII characters."
        )
    return name


def _digest_request(body: bytes) -> bytes:
    line = [request.method, request.path, request.query_string.decode("latin-1")]
    return _digest(b"request", msgspec.json.encode(line) + b"\n" + body)


def _digest(person: bytes, content: bytes) -> bytes:
    # Keyed by the caller's secret: bodies hold secrets, and who reads the table shall not try them out.
    return blake2b(content, key=bearer.secret(), person=person, digest_size=32).digest()
