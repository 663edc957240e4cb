"""Connections to providers: kept while they are silent, given up when they are not, and always verified."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from gateway.dial import Pool
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import RunningGateway, poll
from tests.support.requests import ANSWER, get, post
from tests.support.scripted_provider import Line, scripted_provider, silent
from tests.support.streams import ANTHROPIC, STREAM_BODY, chunk

POISON = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"


def pool_of(gateway: RunningGateway) -> Pool:
    return gateway.worker.pools.of(gateway.worker.settings.providers()["anthropic"].origin)


@pytest.mark.parametrize("poison", [POISON, b"x", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
async def test_what_an_idle_connection_says_reaches_nobody(
    poison: bytes, stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.answer(ANSWER)
        if len(provider_.lines) == 1:
            await answered.wait()
            await line.send(poison)
        await line.wait_closed()

    answered = trio.Event()
    async with stage(provider) as (gateway, provider_):
        assert (await gateway.ask(post(tenant.token))).body == ANSWER
        answered.set()
        await poll(lambda: pool_of(gateway).idle == 1)
        idle = pool_of(gateway)._idle[0].transport
        await poll(lambda: not idle.untouched())
        assert (await gateway.ask(post(tenant.token))).body == ANSWER
        assert len(provider_.lines) == 2
        await provider_.lines[0].closed.wait()


async def test_what_a_connection_says_while_the_key_is_verified_reaches_nobody(
    stage: Stage, tenant: Tenant
) -> None:
    async def provider(line: Line) -> None:
        if len(provider_.lines) == 1:
            await line.send(POISON)
            await line.wait_closed()
        else:
            await line.read_request()
            await line.answer(ANSWER)
            await line.wait_closed()

    async with stage(provider, cold=True) as (gateway, provider_), gateway.client() as client:
        async with gateway.authenticator._threads:
            dialled = gateway.step("dialled")
            await client.send(post(tenant.token))
            await dialled.wait()
            await trio.testing.wait_all_tasks_blocked(0.02)
        assert (await client.read_answer()).body == ANSWER
        assert provider_.lines[0].received == b""
        await provider_.lines[0].closed.wait()


async def test_the_connection_used_last_is_used_next(stage: Stage, tenant: Tenant) -> None:
    """So that the surplus grows old, and is closed."""
    both_asked = trio.Event()

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            if provider_.received.count(b"POST") == 2:
                both_asked.set()
            await both_asked.wait()
            await line.answer(ANSWER)

    async with stage(provider) as (gateway, provider_), gateway.client() as one, gateway.client() as two:
        for client in (one, two):
            await client.send(post(tenant.token))
        for client in (one, two):
            assert (await client.read_answer()).body == ANSWER
        last = pool_of(gateway)._idle[-1]
        for _ in range(3):
            assert (await gateway.ask(get(tenant.token))).body == ANSWER
        assert pool_of(gateway)._idle[-1] is last
        assert len(provider_.lines) == 2
        assert sorted(line.received.count(b"HTTP/1.1") for line in provider_.lines) == [1, 4]


async def test_idle_connections_are_bounded_in_number_and_time(stage: Stage, tenant: Tenant) -> None:
    both_asked = trio.Event()

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            if provider_.received.count(b"POST") == 2:
                both_asked.set()
            await both_asked.wait()
            await line.answer(ANSWER)

    limits = {"upstream_idle_max": 1, "upstream_idle_seconds": 0.3}
    async with stage(provider, limits=limits) as (gateway, provider_):
        async with gateway.client() as one, gateway.client() as two:
            for client in (one, two):
                await client.send(post(tenant.token))
            for client in (one, two):
                assert (await client.read_answer()).body == ANSWER
            assert pool_of(gateway).idle <= 1
            for line in provider_.lines:
                await line.closed.wait()
        assert (pool_of(gateway).idle, pool_of(gateway).open) == (0, 0)


@pytest.mark.parametrize("answer", ["connection: close\r\n", "HTTP/1.0"])
async def test_a_connection_that_shall_end_is_not_kept(answer: str, stage: Stage, tenant: Tenant) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        if answer == "HTTP/1.0":
            await line.send(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        else:
            await line.answer(b"{}", headers=answer)
        await line.wait_closed()

    async with stage(provider) as (gateway, provider_), gateway.client() as client:
        for number in (1, 2):
            await client.send(post(tenant.token))
            assert (await client.read_answer()).body == b"{}"
            await provider_.lines[number - 1].closed.wait()


async def test_a_request_without_a_connection_waits_for_one(stage: Stage, tenant: Tenant) -> None:
    may_answer = trio.Event()

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await may_answer.wait()
            await line.answer(ANSWER)

    limits = {"upstream_connections_max": 1}
    async with stage(provider, limits=limits) as (gateway, provider_), trio.open_nursery() as nursery:
        pool = pool_of(gateway)

        async def ask() -> None:
            assert (await gateway.ask(post(tenant.token))).body == ANSWER

        for waiting in range(4):
            nursery.start_soon(ask)
            await poll(lambda waiting=waiting: provider_.received and pool.waiting == waiting)
        may_answer.set()
    assert len(provider_.lines) == 1
    assert provider_.received.count(b"POST") == 4
    assert (pool.waited, pool.waiting) == (3, 0)


async def test_the_place_of_a_connection_that_ends_goes_to_who_waits(stage: Stage, tenant: Tenant) -> None:
    may_answer = trio.Event()

    async def provider(line: Line) -> None:
        await line.read_request()
        await may_answer.wait()
        await line.answer(ANSWER, headers="connection: close\r\n")
        await line.wait_closed()

    limits = {"upstream_connections_max": 1}
    async with stage(provider, limits=limits) as (gateway, provider_), trio.open_nursery() as nursery:

        async def ask(request: bytes) -> None:
            assert (await gateway.ask(request)).body == ANSWER

        for waiting, request in enumerate((post(tenant.token), post(tenant.token), get(tenant.token))):
            nursery.start_soon(ask, request)
            await poll(lambda waiting=waiting: provider_.received and pool_of(gateway).waiting == waiting)
        may_answer.set()
        await poll(lambda: len(provider_.lines) == 3)
    await poll(lambda: pool_of(gateway).open == 0)


async def test_the_wait_for_a_connection_is_bounded_in_time_and_length(stage: Stage, tenant: Tenant) -> None:
    limits = {"upstream_connections_max": 1, "upstream_queue_seconds": 0.2, "upstream_queue_max": 1}
    async with stage(silent, limits=limits) as (gateway, provider), gateway.client() as first:
        await first.send(post(tenant.token))
        await poll(lambda: provider.received)
        async with gateway.client() as second:
            await second.send(post(tenant.token))
            await poll(lambda: pool_of(gateway).waiting == 1)
            refused = await gateway.ask(post(tenant.token))
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert pool_of(gateway).waiting == 1
            assert (await second.read_answer()).status == 503
        assert pool_of(gateway).waiting == 0
        assert {row["outcome"] for row in await gateway.settled(2)} == {"refused"}
    assert len(provider.lines) == 1


async def test_who_leaves_the_queue_leaves_his_place_to_the_next(stage: Stage, tenant: Tenant) -> None:
    may_answer = trio.Event()

    async def provider(line: Line) -> None:
        while (await line.read_request())[0]:
            await may_answer.wait()
            await line.answer(ANSWER)

    limits = {"upstream_connections_max": 1}
    async with stage(provider, limits=limits) as (gateway, provider_), gateway.client() as first:
        pool = pool_of(gateway)
        await first.send(post(tenant.token))
        await poll(lambda: provider_.received)
        async with gateway.client() as leaving, gateway.client() as staying:
            await leaving.send(post(tenant.token))
            await poll(lambda: pool.waiting == 1)
            await staying.send(post(tenant.token))
            await poll(lambda: pool.waiting == 2)
            await leaving.reset()
            await poll(lambda: pool.waiting == 1)
            may_answer.set()
            assert (await staying.read_answer()).body == ANSWER
        await poll(lambda: (pool.open, pool.idle) == (1, 1))
        assert len(provider_.lines) == 1


async def test_a_turn_that_comes_as_its_request_is_cancelled_is_not_lost(
    stage: Stage, tenant: Tenant
) -> None:
    async with stage(silent, limits={"upstream_connections_max": 1}) as (gateway, _):
        pool = pool_of(gateway)
        only = await pool.acquire()
        for give in (pool.keep_unused, pool.discard):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.acquire)
                await poll(lambda: pool.waiting == 1)
                # In this order, and before the one who waits can know of either.
                nursery.cancel_scope.cancel()
                give(only)
            assert (pool.open, pool.idle, pool.waiting) == (
                (1, 1, 0) if give == pool.keep_unused else (0, 0, 0)
            )
            only = await pool.acquire()
        pool.discard(only)


async def test_who_needs_a_fresh_connection_gets_one_for_the_place_of_another(
    stage: Stage, tenant: Tenant
) -> None:
    async with stage(silent, limits={"upstream_connections_max": 1}) as (gateway, provider):
        pool = pool_of(gateway)
        pool.keep_unused(await pool.acquire())
        fresh = await pool.acquire(fresh=True)
        assert not fresh.reused
        async with trio.open_nursery() as nursery:
            got = []

            async def wait() -> None:
                got.append(await pool.acquire(fresh=True))

            nursery.start_soon(wait)
            await poll(lambda: pool.waiting == 1)
            pool.keep_unused(fresh)
        assert got[0] is not fresh
        assert (pool.open, pool.idle) == (1, 0)
        await poll(lambda: len(provider.lines) == 3)
        pool.discard(got[0])


async def test_a_provider_that_cannot_be_reached_is_a_502(stage: Stage, tenant: Tenant) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        async with stage(silent, provider_url=url) as (gateway, _), gateway.client() as client:
            for _ in range(2):
                await client.send(post(tenant.token))
                answer = await client.read_answer()
                assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
                told = json.loads(answer.body)["error"]["message"]
                assert told == "The provider cannot be reached."
            assert {row["status"] for row in await gateway.settled(2)} == {502}
            assert pool_of(gateway).open == 0


async def test_connecting_has_a_limit(stage: Stage, tenant: Tenant) -> None:
    """A listener whose queue is full lets a connection wait."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        queued = [_connecting(full.getsockname()) for _ in range(3)]
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with stage(silent, provider_url=url, limits={"connect_seconds": 0.05}) as (gateway, _):
            answer = await gateway.ask(post(tenant.token))
            assert answer.status == 504
            assert (await gateway.only_row())["outcome"] == "timed_out"
            assert pool_of(gateway).open == 0
        for sock in queued:
            sock.close()


def _connecting(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(address)
    return sock


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA) -> Iterator[Path]:
    with authority.cert_pem.tempfile() as path:
        yield Path(path)


def context_for(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_tls_carries_everything(
    stage: Stage, tenant: Tenant, authority: trustme.CA, ca_file: Path
) -> None:
    page = bytes(range(256)) * 4000

    async def provider(line: Line) -> None:
        while head := (await line.read_request())[0]:
            if head.startswith(b"GET"):
                await line.answer(page)
                continue
            await line.begin_stream()
            for event in ANTHROPIC:
                await line.send_chunk(event)
            await line.end_stream()

    tls = context_for(authority, "127.0.0.1")
    async with stage(provider, tls=tls, ca_file=ca_file) as (gateway, provider_), gateway.client() as client:
        for _ in range(3):
            await client.send(post(tenant.token, STREAM_BODY + b" " * 300_000))
            await client.read_head()
            framed = b"".join(map(chunk, ANTHROPIC)) + b"0\r\n\r\n"
            assert await client.read_exactly(len(framed)) == framed
            await client.send(get(tenant.token))
            assert (await client.read_answer()).body == page
        assert len(provider_.lines) == 1
        assert {row["output_tokens"] for row in await gateway.settled(6)} == {0, 5}


async def test_what_an_idle_tls_connection_says_reaches_nobody(
    stage: Stage, tenant: Tenant, authority: trustme.CA, ca_file: Path
) -> None:
    async def provider(line: Line) -> None:
        await line.read_request()
        await line.answer(ANSWER)
        if len(provider_.lines) == 1:
            await answered.wait()
            await line.send(POISON)
        await line.wait_closed()

    answered = trio.Event()
    tls = context_for(authority, "127.0.0.1")
    async with stage(provider, tls=tls, ca_file=ca_file) as (gateway, provider_):
        assert (await gateway.ask(post(tenant.token))).body == ANSWER
        answered.set()
        await poll(lambda: pool_of(gateway).idle == 1)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert (await gateway.ask(post(tenant.token))).body == ANSWER
        assert len(provider_.lines) == 2


@pytest.mark.parametrize("fault", ["another name", "an unknown authority"])
async def test_a_certificate_that_does_not_fit_gets_no_key(
    fault: str, stage: Stage, tenant: Tenant, authority: trustme.CA, ca_file: Path
) -> None:
    tls = (
        context_for(authority, "elsewhere.example")
        if fault == "another name"
        else context_for(trustme.CA(), "127.0.0.1")
    )
    async with stage(silent, tls=tls, ca_file=ca_file) as (gateway, provider):
        answer = await gateway.ask(post(tenant.token))
        assert answer.status == 502
        assert "KARTA_PROVIDER_<NAME>_CA_FILE" in json.loads(answer.body)["error"]["message"]
        assert provider.received == b""
        assert pool_of(gateway).open == 0


async def test_a_provider_without_tls_gets_no_key(stage: Stage, tenant: Tenant) -> None:
    async def in_clear(line: Line) -> None:
        await line.receive()
        await line.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await line.wait_closed()

    async with scripted_provider(in_clear) as plain:
        url = plain.base_url.replace("http:", "https:")
        async with stage(silent, provider_url=url) as (gateway, _):
            assert (await gateway.ask(post(tenant.token))).status == 502
        assert b"sk-platform" not in plain.received


async def test_a_tls_handshake_has_a_limit(stage: Stage, tenant: Tenant) -> None:
    async with scripted_provider(silent) as plain:
        url = plain.base_url.replace("http:", "https:")
        async with stage(silent, provider_url=url, limits={"connect_seconds": 0.1}) as (gateway, _):
            assert (await gateway.ask(post(tenant.token))).status == 504
        await plain.lines[0].closed.wait()
