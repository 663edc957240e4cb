from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import trio
import trio.testing

from admin import housekeeping
from admin.housekeeping import do_round, keep_house
from storage import error_reports, idempotency
from storage.audit import Event
from storage.audit_checkpoints import select_last_checkpoint
from storage.bridge import Database
from storage.credentials import revoke_credential, select_credentials, set_credential
from storage.errors import DatabaseBusy, DatabaseUnavailable
from storage.limits import select_limits
from storage.model import Actor, Plan
from storage.organization_end import end_organization, request_end
from storage.organizations import select_organization, set_plan
from storage.plans import SUSPENDED_KEPT
from tests.admin.conftest import ACTOR, MASTER_KEYS, Person, make_person
from tests.admin.management_api.client import mint
from tests.storage.test_audit import tamper
from tests.storage.test_usage_charges import platform
from tests.storage.usage_records import insert_usage


async def test_an_organization_goes_when_its_time_has_come(admin_db: Database) -> None:
    people = [await make_person(admin_db, f"{name}@example.com") for name in ("ada", "eve")]
    for person in people:
        await request_end(admin_db, ACTOR, person.organization.org_id)
    org_id = people[0].organization.org_id
    assert await do_round(admin_db) == 0
    await admin_db.execute("UPDATE organizations SET delete_after = now() WHERE org_id = $1", org_id)
    assert await do_round(admin_db) == 1
    assert await do_round(admin_db) == 0
    assert (await select_organization(admin_db, org_id)).name == "Deleted organization"
    assert (await select_organization(admin_db, people[1].organization.org_id)).name == "Acme"


async def test_what_one_step_cannot_do_keeps_none_of_the_others_from_being_done(
    admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [await make_person(admin_db, f"{name}@example.com") for name in ("ada", "eve")]
    org_ids = [person.organization.org_id for person in people]
    for org_id in org_ids:
        await request_end(admin_db, ACTOR, org_id)
    await admin_db.execute("UPDATE organizations SET delete_after = now()")

    async def end_but_not_the_first(db: Database, actor: Actor, org_id: UUID) -> bool:
        if org_id == org_ids[0]:
            raise DatabaseBusy("it has a million webhooks")
        return await end_organization(db, actor, org_id)

    monkeypatch.setattr(housekeeping, "end_organization", end_but_not_the_first)
    with pytest.raises(DatabaseBusy):
        await do_round(admin_db, MASTER_KEYS)
    assert (await select_organization(admin_db, org_ids[1])).name == "Deleted organization"
    assert await select_last_checkpoint(admin_db, org_ids[0]) is not None


async def test_but_a_database_that_is_away_ends_the_round(
    admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnavailable("gone")

    async def fail(*_: object) -> None:
        pytest.fail("it was asked once more")

    monkeypatch.setattr(housekeeping, "shred_suspended", away)
    monkeypatch.setattr(housekeeping, "renew_ceilings", fail)
    with pytest.raises(DatabaseUnavailable):
        await do_round(admin_db)


async def test_chains_are_signed_and_what_is_wrong_is_told(
    admin_db: Database, owner_db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    person = await make_person(admin_db, "ada@example.com")
    org_id = person.organization.org_id
    await do_round(admin_db)
    assert await select_last_checkpoint(admin_db, org_id) is None
    await do_round(admin_db, MASTER_KEYS)
    first = await select_last_checkpoint(admin_db, org_id)
    assert first is not None
    await request_end(admin_db, ACTOR, org_id)
    await tamper(
        owner_db, f"UPDATE audit_log SET subject = 'x' WHERE org_id = '{org_id}' AND seq > {first.seq}"
    )
    await do_round(admin_db, MASTER_KEYS)
    assert await select_last_checkpoint(admin_db, org_id) == first
    assert "karta audit verify" in caplog.text
    assert str(org_id) in caplog.text


async def test_suspended_provider_keys_go_and_ceilings_are_renewed(
    admin_db: Database, owner_db: Database, person: Person
) -> None:
    org_id = person.organization.org_id
    secret = bytearray(b"sk-ant-0123456789-abcd")
    await set_credential(admin_db, ACTOR, MASTER_KEYS, org_id=org_id, provider="anthropic", secret=secret)
    await set_plan(admin_db, ACTOR, org_id, Plan.FREE)
    await owner_db.execute(
        "UPDATE provider_credentials SET suspended_at = now() - $1::interval", SUSPENDED_KEPT
    )
    await owner_db.execute("UPDATE limits SET amount = 1 WHERE of_plan")
    await do_round(admin_db)
    [credential] = await select_credentials(admin_db, org_id)
    assert credential.revoked_at is not None
    standings = await select_limits(admin_db, org_id, of_plan=True)
    assert min(standing.limit.amount for standing in standings) > 1


async def test_what_could_not_be_shredded_at_its_change_is_by_the_next_round(
    admin_db: Database, owner_db: Database, person: Person
) -> None:
    credential = await set_credential(
        admin_db,
        ACTOR,
        MASTER_KEYS,
        org_id=person.organization.org_id,
        provider="anthropic",
        secret=bytearray(b"sk-ant-0123456789-abcd"),
    )
    due = "SELECT count(*) FROM provider_credentials WHERE shred_due"
    async with owner_db.transaction() as tx:
        # As a backup does: it holds the table for as long as it takes.
        await tx.fetch("SELECT * FROM provider_credentials")
        await revoke_credential(admin_db, ACTOR, credential.credential_id)
    assert await admin_db.fetch_value(due) == 1
    await do_round(admin_db)
    assert await admin_db.fetch_value(due) == 0


async def test_requests_that_a_plan_keeps_no_longer_go(
    admin_db: Database, owner_db: Database, gateway_db: Database, person: Person
) -> None:
    org = await set_plan(admin_db, ACTOR, person.organization.org_id, Plan.FREE)
    moments = [datetime.now(UTC) - timedelta(days=days) for days in (1, 40)]
    await insert_usage(gateway_db, [platform(org, 5, started_at=moment) for moment in moments])
    await owner_db.execute("UPDATE organizations SET plan_since = now() - $1::interval", SUSPENDED_KEPT)
    await do_round(admin_db)
    assert [row["started_at"] for row in await admin_db.fetch("SELECT started_at FROM usage")] == moments[:1]


async def test_kept_answers_are_forgotten_after_a_day(
    admin_db: Database, owner_db: Database, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = await mint(admin_db, person)
    monkeypatch.setattr(idempotency, "SWEPT_ROWS_MAX", 2)
    for number in range(5):
        await idempotency.claim(admin_db, key.key_id, bytes([number]) * 32, bytes(32))
    await owner_db.execute("UPDATE idempotent_requests SET created_at = now() - interval '25 hours'")
    await idempotency.claim(admin_db, key.key_id, b"x" * 32, bytes(32))
    await do_round(admin_db)
    assert await owner_db.fetch_value("SELECT count(*) FROM idempotent_requests") == 1


def test_a_round_that_fails_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = []
    told: list[BaseException] = []
    busy = DatabaseBusy("too long")

    async def fail(*_: object) -> int:
        rounds.append(trio.current_time())
        if len(rounds) == 3:
            raise trio.TooSlowError
        raise busy if len(rounds) == 2 else DatabaseUnavailable("away")

    async def tell(*_: object) -> int:
        return 0

    monkeypatch.setattr(housekeeping, "do_round", fail)
    monkeypatch.setattr(housekeeping, "tell_changes", tell)
    monkeypatch.setattr(error_reports, "report", lambda error, _: told.append(error))
    nobody: Any = SimpleNamespace(db=None, loaded_master_keys=None)
    with pytest.raises(trio.TooSlowError), caplog.at_level(logging.WARNING, "karta.admin"):
        trio.run(keep_house, nobody, clock=trio.testing.MockClock(autojump_threshold=0))
    assert rounds[1] - rounds[0] == housekeeping.EVERY_SECONDS
    assert "away" in caplog.text
    assert told == [busy], "a database that is away is no fault"


async def test_two_processes_may_do_it_at_once(admin_db: Database, owner_db: Database) -> None:
    person = await make_person(admin_db, "ada@example.com")
    org_id = person.organization.org_id
    await set_credential(
        admin_db,
        ACTOR,
        MASTER_KEYS,
        org_id=org_id,
        provider="anthropic",
        secret=bytearray(b"sk-ant-0123456789-abcd"),
    )
    await request_end(admin_db, ACTOR, org_id)
    await admin_db.execute("UPDATE organizations SET delete_after = now() WHERE org_id = $1", org_id)
    gone = []

    async def one() -> None:
        gone.append(await do_round(admin_db, MASTER_KEYS))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
    assert sum(gone) == 1
    for event in (Event.ORGANIZATION_ENDED, Event.AUDIT_SIGNING_KEY_MADE):
        told = await owner_db.fetch_value("SELECT count(*) FROM audit_log WHERE event = $1", event.value)
        assert told == 1, event
