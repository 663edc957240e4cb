"""The figures, as a scraper sees them: on their own port, and moving with what happens."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
import trio

from storage.settings import Bind
from tests.gateway.conftest import Stage
from tests.support.gateway import poll
from tests.support.scripted_provider import silent


def scrape(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url) as page:
        assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = page.read().decode().splitlines()
    return {
        name: float(value) for name, value in (line.split(" ") for line in lines if not line.startswith("#"))
    }


async def test_a_refused_request_is_counted(stage: Stage) -> None:
    async with stage(silent, metrics_bind=Bind("127.0.0.1", 0)) as (gateway, _), gateway.client() as client:
        await poll(lambda: gateway.worker.metrics_url is not None and gateway.worker.snapshot.ready)
        url = gateway.worker.metrics_url
        assert url is not None
        before = await trio.to_thread.run_sync(scrape, url)
        await client.send(b"GET /nothing HTTP/1.1\r\nhost: karta\r\n\r\n")
        await client.read_answer()
        after = await trio.to_thread.run_sync(scrape, url)
    assert after["karta_gateway_requests_total"] == before["karta_gateway_requests_total"] + 1
    assert after["karta_gateway_refusals_total"] == before["karta_gateway_refusals_total"] + 1
    assert after["karta_gateway_connections"] == 1
    assert after["karta_gateway_database_seen"] == 1


async def test_the_gateway_itself_has_no_such_page(stage: Stage) -> None:
    async with stage(silent, metrics_bind=Bind("127.0.0.1", 0)) as (gateway, _), gateway.client() as client:
        await client.send(b"GET /metrics HTTP/1.1\r\nhost: karta\r\n\r\n")
        assert (await client.read_answer()).status == 404


async def test_only_that_page_is_there(stage: Stage) -> None:
    async with stage(silent, metrics_bind=Bind("127.0.0.1", 0)) as (gateway, _):
        await poll(lambda: gateway.worker.metrics_url is not None)
        url = gateway.worker.metrics_url
        assert url is not None
        with pytest.raises(urllib.error.HTTPError) as caught:
            await trio.to_thread.run_sync(scrape, url + "/v1/messages")
        caught.value.close()
    assert caught.value.code == 404
