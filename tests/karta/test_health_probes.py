"""What each look makes of what it meets, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
import pytest
import trio

from karta import health_probes
from karta.health_probes import (
    Endpoint,
    by_age,
    look,
    probe_admin,
    probe_email,
    probe_gateway,
    probe_payments,
    probe_provider,
    probe_webhooks,
)
from storage.bridge import Database
from storage.health import State
from storage.health_key import HealthKey

KEY = HealthKey(UUID(int=1), "kt_test_x")
NO_SIMULATOR = (
    503,
    b'{"error": {"message": "Test keys need a simulated provider: set KARTA_SIMULATED_BASE_URL."}}',
)
WHOLE = (200, b'event: message_stop\ndata: {"type": "message_stop"}\n\n')


@asynccontextmanager
async def server(answers: Mapping[str, tuple[int, bytes]]) -> AsyncIterator[str]:
    """Answers each path so; whatever else it is asked, 404."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive_some(65536)
            path = data.split(b" ", 2)[1].decode()
            status, body = answers.get(path, (404, b""))
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            await stream.send_all(head.encode() + body)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answers", "key", "state"),
    [
        ({"/v1/messages": WHOLE}, KEY, State.UP),
        ({"/v1/messages": (200, b"event: message_start\n\n")}, KEY, State.DOWN),
        ({"/v1/messages": (500, b"{}"), "/readyz": (200, b"")}, KEY, State.DOWN),
        ({"/v1/messages": (401, b"no"), "/readyz": (200, b"")}, KEY, State.DOWN),
        ({"/v1/messages": NO_SIMULATOR, "/readyz": (200, b"")}, KEY, State.UP),
        ({"/v1/messages": NO_SIMULATOR, "/readyz": (503, b"")}, KEY, State.DOWN),
        ({"/readyz": (200, b"")}, None, State.UP),
        ({}, None, State.DOWN),
    ],
)
async def test_the_gateway(
    answers: Mapping[str, tuple[int, bytes]], key: HealthKey | None, state: State
) -> None:
    async with server(answers) as url, httpx.AsyncClient(trust_env=False) as client:
        assert await probe_gateway(client, url, key) is state


async def test_what_is_slow_is_degraded_and_what_hangs_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_probes, "SLOW_SECONDS", -1.0)
    async with server({"/healthz": (200, b"")}) as url, httpx.AsyncClient(trust_env=False) as client:
        assert await probe_admin(client, url) is State.DEGRADED
    monkeypatch.setattr(health_probes, "SECONDS_MAX", 0.05)
    sample = await look("admin", trio.sleep_forever)
    assert (sample.component, sample.state) == ("admin", State.DOWN)


@pytest.mark.parametrize(("status", "state"), [(401, State.UP), (404, State.UP), (500, State.DOWN)])
async def test_a_provider_that_says_no_is_there(status: int, state: State) -> None:
    async with server({"/v1/models": (status, b"")}) as url:
        assert await probe_provider(Endpoint(f"{url}/v1/models")) is state


async def test_mail_that_waits_for_long(admin_db: Database) -> None:
    assert await probe_email(admin_db) is State.UP
    await admin_db.execute(
        "INSERT INTO outbox (message_id, kind, recipient, sealed)"
        " VALUES (gen_random_uuid(), 'x', 'a@example.com', '\\x00')"
    )
    assert await probe_email(admin_db) is State.UP


async def test_events_that_nobody_takes_up(owner_db: Database) -> None:
    assert (await probe_webhooks(owner_db), await probe_payments(owner_db)) == (State.UP, State.UP)
    await owner_db.execute(
        "INSERT INTO webhook_events (org_id, type, data, created_at)"
        " VALUES (gen_random_uuid(), 'key.created', '{}', now() - interval '6 minutes')"
    )
    await owner_db.execute(
        "INSERT INTO stripe_events (event_id, kind, object_kind, object_id, happened_at, received_at)"
        " VALUES ('evt_1', 'invoice.paid', 'invoice', 'in_1', now(), now() - interval '31 minutes')"
    )
    assert (await probe_webhooks(owner_db), await probe_payments(owner_db)) == (State.DEGRADED, State.DOWN)


def test_ages() -> None:
    assert by_age(None, 10, 20) is None
    assert [by_age(age, 10, 20) for age in (5, 15, 25)] == [State.UP, State.DEGRADED, State.DOWN]
