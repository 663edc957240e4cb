"""From a revocation to the last answer that any of two workers gives, and to the end of the streams that
ran. `KARTA_TEST_REVOCATIONS` sets how many are measured; `-s` shows the figures.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import trio

from storage import staff
from storage.api_keys import revoke_key
from storage.bridge import Database, open_database
from storage.credentials import rotate_credential
from storage.limits import LimitScope, set_limit
from storage.model import LimitKind, Period
from storage.sealing import MasterKeys
from tests.faults.history import percentile
from tests.gateway.conftest import ACTOR, Tenant, set_byok
from tests.gateway.many_keys import mint_many
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import Line, scripted_provider
from tests.support.streams import ANTHROPIC, STREAM_BODY, chunk
from tests.support.supervised_gateway import (
    PATIENCE_SECONDS,
    SupervisedGateway,
    patiently,
    supervised_gateway,
)

REVOCATIONS = int(os.environ.get("KARTA_TEST_REVOCATIONS", "3"))
CLIENTS = 8
STREAMS = 8
# What the promise allows; measured it is some hundredths of a second.
REFUSED_SECONDS_MAX = 5.0

# So many are measured on purpose, alone on the machine.
MEASURED_MIN = 50
P99_SECONDS_MAX = 1.0

End = Callable[[Database, Tenant, str], Awaitable[None]]


async def either(line: Line) -> None:
    """Answers at once, or begins a stream that never ends."""
    while True:
        head, body = await line.read_request()
        if not head:
            return
        if b"stream" in body:
            await line.begin_stream()
            await line.send_chunk(ANTHROPIC[0])
            while await line.receive():
                pass
            return
        await line.answer(ANSWER)


class Reach:
    """What became of the requests of one key; seconds after its end was committed."""

    def __init__(self, gateway: SupervisedGateway, token: str) -> None:
        self._gateway = gateway
        self._token = token
        self.ended_at = trio.current_time() + 1000
        self.accepted: list[float] = []
        """When requests that were accepted afterwards were sent."""
        self.cut: list[float] = []
        self.events: list[bytes] = []
        self.running = 0
        self.all_run = trio.Event()

    def _runs(self) -> None:
        self.running += 1
        if self.running == CLIENTS + STREAMS:
            self.all_run.set()

    async def hammer(self) -> None:
        client = await self._gateway.client()
        status, first = 200, True
        while status == 200:
            sent_at = trio.current_time()
            await client.send(post(self._token))
            status = (await client.read_answer()).status
            if status == 200 and sent_at > self.ended_at:
                self.accepted.append(sent_at - self.ended_at)
            if first:
                first = False
                self._runs()
        assert status in (401, 403)
        await client.close()

    async def stream(self) -> None:
        client = await self._gateway.client()
        await client.send(post(self._token, STREAM_BODY))
        await client.read_until(chunk(ANTHROPIC[0]))
        self._runs()
        event = b""
        with trio.fail_after(PATIENCE_SECONDS):
            while data := await client.receive():
                event += data
        self.cut.append(trio.current_time() - self.ended_at)
        self.events.append(event)
        await client.close()


async def measure(gateway: SupervisedGateway, token: str, end: Callable[[], Awaitable[None]]) -> Reach:
    """Busy clients and streams of one key; then it ends."""
    reach = Reach(gateway, token)
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(reach.hammer)
            for _ in range(STREAMS):
                nursery.start_soon(reach.stream)
            await reach.all_run.wait()
            await end()
            reach.ended_at = trio.current_time()
    return reach


def tell(name: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    if ordered:
        middle, most = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
        print(f"{name}: p50 {middle * 1000:.0f} ms, p99 {most * 1000:.0f} ms of {len(ordered)}")


async def test_a_revocation_reaches_every_worker_and_every_stream(own_tenant: Tenant) -> None:
    accepted: list[float] = []
    cut: list[float] = []
    async with (
        open_database(own_tenant.database_url, role=None) as owner,
        open_database(own_tenant.database_url, role="karta_admin") as admin,
        scripted_provider(either) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
    ):
        for token in await mint_many(owner, own_tenant, REVOCATIONS):
            key_id = token.split("_")[2]

            async def revoke(key_id: str = key_id) -> None:
                await revoke_key(admin, ACTOR, key_id)

            reach = await measure(gateway, token, revoke)
            accepted += reach.accepted or [0.0]
            cut += reach.cut
            assert all(event.count(b"event: error\n") == 1 for event in reach.events)
        outcomes = "SELECT count(*) FROM usage WHERE outcome = 'revoked' AND NOT usage_complete"
        with trio.fail_after(PATIENCE_SECONDS):
            while await owner.fetch_value(outcomes) < REVOCATIONS * STREAMS:
                await trio.sleep(0.05)
    tell("last accepted request", accepted)
    tell("stream cut", cut)
    assert max(accepted) < REFUSED_SECONDS_MAX
    assert max(cut) < REFUSED_SECONDS_MAX
    if REVOCATIONS >= MEASURED_MIN:
        assert percentile(accepted, 0.99) <= P99_SECONDS_MAX
        assert percentile(cut, 0.99) <= P99_SECONDS_MAX


async def test_a_suspension_reaches_every_worker(own_tenant: Tenant) -> None:
    async with (
        open_database(own_tenant.database_url, role="karta_admin") as admin,
        scripted_provider(either) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
    ):

        async def suspend() -> None:
            await staff.suspend(admin, ACTOR, own_tenant.org_id, "unpaid")

        reach = await measure(gateway, own_tenant.token, suspend)
    assert max(reach.accepted, default=0) < REFUSED_SECONDS_MAX
    assert max(reach.cut) < REFUSED_SECONDS_MAX


async def test_a_revocation_that_no_listener_hears(own_tenant: Tenant) -> None:
    """Their connections are ended in the same moment, so that the notice finds nobody."""
    async with (
        open_database(own_tenant.database_url, role=None) as owner,
        scripted_provider(either) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
    ):
        await gateway.until_figure("listening", 1)

        async def revoke_unheard() -> None:
            ended = await owner.fetch_value(
                """
                WITH ended AS (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                                WHERE datname = current_database() AND pid <> pg_backend_pid()
                                  AND query ~ '^LISTEN|^SELECT 1$'),
                     revoked AS (UPDATE api_keys SET revoked_at = now() WHERE key_id = $1)
                SELECT count(*) FROM ended
                """,
                own_tenant.key_id,
            )
            assert ended >= 2

        reach = await measure(gateway, own_tenant.token, revoke_unheard)
    assert max(reach.accepted, default=0) < REFUSED_SECONDS_MAX
    assert max(reach.cut) < REFUSED_SECONDS_MAX


class Providers:
    """Answers everything, and knows which provider's key came when."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, bytes]] = []

    async def answer(self, line: Line) -> None:
        while True:
            head, _ = await line.read_request()
            if not head:
                return
            (key,) = (one for one in head.split(b"\r\n") if one.startswith(b"x-api-key: "))
            self.seen.append((trio.current_time(), key.removeprefix(b"x-api-key: ")))
            await line.answer(ANSWER)


async def keep_asking(
    gateway: SupervisedGateway, token: str, statuses: list[int], enough: trio.Event
) -> None:
    client = await gateway.client()
    status = 200
    while status == 200 and not enough.is_set():
        await client.send(post(token))
        status = (await client.read_answer()).status
        statuses.append(status)
    await client.close()


async def test_a_rotated_provider_key_reaches_every_worker(own_tenant: Tenant) -> None:
    """And no request fails for it."""
    provider_side = Providers()
    keys = MasterKeys.parse(own_tenant.master_keys)
    statuses: list[int] = []
    enough = trio.Event()
    async with (
        open_database(own_tenant.database_url, role="karta_admin") as admin,
        scripted_provider(provider_side.answer) as provider,
    ):
        credential_id = await set_byok(admin, own_tenant, "sk-the-first-one")
        async with (
            supervised_gateway(
                own_tenant.database_url,
                own_tenant.spool_dir,
                provider_url=provider.base_url,
                master_keys=own_tenant.master_keys,
            ) as gateway,
            trio.open_nursery() as nursery,
        ):
            for _ in range(CLIENTS):
                nursery.start_soon(keep_asking, gateway, own_tenant.token, statuses, enough)
            await patiently(gateway, lambda: len(provider_side.seen) > 50)
            secret = bytearray(b"sk-the-second-one")
            await rotate_credential(admin, ACTOR, keys, credential_id=credential_id, secret=secret)
            rotated_at = trio.current_time()
            await patiently(
                gateway, lambda: [key for _, key in provider_side.seen[-100:]] == [b"sk-the-second-one"] * 100
            )
            enough.set()
    late = [at - rotated_at for at, key in provider_side.seen if key == b"sk-the-first-one"]
    tell("last use of the old provider key", late)
    assert max(late, default=0) < REFUSED_SECONDS_MAX
    assert set(statuses) == {200}


async def test_a_new_limit_reaches_every_worker(own_tenant: Tenant) -> None:
    statuses: list[int] = []
    enough = trio.Event()
    async with (
        open_database(own_tenant.database_url, role="karta_admin") as admin,
        scripted_provider(Providers().answer) as provider,
        supervised_gateway(
            own_tenant.database_url, own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
    ):
        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(keep_asking, gateway, own_tenant.token, statuses, enough)
                await patiently(gateway, lambda: len(statuses) > 50)
                scope = LimitScope(
                    org_id=own_tenant.org_id, key_id=None, kind=LimitKind.REQUESTS, period=Period.DAY
                )
                await set_limit(admin, ACTOR, scope, 1)
    # Each client was refused, whichever worker it spoke to.
    assert statuses.count(429) == CLIENTS
