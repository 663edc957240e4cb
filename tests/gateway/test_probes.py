"""What a load balancer is told, with no key and no provider."""

from __future__ import annotations

import json

from tests.gateway.conftest import Stage, Tenant
from tests.support.database_line import database_line
from tests.support.gateway import poll
from tests.support.scripted_provider import silent


async def test_a_worker_that_can_serve_says_so(stage: Stage) -> None:
    async with stage(silent) as (gateway, _), gateway.client() as client:
        await poll(lambda: gateway.worker.snapshot.ready)
        await client.send(b"GET /healthz HTTP/1.1\r\nhost: karta\r\n\r\n")
        alive = await client.read_answer()
        await client.send(b"GET /readyz HTTP/1.1\r\nhost: karta\r\n\r\n")
        ready = await client.read_answer()
    assert (alive.status, json.loads(alive.body)) == (200, {"alive": True})
    assert (ready.status, json.loads(ready.body)) == (200, {"ready": True})
    assert ready.headers["cache-control"] == "no-store"


async def test_a_probe_is_an_ordinary_request(stage: Stage) -> None:
    async with stage(silent) as (gateway, provider), gateway.client() as client:
        await poll(lambda: gateway.worker.snapshot.ready)
        await client.send(b"HEAD /readyz HTTP/1.1\r\nhost: karta\r\n\r\n")
        head = await client.read_answer(bodiless=True)
        assert (head.status, head.headers["content-length"]) == (200, "14")
        # A probe takes no body, so its connection ends where one would begin.
        await client.send(b"POST /healthz HTTP/1.1\r\nhost: karta\r\ncontent-length: 9\r\n\r\n")
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.read_to_end() == b""
        assert provider.lines == []


async def test_a_worker_that_lost_its_database_says_why(stage: Stage, tenant: Tenant) -> None:
    async with (
        database_line(tenant.database_url) as line,
        stage(silent, database_url=line.url, owner_url=tenant.database_url) as (gateway, _),
    ):
        await poll(lambda: gateway.worker.snapshot.ready)
        await poll(lambda: gateway.worker.snapshot.listening)
        line.cut()
        await poll(lambda: not gateway.worker.snapshot.listening)
        gateway.worker.snapshot.database_seen_at -= gateway.worker.limits.key_fresh_seconds + 1
        ready = await gateway.ask(b"GET /readyz HTTP/1.1\r\nhost: karta\r\n\r\n")
        assert ready.status == 503
        assert json.loads(ready.body) == {
            "ready": False,
            "reasons": ["database: not reachable, so new keys cannot be verified"],
        }
        alive = await gateway.ask(b"GET /healthz HTTP/1.1\r\nhost: karta\r\n\r\n")
        assert alive.status == 200
