"""The figures, as a scraper sees them: on their own port, and moving with what happens."""

from __future__ import annotations

import urllib.error
import urllib.request

import msgspec
import pytest
import trio
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import wait_all_tasks_blocked

from gateway.control import BYTES_MAX, figures
from gateway.stages import PROVIDERS_MAX
from storage.settings import Bind
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import RunningGateway, poll
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import Line as ProviderLine
from tests.support.scripted_provider import answering, silent
from tests.support.streams import ANTHROPIC, STREAM_BODY, chunk


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


def parse(page: bytes) -> dict[str, Metric]:
    """The page as Prometheus' own library reads it; it knows counters without their `_total`."""
    return {
        family.name.removeprefix("karta_gateway_"): family
        for family in text_string_to_metric_families(page.decode())
    }


def value(family: Metric, suffix: str = "", **labels: str) -> float:
    """The sum of the samples with these labels."""
    return sum(
        one.value
        for one in family.samples
        if one.name == family.name + suffix and labels.items() <= one.labels.items()
    )


def counts(gateway: RunningGateway) -> dict[str, float]:
    """How many requests are in each stage's histogram."""
    family = parse(gateway.worker.metrics.render())["stage_seconds"]
    stages = {one.labels["stage"] for one in family.samples}
    return {stage: value(family, "_count", stage=stage, provider="anthropic") for stage in stages}


async def test_every_stage_of_a_request_is_in_its_histogram(stage: Stage, tenant: Tenant) -> None:
    """The first goes the task way and dials, the second takes the lane."""
    async with stage(answering(ANSWER)) as (gateway, _), gateway.client() as client:
        await client.send(post(tenant.token))
        await client.read_answer()
        first = counts(gateway)
        await client.send(post(tenant.token))
        await client.read_answer()
        page = parse(gateway.worker.metrics.render())
        assert value(page["lane_requests"], "_total") == 1
        assert first.keys() - {"queue"} == {"verify", "dial", "added", "first_byte", "total"}
        assert {first[name] for name in ("verify", "dial", "added", "first_byte", "total")} == {1}
        second = counts(gateway)
        assert second["dial"] == 1
        assert {second[name] for name in ("verify", "added", "first_byte", "total")} == {2}
        ends = {"provider": "anthropic", "outcome": "completed", "status": "200"}
        assert value(page["ends"], "_total", **ends) == 2
        seconds = page["stage_seconds"]
        assert 0 < value(seconds, "_sum", stage="added") < value(seconds, "_sum", stage="first_byte")
        origin = f"127.0.0.1:{next(iter(gateway.worker.pools.all())).origin.port}"
        assert value(page["upstream_idle"], origin=origin) == 1
        assert value(page["recalled"], "_total") == 2


async def test_the_time_a_client_takes_to_send_is_not_karta_s(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, _), gateway.client() as client:
        request = post(tenant.token)
        began = trio.current_time()
        await client.send(request[:-1])
        connection = await gateway.only_connection()
        await poll(lambda: connection.inbound is not None)
        await wait_all_tasks_blocked()
        waits = trio.current_time()
        await poll(lambda: trio.current_time() - waits > 0.5)
        waited = trio.current_time() - waits
        await client.send(request[-1:])
        await client.read_answer()
        stages = gateway.worker.meter.stages.of("anthropic")
        assert stages.verify.sum_us > 250_000
        # All of the time but that one, however long a busy machine takes for the rest.
        assert 0 < stages.added.sum_us <= (trio.current_time() - began - waited) * 1_000_000


async def test_an_open_stream_is_counted_until_its_end(stage: Stage, tenant: Tenant) -> None:
    go_on = trio.Event()

    async def provide(line: ProviderLine) -> None:
        await line.read_request()
        await line.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            + chunk(ANTHROPIC[0])
        )
        await go_on.wait()
        await line.send(b"".join(map(chunk, ANTHROPIC[1:])) + b"0\r\n\r\n")
        await line.wait_closed()

    async with stage(provide) as (gateway, _), gateway.client() as client:
        await client.send(post(tenant.token, body=STREAM_BODY))
        await client.read_until(b"message_start")
        assert value(parse(gateway.worker.metrics.render())["streams"]) == 1
        go_on.set()
        await client.read_until(b"0\r\n\r\n")
        assert value(parse(gateway.worker.metrics.render())["streams"]) == 0


async def test_usage_that_cannot_be_shipped_is_seen_to_wait(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, _):
        worker = gateway.worker
        await poll(lambda: worker.shipper.lag == 0)
        async with worker.shipper._lock:
            await gateway.ask(post(tenant.token))
            waits = worker.shipper.lag
            await poll(lambda: worker.shipper.lag > waits)
            assert value(parse(worker.metrics.render())["spool_lag_seconds"]) > 0
        await poll(lambda: worker.shipper.lag == 0)


async def test_a_page_of_everything_fits_into_messages(stage: Stage) -> None:
    """To the supervisor, whose line breaks at one that is too long: each has room for twice as much."""
    async with stage(silent) as (gateway, _):
        stages = gateway.worker.meter.stages
        times = ("verify_us", "queue_us", "dial_us", "added_us", "first_byte_us", "total_us")
        for number in range(PROVIDERS_MAX + 1):
            for exponent in range(30):
                stages.observe(f"provider-{number}", "completed", 200, **dict.fromkeys(times, 2**exponent))
            for status in range(100, 600):
                stages.observe(f"provider-{number}", "completed", status, **dict.fromkeys(times, 1))
        parts = figures(1, gateway.worker.metrics.families())
        assert max(len(msgspec.msgpack.encode(part)) for part in parts) < BYTES_MAX / 2


PROMISED = {
    "requests by outcome": "ends",
    "added latency by stage": "stage_seconds",
    "streams open": "streams",
    "the pool": "upstream_connections upstream_idle upstream_queue upstream_waits",
    "breakers": "breakers breakers_open breakers_opened retries failovers",
    "bcrypt": "bcrypt_queue bcrypt_running bcrypt verifications",
    "cache hits": "recalled vouched verified_keys known_heads lane_requests",
    "leases": "lease_free lease_reserved limit_windows refills refills_failed",
    "the spool": "spool_lag_seconds spool_bytes spool_full usage_shipped usage_lost",
    "the event loop": "loop_lag_seconds worker_loop_lag_seconds",
}


async def test_what_is_promised_is_on_the_page(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, _):
        await gateway.ask(post(tenant.token))
        page = parse(gateway.worker.metrics.render())
    for what, names in PROMISED.items():
        missing = [name for name in names.split() if name not in page]
        assert not missing, what


async def test_no_two_families_have_one_name(stage: Stage) -> None:
    async with stage(silent) as (gateway, _):
        names = [family.name for family in gateway.worker.metrics.families()]
    assert len(names) == len(set(names))
