"""What a load balancer is told, with no key and no provider."""

from __future__ import annotations

import json

from tests.gateway.conftest import Stage
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
