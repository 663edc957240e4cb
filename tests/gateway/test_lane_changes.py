"""What changed between two identical requests: the second is decided anew, whatever is remembered of it."""

from __future__ import annotations

import pytest

from storage.credentials import rotate_credential
from storage.organizations import set_server_timing
from storage.sealing import MasterKeys
from tests.gateway.conftest import ACTOR, Stage, Tenant, set_byok
from tests.gateway.test_snapshot import CHANGES, Change, heard
from tests.support.gateway import PLATFORM_KEY, RunningGateway, poll
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import answering


async def ask_twice(gateway: RunningGateway, client: RawClient, token: str) -> None:
    """So that the second is the lane's."""
    before = gateway.worker.lane.requests
    for _ in range(2):
        await client.send(post(token))
        assert (await client.read_answer()).status == 200
    assert gateway.worker.lane.requests > before


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_a_key_or_organization_that_changed(change: Change, stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _), gateway.client() as client:
        await heard(gateway)
        await ask_twice(gateway, client, own_tenant.token)
        await change(gateway.db, own_tenant)
        status = 200
        taken = gateway.worker.lane.requests
        with_200 = 0
        while status == 200:
            await client.send(post(own_tenant.token))
            status = (await client.read_answer()).status
            with_200 += status == 200
        assert status == CHANGES[change]
        # Each of those that were still answered was the lane's; the refusal was not, unless it was cut there.
        cut = gateway.worker.lane.requests - taken - with_200
        rows = await gateway.settled(2 + with_200 + cut)
        assert [row["outcome"] for row in rows[2:]] == ["completed"] * with_200 + ["revoked"] * cut


async def test_a_provider_key_that_was_set_and_rotated(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, provider), gateway.client() as client:
        await heard(gateway)
        (caller,) = gateway.authenticator._verified.values()
        await ask_twice(gateway, client, own_tenant.token)
        assert provider.received.count(PLATFORM_KEY.encode()) == 2
        credential_id = await set_byok(gateway.db, own_tenant, "sk-the-first-one")
        await poll(lambda: caller.key.credentials)
        await ask_twice(gateway, client, own_tenant.token)
        assert provider.received.count(PLATFORM_KEY.encode()) == 2
        assert provider.received.count(b"x-api-key: sk-the-first-one\r\n") == 2
        (before,) = caller.key.credentials
        await rotate_credential(
            gateway.db,
            ACTOR,
            MasterKeys.parse(own_tenant.master_keys),
            credential_id=credential_id,
            secret=bytearray(b"sk-the-second-one"),
        )
        await poll(lambda: caller.key.credentials not in ((), (before,)))
        await ask_twice(gateway, client, own_tenant.token)
        assert provider.received.count(b"x-api-key: sk-the-first-one\r\n") == 2
        assert provider.received.count(b"x-api-key: sk-the-second-one\r\n") == 2
        rows = await gateway.settled(6)
    assert [row["credential_kind"] for row in rows] == ["platform"] * 2 + ["byok"] * 4


async def test_a_provider_key_that_no_longer_opens(stage: Stage, own_tenant: Tenant) -> None:
    """And the provider's connection that was taken for it is not lost."""
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _), gateway.client() as client:
        await heard(gateway)
        await set_byok(gateway.db, own_tenant, "sk-the-first-one")
        (caller,) = gateway.authenticator._verified.values()
        await poll(lambda: caller.key.credentials)
        await ask_twice(gateway, client, own_tenant.token)
        (pool,) = gateway.worker.pools.all()
        assert (pool.open, pool.idle) == (1, 1)
        keys, gateway.worker.lane._master_keys = gateway.worker.lane._master_keys, None
        gateway.worker.pipeline.trier._master_keys = None
        for _ in range(3):
            await client.send(post(own_tenant.token))
            assert (await client.read_answer()).status == 503
        assert (pool.open, pool.idle) == (1, 1)
        gateway.worker.lane._master_keys = gateway.worker.pipeline.trier._master_keys = keys
        await ask_twice(gateway, client, own_tenant.token)


async def test_a_journal_that_is_full(stage: Stage, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(answering(ANSWER)) as (gateway, provider), gateway.client() as client:
        await ask_twice(gateway, client, tenant.token)
        asked = provider.received.count(b"POST")
        taken = gateway.worker.lane.requests
        with monkeypatch.context() as patch:
            patch.setattr("gateway.spool.SPOOL_BYTES_MAX", 1)
            await client.send(post(tenant.token))
            refused = await client.read_answer()
            assert (refused.status, refused.headers["x-should-retry"]) == (503, "true")
        assert provider.received.count(b"POST") == asked
        assert gateway.worker.lane.requests == taken
        await ask_twice(gateway, client, tenant.token)


async def test_a_key_that_is_forgotten_is_verified_again(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _), gateway.client() as client:
        await ask_twice(gateway, client, own_tenant.token)
        gateway.authenticator._verified.clear()
        await client.send(post(own_tenant.token))
        assert (await client.read_answer()).status == 200
        assert gateway.authenticator.bcrypt_runs == 1
        await ask_twice(gateway, client, own_tenant.token)
        assert gateway.authenticator.bcrypt_runs == 1


@pytest.mark.parametrize("body", [b"{", b'{"model":1e999}', b"\xff"])
async def test_a_body_that_is_refused_although_its_head_is_known(
    body: bytes, stage: Stage, tenant: Tenant
) -> None:
    async with stage(answering(ANSWER)) as (gateway, provider), gateway.client() as client:
        await ask_twice(gateway, client, tenant.token)
        asked = provider.received.count(b"POST")
        await client.send(post(tenant.token, body))
        assert (await client.read_answer()).status == 400
        assert provider.received.count(b"POST") == asked
        await gateway.settled(2)


def timings(lines: str) -> dict[str, float]:
    """A `server-timing` header's names and milliseconds."""
    parts = [one.strip().partition(";dur=") for one in lines.split(",")]
    return {name: float(duration) for name, _, duration in parts}


async def test_an_organization_that_wants_to_know_where_time_goes(stage: Stage, own_tenant: Tenant) -> None:
    """Its answers say it from then on, and until it wants it no longer; nobody else's do."""
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _), gateway.client() as client:
        await heard(gateway)
        (caller,) = gateway.authenticator._verified.values()
        await ask_twice(gateway, client, own_tenant.token)
        await set_server_timing(gateway.db, ACTOR, own_tenant.org_id, True)
        await poll(lambda: caller.server_timing)
        taken = gateway.worker.lane.requests
        await client.send(post(own_tenant.token))
        answer = await client.read_answer()
        assert gateway.worker.lane.requests == taken
        found = timings(answer.headers["server-timing"])
        names = ("verify", "queue", "dial", "added", "provider")
        assert list(found) == [f"karta-{name}" for name in names]
        assert answer.body == ANSWER
        (*_, row) = await gateway.settled(3)
        assert found["karta-verify"] == row["verify_us"] / 1000
        assert 0 < found["karta-added"] < row["first_byte_us"] / 1000
        assert 0 < found["karta-provider"] < row["first_byte_us"] / 1000
        await set_server_timing(gateway.db, ACTOR, own_tenant.org_id, False)
        await poll(lambda: not caller.server_timing)
        await client.send(post(own_tenant.token))
        assert "server-timing" not in (await client.read_answer()).headers
        assert gateway.worker.lane.requests == taken + 1
