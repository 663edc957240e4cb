"""Looks at each part of Karta as its users do: how it is, and how long it took to say so.

A look has its own deadline and never raises: what goes wrong is what it found. Nothing of a failure's text is
kept, since it may name hosts and rows.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import trio

if TYPE_CHECKING:
    from storage.bridge import Database
    from storage.health import Sample, State
    from storage.health_key import HealthKey

SECONDS_MAX = 10.0
"""Longer than this a user does not wait: it is down."""
SLOW_SECONDS = 3.0
"""Longer than this is degraded. The simulated answer is eight tokens."""
SLOW_DATABASE_SECONDS = 1.0
ANSWER_BYTES_MAX = 256 * 1024
MODEL = "claude-sim"
USAGE_LATE_SECONDS, USAGE_LOST_SECONDS = 300, 1800
"""The job asks once a minute, and usage is shipped within seconds of it."""
EMAIL_LATE_SECONDS, EMAIL_LOST_SECONDS = 900, 7200
EVENTS_LATE_SECONDS, EVENTS_LOST_SECONDS = 300, 1800
"""Of webhooks and of Stripe: both are taken up within seconds, as long as anybody does."""


@dataclass(frozen=True)
class Endpoint:
    """A provider's API as the gateway reaches it: any answer but a server's fault means that it is there."""

    url: str
    ca_file: str | None = None


@dataclass(frozen=True)
class Targets:
    """What to look at. None: not looked at."""

    gateway_url: str | None
    admin_url: str | None
    providers: Mapping[str, Endpoint] = field(default_factory=dict)
    sends_mail: bool = False
    takes_payments: bool = False


async def look(component: str, probe: Callable[[], Awaitable[State]]) -> Sample:
    """One sample."""
    from storage.errors import StorageError
    from storage.health import Sample, State

    began = trio.current_time()
    state = State.DOWN
    with trio.move_on_after(SECONDS_MAX):
        try:
            state = await probe()
        except (httpx.HTTPError, OSError, ssl.SSLError, StorageError, ValueError):
            state = State.DOWN
    return Sample(component, state, round((trio.current_time() - began) * 1000))


async def probe_gateway(client: httpx.AsyncClient, url: str, key: HealthKey | None) -> State:
    """A whole streamed request by a test key. Without a key, or where test keys have no provider to go to,
    whether the gateway says that it can serve."""
    from storage.health import State

    began = trio.current_time()
    if key is not None:
        headers = {"x-api-key": key.token, "anthropic-version": "2023-06-01"}
        body = {
            "model": MODEL,
            "max_tokens": 8,
            "stream": True,
            "messages": [{"role": "user", "content": "How are you?"}],
        }
        async with client.stream("POST", f"{url}/v1/messages", headers=headers, json=body) as answer:
            content = await _read(answer)
        if answer.status_code == 200:
            return _by_time(began, SLOW_SECONDS) if b'"message_stop"' in content else State.DOWN
        if not _has_no_simulator(answer.status_code, content):
            return State.DOWN
    ready = await client.get(f"{url}/readyz")
    return _by_time(began, SLOW_SECONDS) if ready.status_code == 200 else State.DOWN


def _has_no_simulator(status: int, content: bytes) -> bool:
    try:
        message = json.loads(content)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return False
    return status == 503 and "KARTA_SIMULATED_BASE_URL" in str(message)


async def _read(answer: httpx.Response) -> bytes:
    content = bytearray()
    async for piece in answer.aiter_bytes():
        content += piece
        if len(content) > ANSWER_BYTES_MAX:
            raise ValueError("no such answer was asked for")
    return bytes(content)


async def probe_admin(client: httpx.AsyncClient, url: str) -> State:
    from storage.health import State

    began = trio.current_time()
    answer = await client.get(f"{url}/healthz")
    return _by_time(began, SLOW_SECONDS) if answer.status_code == 200 else State.DOWN


async def probe_database(db: Database) -> State:
    began = trio.current_time()
    await db.fetch_value("SELECT 1")
    return _by_time(began, SLOW_DATABASE_SECONDS)


async def probe_usage(db: Database, key: HealthKey) -> State | None:
    """Whether the job's own requests of the last minutes are accounted for. None while there can be none
    yet."""
    from storage.health_key import select_newest_usage

    return by_age(await select_newest_usage(db, key.org_id), USAGE_LATE_SECONDS, USAGE_LOST_SECONDS)


async def probe_email(db: Database) -> State:
    """Whether mail leaves the outbox."""
    from storage.health import State
    from storage.outbox import select_oldest_wait

    return by_age(await select_oldest_wait(db), EMAIL_LATE_SECONDS, EMAIL_LOST_SECONDS) or State.UP


async def probe_webhooks(db: Database) -> State:
    """Whether what happens is taken up to be sent. How receivers answer is their own."""
    from storage.health import State
    from storage.webhook_deliveries import select_oldest_unspread

    return by_age(await select_oldest_unspread(db), EVENTS_LATE_SECONDS, EVENTS_LOST_SECONDS) or State.UP


async def probe_payments(db: Database) -> State:
    """Whether what Stripe tells is read from it again, and put in."""
    from storage.health import State
    from storage.stripe_events import select_oldest_waiting

    return by_age(await select_oldest_waiting(db), EVENTS_LATE_SECONDS, EVENTS_LOST_SECONDS) or State.UP


async def probe_provider(endpoint: Endpoint) -> State:
    """Whether the API answers. No credential is sent, so that it says no: that is an answer."""
    from storage.health import State

    began = trio.current_time()
    verify = True if endpoint.ca_file is None else ssl.create_default_context(cafile=endpoint.ca_file)
    async with (
        httpx.AsyncClient(verify=verify, trust_env=False, timeout=SECONDS_MAX) as client,
        client.stream("GET", endpoint.url) as answer,
    ):
        good = answer.status_code < 500
    return _by_time(began, SLOW_SECONDS) if good else State.DOWN


def by_age(seconds: float | None, late: float, lost: float) -> State | None:
    """How something is of which the oldest, or newest, is so old."""
    from storage.health import State

    if seconds is None:
        return None
    if seconds > lost:
        return State.DOWN
    return State.DEGRADED if seconds > late else State.UP


def _by_time(began: float, slow: float) -> State:
    from storage.health import State

    return State.UP if trio.current_time() - began <= slow else State.DEGRADED
