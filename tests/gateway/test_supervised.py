"""A worker that is told what to do, by a test in the supervisor's place."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from uuid import UUID

import pytest
import trio
import trio.testing

from gateway import journals, refill, supervised
from gateway.accept import listen
from gateway.control import (
    Begin,
    Claim,
    Cover,
    Entry,
    Failed,
    Figures,
    Go,
    Known,
    Leaving,
    Line,
    LineBroken,
    Orphaned,
    Retire,
    Scrape,
    Serve,
    Serving,
    Verified,
    Wrong,
    pair,
)
from gateway.peers import Verdict
from gateway.quota import find_window
from gateway.refill import wall_us
from gateway.spool import Spool
from gateway.supervised import SupervisedPeers, serve
from storage.bridge import Database, open_database
from storage.leases import LeaseRequest, settle_leases
from storage.model import Limit, LimitKind
from tests.gateway.conftest import Tenant
from tests.gateway.limiting import limit_tenant
from tests.support.gateway import PATIENCE_SECONDS, POLL_SECONDS
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import answering, scripted_provider
from tests.support.tokens import forge

SECRET = bytes(range(32))


class Told:
    """The supervisor's end of the line, and the sockets of two slots; the worker is slot 0's."""

    def __init__(self, line: Line, ports: list[int], ended: trio.Event) -> None:
        self.line = line
        self.ports = ports
        self.ended = ended

    async def hear(self) -> object:
        with trio.fail_after(PATIENCE_SECONDS):
            return await self.line.receive()

    async def client(self, slot: int = 0) -> RawClient:
        return RawClient(await trio.open_tcp_stream("127.0.0.1", self.ports[slot]))


@asynccontextmanager
async def told(
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    *entries: Entry,
    patience: float = 0,
    database_url: str | None = None,
) -> AsyncIterator[Told]:
    """A worker that has been told to begin, before a provider that answers."""
    ours, theirs = pair()
    line = Line(ours)
    listeners = [listen("127.0.0.1", 0), listen("127.0.0.1", 0)]
    ports = [listener.getsockname()[1] for listener in listeners]
    ended = trio.Event()
    async with scripted_provider(answering(ANSWER)) as provider, trio.open_nursery() as nursery:
        for name in ("ANTHROPIC", "OPENAI"):
            monkeypatch.setenv(f"KARTA_PROVIDER_{name}_BASE_URL", provider.base_url)
            monkeypatch.setenv(f"KARTA_PROVIDER_{name}_API_KEY", "sk-platform")
        monkeypatch.setenv("KARTA_SPOOL_DIR", str(tenant.spool_dir))
        overrides = {"database_url": database_url or tenant.database_url}
        # Its own descriptors, as a process of its own would have them.
        descriptors = [listener.detach() for listener in listeners]
        line.send(Begin(0, descriptors, overrides, SECRET, patience))
        if entries:
            line.send(Known(list(entries)))
        line.send(Serve())

        async def run() -> None:
            await serve(theirs)
            ended.set()

        nursery.start_soon(line.run)
        nursery.start_soon(run)
        yield Told(line, ports, ended)
        line.close()
        with trio.fail_after(PATIENCE_SECONDS):
            await ended.wait()
        nursery.cancel_scope.cancel()


async def test_it_asks_before_it_verifies(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    async with told(tenant, monkeypatch) as worker:
        assert await worker.hear() == Serving()
        client = await worker.client()
        await client.send(post(tenant.token))
        claim = await worker.hear()
        assert isinstance(claim, Claim)
        worker.line.send(Go(claim.mac, claim.mark))
        assert await worker.hear() == Verified(Entry(claim.mac, claim.mark, tenant.key_id))
        assert (await client.read_answer()).status == 200
        # It knows it now.
        await client.send(post(tenant.token))
        assert (await client.read_answer()).status == 200
        assert await figure(worker, "bcrypt_total") == 1
        await client.close()


async def figure(worker: Told, name: str) -> float:
    worker.line.send(Scrape(1))
    figures = await worker.hear()
    assert isinstance(figures, Figures)
    assert figures.number == 1
    return sum(value for one in figures.families if one.name == name for value in one.samples.values())


@pytest.mark.parametrize("verdict", [Known, Wrong])
async def test_it_believes_what_others_have_found(
    verdict: type, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with told(tenant, monkeypatch) as worker:
        assert await worker.hear() == Serving()
        client = await worker.client()
        await client.send(post(tenant.token))
        claim = await worker.hear()
        assert isinstance(claim, Claim)
        if verdict is Known:
            worker.line.send(Known([Entry(claim.mac, claim.mark, tenant.key_id)]))
        else:
            worker.line.send(Wrong(claim.mac, claim.mark))
        assert (await client.read_answer()).status == (200 if verdict is Known else 401)
        assert await figure(worker, "bcrypt_total") == 0
        await client.close()


async def test_a_wrong_token_is_told_as_such(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    async with told(tenant, monkeypatch) as worker:
        assert await worker.hear() == Serving()
        client = await worker.client()
        await client.send(post(forge(tenant.token)))
        claim = await worker.hear()
        assert isinstance(claim, Claim)
        worker.line.send(Go(claim.mac, claim.mark))
        assert await worker.hear() == Failed(claim.mac, claim.mark, wrong=True)
        assert (await client.read_answer()).status == 401
        await client.close()


async def test_what_it_is_told_at_first_it_knows_before_it_accepts(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = await learn(tenant, monkeypatch)
    strange = Entry(bytes(32), entry.mark, "000000000000")
    async with told(tenant, monkeypatch, entry, strange, patience=60) as worker:
        assert await worker.hear() == Serving()
        assert await figure(worker, "verified_keys") == 1
        client = await worker.client()
        await client.send(post(tenant.token))
        assert (await client.read_answer()).status == 200
        assert await figure(worker, "bcrypt_total") == 0
        await client.close()


async def learn(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """What a worker that verifies the tenant's key tells of it."""
    async with told(tenant, monkeypatch) as worker:
        await worker.hear()
        client = await worker.client()
        await client.send(post(tenant.token))
        claim = await worker.hear()
        assert isinstance(claim, Claim)
        await client.close()
        return Entry(claim.mac, claim.mark, tenant.key_id)


async def test_a_mark_of_another_digest_counts_for_nothing(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = await learn(tenant, monkeypatch)
    async with told(tenant, monkeypatch, Entry(entry.mac, b"another", entry.key_id), patience=60) as worker:
        assert await worker.hear() == Serving()
        assert await figure(worker, "verified_keys") == 0


async def test_patience_ends(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "postgresql://karta@127.0.0.1:9/karta"
    async with told(tenant, monkeypatch, patience=0.05, database_url=nowhere) as worker:
        assert await worker.hear() == Serving()


async def test_it_covers_for_another_until_told_otherwise(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = b"GET /healthz HTTP/1.1\r\nhost: karta\r\n\r\n"
    async with told(tenant, monkeypatch) as worker:
        assert await worker.hear() == Serving()
        waiting = await worker.client(1)
        await waiting.send(probe)
        worker.line.send(Cover([1]))
        assert (await waiting.read_answer()).status == 200
        worker.line.send(Cover([]))
        # Answered after it has heard that.
        await figure(worker, "connections")
        later = await worker.client(1)
        await later.send(probe)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert await figure(worker, "connections") == 1
        await waiting.close()
        await later.close()


async def test_retired_it_answers_once_more_on_each_connection(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = b"GET /healthz HTTP/1.1\r\nhost: karta\r\n\r\n"
    async with told(tenant, monkeypatch) as worker:
        assert await worker.hear() == Serving()
        client = await worker.client()
        await client.send(probe)
        assert "connection" not in (await client.read_answer()).headers
        worker.line.send(Retire())
        await figure(worker, "connections")
        await client.send(probe)
        assert (await client.read_answer()).headers["connection"] == "close"
        assert await client.read_to_end() == b""
        await client.close()
        last = await worker.hear()
        assert isinstance(last, Figures)
        assert last.number == 0
        with trio.fail_after(PATIENCE_SECONDS):
            await worker.ended.wait()


async def test_what_another_left_is_settled_when_it_is_told(
    own_tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who needs what the dead one held waits for it, instead of being told that all is spent."""
    monkeypatch.setattr(journals, "LOOK_SECONDS", math.inf)
    monkeypatch.setattr(refill, "DOUBT_SECONDS", 60.0)
    monkeypatch.setattr(refill, "CALL_SECONDS_MAX", 60.0)
    async with (
        open_database(own_tenant.database_url, role="karta_admin") as admin,
        open_database(own_tenant.database_url, role="karta_gateway") as db,
    ):
        limit = await limit_tenant(admin, own_tenant, LimitKind.REQUESTS, 10)
        async with told(own_tenant, monkeypatch) as worker:
            assert await worker.hear() == Serving()
            client = await worker.client()
            assert await ask_with_claim(worker, client, own_tenant) == 200
            # Another takes all there is, and dies.
            with closing(Spool(own_tenant.spool_dir / "worker-001")) as dead:
                await until_lent(db, dead.owner, limit)
            await client.send(post(own_tenant.token))
            assert (await client.read_answer()).status == 429
            worker.line.send(Orphaned())
            await figure(worker, "connections")
            await client.send(post(own_tenant.token))
            assert (await client.read_answer()).status == 200
            await client.close()
        assert (own_tenant.spool_dir / "worker-001" / "settled").exists()


async def until_lent(db: Database, owner: UUID, limit: Limit) -> None:
    """All that is left of a limit of a day is lent to this owner, and nothing of it to the worker."""
    start = find_window(limit.period, wall_us())[0] // 1_000_000
    acquired, turn = 0, wall_us()
    with trio.fail_after(PATIENCE_SECONDS):
        while acquired < limit.amount - 1:
            turn += 1
            request = LeaseRequest(limit.limit_id, start, 1, acquired, acquired, limit.amount - acquired, 1)
            [answer] = await settle_leases(db, owner, turn, [request])
            acquired += answer.granted
            await trio.sleep(POLL_SECONDS)


async def ask_with_claim(worker: Told, client: RawClient, tenant: Tenant) -> int:
    """The first request of a key."""
    await client.send(post(tenant.token))
    claim = await worker.hear()
    assert isinstance(claim, Claim)
    worker.line.send(Go(claim.mac, claim.mark))
    assert isinstance(await worker.hear(), Verified)
    return (await client.read_answer()).status


async def test_it_ends_with_its_supervisor(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    async with told(tenant, monkeypatch) as worker:
        assert await worker.hear() == Serving()
        worker.line.close()
        with trio.fail_after(PATIENCE_SECONDS):
            await worker.ended.wait()


async def test_it_says_when_somebody_stops_it(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    async with told(tenant, monkeypatch) as worker:
        assert await worker.hear() == Serving()
        signal.raise_signal(signal.SIGTERM)
        assert await worker.hear() == Leaving()
        with trio.fail_after(PATIENCE_SECONDS):
            await worker.ended.wait()


async def test_a_supervisor_that_is_gone_at_once_is_no_error() -> None:
    ours, theirs = pair()
    ours.close()
    await serve(theirs)


async def test_a_claim_that_nobody_answers_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervised, "CLAIM_SECONDS_MAX", 0.01)
    ours, theirs = map(Line, pair())
    peers = SupervisedPeers(theirs, SECRET)
    assert await peers.claim(b"mac", b"mark") is Verdict.GO
    # And what comes too late concerns nobody.
    assert not peers.answer(b"mac", b"mark", Verdict.GOOD)
    ours.close()
    theirs.close()
    with pytest.raises(LineBroken):
        await ours.receive()
