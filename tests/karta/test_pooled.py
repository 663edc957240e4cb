"""Gateway and control plane behind a PgBouncer that pools by session, set up as the guide says."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio

from karta.diagnosis import diagnose
from storage.api_keys import mint_key, revoke_key
from storage.audit_chain import verify_chain
from storage.bridge import Database, open_database
from storage.model import Mode
from storage.session_settings import session_settings
from tests.support.admin_process import admin_process
from tests.support.gateway import PATIENCE_SECONDS
from tests.support.gateway_process import gateway_process
from tests.support.pgbouncer import LOGINS, make_logins, pgbouncer
from tests.support.postgres import PostgresServer
from tests.support.raw_client import RawClient
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import Line, scripted_provider
from tests.support.tenant import ACTOR, Tenant

GATEWAY, ADMIN = LOGINS
WRITERS = 12


async def answering(line: Line) -> None:
    while True:
        head, _ = await line.read_request()
        if not head:
            return
        await line.answer(ANSWER)


@pytest.fixture
def pooled(postgres_server: PostgresServer, own_tenant: Tenant) -> Iterator[str]:
    make_logins(postgres_server)
    database = own_tenant.database_url.partition("@/")[2].partition("?")[0]
    with pgbouncer(postgres_server, database, "session", default_pool_size="20") as url:
        yield url


async def test_the_guide_s_logins_have_what_karta_asks_for_otherwise(pooled: str) -> None:
    for login, role in LOGINS.items():
        async with open_database(pooled.format(login), role=role) as db:
            assert await db.fetch_value("SELECT current_user") == role
            wanted = session_settings(role)
            for name in ("search_path", "TimeZone", "application_name"):
                assert await db.fetch_value(f"SHOW {name}") == wanted[name]
            for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
                set_here = await db.fetch_value("SELECT setting FROM pg_settings WHERE name = $1", name)
                assert set_here == wanted[name]


async def test_requests_revocations_and_pages(pooled: str, own_tenant: Tenant, tmp_path: Path) -> None:
    async with (
        scripted_provider(answering) as provider,
        gateway_process(
            pooled.format(GATEWAY), own_tenant.spool_dir, provider_url=provider.base_url
        ) as gateway,
        admin_process(pooled.format(ADMIN), tmp_path, KARTA_MASTER_KEYS=own_tenant.master_keys) as admin_url,
        open_database(pooled.format(ADMIN), role="karta_admin") as admin,
        httpx.AsyncClient() as browser,
    ):
        assert "<h1>Sign in</h1>" in (await browser.get(f"{admin_url}/sign-in")).text
        client = RawClient(await gateway.connect())
        await client.send(post(own_tenant.token))
        assert (await client.read_answer()).status == 200
        await revoke_key(admin, ACTOR, own_tenant.key_id)
        with trio.fail_after(PATIENCE_SECONDS):
            status = 200
            while status == 200:
                await client.send(post(own_tenant.token))
                status = (await client.read_answer()).status
        assert status in (401, 403)
        await client.close()
        assert await gateway.stop() == 0
        found = "SELECT count(*) FROM usage WHERE outcome = 'completed'"
        assert await admin.fetch_value(found) >= 1


async def test_writers_that_wait_for_one_lock_leave_one_chain(pooled: str, own_tenant: Tenant) -> None:
    async with open_database(pooled.format(ADMIN), role="karta_admin", connections_max=8) as admin:

        async def write(number: int) -> None:
            await mint_key(admin, ACTOR, org_id=own_tenant.org_id, name=f"{number}", mode=Mode.LIVE)

        async with trio.open_nursery() as nursery:
            for number in range(WRITERS):
                nursery.start_soon(write, number)
        report = await verify_chain(admin, own_tenant.org_id)
        assert report.problem is None
        assert report.rows >= WRITERS


async def test_a_session_that_another_had_before_has_nothing_of_it(
    postgres_server: PostgresServer, own_tenant: Tenant
) -> None:
    """Neither its prepared statements, which are called the same, nor its channels."""
    make_logins(postgres_server)
    database = own_tenant.database_url.partition("@/")[2].partition("?")[0]
    with pgbouncer(postgres_server, database, "session", default_pool_size="1") as url:
        sessions: set[int] = set()
        for number in range(3):
            async with open_database(url.format(ADMIN), role="karta_admin", connections_max=1) as db:
                assert await _prepared(db, number) == number
                sessions.add(await db.fetch_value("SELECT pg_backend_pid()"))
            async with open_database(url.format(ADMIN), role="karta_admin") as db, db.listen("somewhere"):
                pass
            async with open_database(url.format(ADMIN), role="karta_admin", connections_max=1) as db:
                assert await db.fetch("SELECT pg_listening_channels() AS channel") == []
        assert len(sessions) == 1


async def _prepared(db: Database, number: int) -> int:
    return int(await db.fetch_value(f"SELECT $1::int + {number} - {number}", number))


async def test_the_doctor_tells_of_a_login_that_lacks_its_role(
    postgres_server: PostgresServer, own_tenant: Tenant
) -> None:
    """The pooler ignores what a session asks for as it begins, and says nothing."""
    postgres_server.sql("DROP ROLE IF EXISTS pooled; CREATE ROLE pooled LOGIN SUPERUSER")
    database = own_tenant.database_url.partition("@/")[2].partition("?")[0]
    with pgbouncer(postgres_server, database, "session") as url:
        given = argparse.Namespace(database_url=url.format("pooled"), data_dir=None)
        roles = [one for one in (await diagnose(given)).checks if one.name == "roles"]
        assert [one.state for one in roles] == ["failed", "failed"]
        assert "run as pooled instead of karta_gateway" in roles[0].detail
