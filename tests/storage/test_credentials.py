"""Provider keys: sealed in place, shown by four characters, and gone from the disk when they go."""

from __future__ import annotations

import logging
from uuid import UUID, uuid4

import pytest
import trio

from storage.audit import select_audit_rows
from storage.audit_chain import verify_chain
from storage.bridge import Database
from storage.credentials import (
    revoke_credential,
    rotate_credential,
    select_credentials,
    set_credential,
    shred,
    shred_suspended,
)
from storage.errors import CheckFailed, Conflict, DatabaseBusy, InvalidValue, NotFound, PlanRefused, SealError
from storage.model import Actor, Organization, Plan, ProviderCredential, SealedCredential
from storage.organizations import create_organization, set_plan
from storage.plans import SUSPENDED_KEPT
from storage.sealing import MasterKeys, open_sealed
from tests.storage.lock_waits import until_waiting
from tests.support.postgres import PostgresServer

SECRET = b"sk-ant-api03-0123456789-abcdefghijklmnop-WXYZ"
OTHER = b"sk-ant-api03-9876543210-ponmlkjihgfedcba-QRST"


class Keeper:
    """The control plane's calls with what never changes filled in, and the data plane's view of it."""

    def __init__(
        self, admin_db: Database, gateway_db: Database, actor: Actor, keys: MasterKeys, org_id: UUID
    ) -> None:
        self.db, self.gateway_db, self.actor = admin_db, gateway_db, actor
        self.keys, self.org_id = keys, org_id

    async def set(self, secret: bytes = SECRET, provider: str = "anthropic") -> ProviderCredential:
        return await set_credential(
            self.db, self.actor, self.keys, org_id=self.org_id, provider=provider, secret=bytearray(secret)
        )

    async def rotate(self, credential_id: UUID, secret: bytes = OTHER) -> ProviderCredential:
        return await rotate_credential(self.db, self.actor, self.keys, credential_id, bytearray(secret))

    async def sealed(self) -> list[SealedCredential]:
        rows = await self.gateway_db.fetch(
            """
            SELECT c.credential_id, c.org_id, c.provider, c.master_key_version, o.salt AS org_salt,
                   c.wrapped_key, c.ciphertext
              FROM provider_credentials c JOIN organizations o USING (org_id)
             WHERE c.revoked_at IS NULL ORDER BY c.provider
            """
        )
        return [
            SealedCredential(**{name: row[name] for name in SealedCredential.__struct_fields__})
            for row in rows
        ]


@pytest.fixture
def keeper(
    admin_db: Database, gateway_db: Database, actor: Actor, master_keys: MasterKeys, org: Organization
) -> Keeper:
    return Keeper(admin_db, gateway_db, actor, master_keys, org.org_id)


async def test_a_credential_is_sealed_and_shown_by_four_characters(keeper: Keeper) -> None:
    credential = await keeper.set()
    assert (credential.provider, credential.last_four, credential.revoked_at) == ("anthropic", "WXYZ", None)
    assert await select_credentials(keeper.db, keeper.org_id) == [credential]
    [sealed] = await keeper.sealed()
    assert sealed.credential_id == credential.credential_id
    assert open_sealed(keeper.keys, sealed) == SECRET
    [row] = await select_audit_rows(keeper.db, keeper.org_id, after_seq=1)
    assert (row.event, row.subject) == ("credential:set", str(credential.credential_id))
    assert "WXYZ" in row.details
    assert SECRET.decode() not in row.details


async def test_the_secret_is_wiped_whatever_happens(keeper: Keeper) -> None:
    common = (keeper.db, keeper.actor, keeper.keys)
    good = bytearray(SECRET)
    credential = await set_credential(*common, org_id=keeper.org_id, provider="openai", secret=good)
    refused = bytearray(SECRET)
    with pytest.raises(NotFound):
        await set_credential(*common, org_id=uuid4(), provider="openai", secret=refused)
    malformed = bytearray(b"with a space")
    with pytest.raises(InvalidValue):
        await set_credential(*common, org_id=keeper.org_id, provider="openai", secret=malformed)
    rotated = bytearray(SECRET)
    await rotate_credential(*common, credential.credential_id, rotated)
    unknown = bytearray(SECRET)
    with pytest.raises(NotFound):
        await rotate_credential(*common, uuid4(), unknown)
    assert not any(good + refused + malformed + rotated + unknown)


async def test_the_free_plan_is_refused(keeper: Keeper, admin_db: Database, actor: Actor) -> None:
    credential = await keeper.set()
    await set_plan(admin_db, actor, keeper.org_id, Plan.FREE)
    with pytest.raises(PlanRefused, match="Pro and Enterprise"):
        await keeper.set()
    with pytest.raises(PlanRefused):
        await keeper.rotate(credential.credential_id)
    # What is there can still be taken away.
    assert (await revoke_credential(admin_db, actor, credential.credential_id)).revoked_at is not None
    free = await create_organization(admin_db, actor, name="Free", plan=Plan.FREE)
    with pytest.raises(PlanRefused):
        await Keeper(admin_db, keeper.gateway_db, actor, keeper.keys, free.org_id).set()
    assert await select_credentials(admin_db, free.org_id) == []


@pytest.mark.parametrize(
    "secret",
    [b"", b"short", b"has space 0123", b"line\r\nend-0123", b"nul\0in-it-0123", b"\xff" * 20, b"x" * 5000],
)
async def test_what_cannot_be_sent_in_a_header(secret: bytes, keeper: Keeper) -> None:
    with pytest.raises(InvalidValue):
        await keeper.set(secret)
    assert await keeper.sealed() == []


async def test_a_malformed_provider(keeper: Keeper) -> None:
    with pytest.raises(CheckFailed):
        await keeper.set(provider="Anthropic; DROP TABLE")


async def test_setting_again_replaces(keeper: Keeper) -> None:
    first = await keeper.set()
    second = await keeper.set(OTHER)
    assert [c.credential_id for c in await keeper.sealed()] == [second.credential_id]
    listed = await select_credentials(keeper.db, keeper.org_id)
    assert [c.credential_id for c in listed] == [first.credential_id, second.credential_id]
    assert listed[0].revoked_at is not None
    row = (await select_audit_rows(keeper.db, keeper.org_id))[-1]
    assert row.event == "credential:replaced"
    assert str(first.credential_id) in row.details
    await keeper.set(provider="openai")
    assert len(await keeper.sealed()) == 2


async def test_setting_at_the_same_time_leaves_one(keeper: Keeper) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(keeper.set)
    assert len(await keeper.sealed()) == 1
    assert len(await select_credentials(keeper.db, keeper.org_id)) == 4
    assert (await verify_chain(keeper.db, keeper.org_id)).intact


async def test_rotation_keeps_the_id(keeper: Keeper) -> None:
    credential = await keeper.set()
    rotated = await keeper.rotate(credential.credential_id)
    assert (rotated.credential_id, rotated.last_four) == (credential.credential_id, "QRST")
    [sealed] = await keeper.sealed()
    assert open_sealed(keeper.keys, sealed) == OTHER
    row = (await select_audit_rows(keeper.db, keeper.org_id))[-1]
    assert (row.event, row.subject) == ("credential:rotated", str(credential.credential_id))


async def test_a_rotation_that_waits_for_its_organization_holds_nothing(keeper: Keeper) -> None:
    """Who has the organization goes on to its credentials: a change of plan, a key that replaces another."""
    credential = await keeper.set()
    async with trio.open_nursery() as nursery, keeper.db.transaction() as tx:
        await tx.fetch("SELECT FROM organizations WHERE org_id = $1 FOR NO KEY UPDATE", credential.org_id)
        nursery.start_soon(keeper.rotate, credential.credential_id)
        await until_waiting(keeper.db)
        await tx.fetch(
            "SELECT FROM provider_credentials WHERE credential_id = $1 FOR NO KEY UPDATE NOWAIT",
            credential.credential_id,
        )
    [sealed] = await keeper.sealed()
    assert open_sealed(keeper.keys, sealed) == OTHER


async def test_revoking_is_final(keeper: Keeper, actor: Actor) -> None:
    credential = await keeper.set()
    revoked = await revoke_credential(keeper.db, actor, credential.credential_id)
    assert revoked.revoked_at is not None
    assert await revoke_credential(keeper.db, actor, credential.credential_id) == revoked
    with pytest.raises(Conflict):
        await keeper.rotate(credential.credential_id)
    assert await keeper.sealed() == []
    rows = await select_audit_rows(keeper.db, keeper.org_id)
    assert [row.event for row in rows].count("credential:revoked") == 1


async def test_other_organizations_credentials_are_not_there(keeper: Keeper, actor: Actor) -> None:
    credential = await keeper.set()
    with pytest.raises(NotFound):
        await revoke_credential(keeper.db, actor, credential.credential_id, org_id=uuid4())
    with pytest.raises(NotFound):
        await rotate_credential(
            keeper.db, actor, keeper.keys, credential.credential_id, bytearray(OTHER), org_id=uuid4()
        )
    assert await select_credentials(keeper.db, uuid4()) == []


async def test_a_row_moved_to_another_organization_does_not_open(
    keeper: Keeper, owner_db: Database, admin_db: Database, actor: Actor
) -> None:
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.PRO)
    await keeper.set()
    await owner_db.execute("UPDATE provider_credentials SET org_id = $1", other.org_id)
    [sealed] = await keeper.sealed()
    with pytest.raises(SealError):
        open_sealed(keeper.keys, sealed)


def fragments(sealed: SealedCredential) -> list[bytes]:
    """Pieces of the material long enough to be no accident: a page may be overwritten in part."""
    whole = [sealed.wrapped_key[1:], sealed.ciphertext[1:]]
    return [value[at : at + 12] for value in whole for at in range(0, len(value) - 12, 6)]


@pytest.mark.parametrize("how", ["revoke", "rotate", "replace"])
async def test_old_material_is_gone_from_the_disk(
    how: str,
    keeper: Keeper,
    owner_db: Database,
    actor: Actor,
    postgres_server: PostgresServer,
    database_name: str,
) -> None:
    credential = await keeper.set()
    [old] = await keeper.sealed()
    # Another's, before and after, so that the page stays in use.
    await keeper.set(OTHER, "openai")
    await owner_db.execute("CHECKPOINT")
    pieces = fragments(old)
    before = postgres_server.read_relation("provider_credentials", database_name)
    assert all(piece in before for piece in pieces), "the search must be able to find"
    if how == "revoke":
        await revoke_credential(keeper.db, actor, credential.credential_id)
    elif how == "rotate":
        await keeper.rotate(credential.credential_id)
    else:
        await keeper.set(OTHER)
    await owner_db.execute("VACUUM provider_credentials")
    await owner_db.execute("CHECKPOINT")
    after = postgres_server.read_relation("provider_credentials", database_name)
    assert not [piece for piece in pieces if piece in after]
    assert SECRET[:16] not in after
    for content in postgres_server.read_files("base"):
        assert not [piece for piece in pieces if piece in content]
        assert SECRET not in content
    assert await keeper.db.fetch_value("SELECT count(*) FROM provider_credentials WHERE shred_due") == 0
    assert not await shred(keeper.db)
    # The other one is still there, and well.
    assert OTHER in [bytes(open_sealed(keeper.keys, sealed)) for sealed in await keeper.sealed()]


async def test_shredding_that_must_wait_stays_due(
    keeper: Keeper, owner_db: Database, actor: Actor, caplog: pytest.LogCaptureFixture
) -> None:
    credential = await keeper.set()
    async with owner_db.transaction() as tx:
        # As a backup does: it holds the table for as long as it takes.
        await tx.fetch("SELECT * FROM provider_credentials")
        with caplog.at_level(logging.WARNING):
            revoked = await revoke_credential(keeper.db, actor, credential.credential_id)
        assert revoked.revoked_at is not None
        assert "still to be shredded" in caplog.text
        assert await keeper.sealed() == []
        with pytest.raises(DatabaseBusy):
            await shred(keeper.db)
    assert await keeper.db.fetch_value("SELECT bool_and(shred_due) FROM provider_credentials")
    assert await shred(keeper.db)
    assert not await shred(keeper.db)


async def test_two_who_shred_at_once_do_not_keep_each_other_from_it(
    keeper: Keeper, owner_db: Database
) -> None:
    await keeper.set()
    await owner_db.execute("UPDATE provider_credentials SET shred_due = true")
    # So that the outcome does not hang on how busy this machine is.
    await owner_db.execute("ALTER FUNCTION shred_credentials() SET lock_timeout = '60s'")
    done: list[bool] = []

    async def shred_too() -> None:
        done.append(await shred(keeper.db))

    async with trio.open_nursery() as nursery, owner_db.transaction() as tx:
        # Until both look whether anything is due.
        await tx.execute("LOCK TABLE provider_credentials")
        nursery.start_soon(shred_too)
        nursery.start_soon(shred_too)
        await until_waiting(owner_db, 2)
    assert sorted(done) == [False, True], "the second finds nothing left"


async def test_live_rows_survive_shredding(keeper: Keeper, actor: Actor) -> None:
    gone = await keeper.set()
    for number in range(20):
        await keeper.set(SECRET + str(number).encode(), f"provider{number}")
    await revoke_credential(keeper.db, actor, gone.credential_id)
    opened = {bytes(open_sealed(keeper.keys, sealed)) for sealed in await keeper.sealed()}
    assert opened == {SECRET + str(number).encode() for number in range(20)}


async def test_material_and_revocation_go_together(keeper: Keeper, owner_db: Database) -> None:
    await keeper.set()
    for sql in (
        "UPDATE provider_credentials SET revoked_at = now()",
        "UPDATE provider_credentials SET ciphertext = NULL",
        "UPDATE provider_credentials SET wrapped_key = NULL",
    ):
        with pytest.raises(CheckFailed):
            await owner_db.execute(sql)


async def test_what_is_suspended_is_kept_for_a_while_and_then_shredded(
    keeper: Keeper, owner_db: Database, postgres_server: PostgresServer, database_name: str
) -> None:
    credential = await keeper.set()
    [sealed] = await keeper.sealed()
    await set_plan(keeper.db, keeper.actor, keeper.org_id, Plan.FREE)
    assert await shred_suspended(keeper.db, keeper.actor) == 0
    await owner_db.execute("CHECKPOINT")
    assert sealed.ciphertext in postgres_server.read_relation("provider_credentials", database_name)
    await owner_db.execute(
        "UPDATE provider_credentials SET suspended_at = now() - $1::interval", SUSPENDED_KEPT
    )
    assert await shred_suspended(keeper.db, keeper.actor) == 1
    assert await shred_suspended(keeper.db, keeper.actor) == 0
    await owner_db.execute("CHECKPOINT")
    assert sealed.ciphertext not in postgres_server.read_relation("provider_credentials", database_name)
    [gone] = await select_credentials(keeper.db, keeper.org_id)
    assert gone.revoked_at is not None
    await set_plan(keeper.db, keeper.actor, keeper.org_id, Plan.PRO)
    assert await keeper.sealed() == []
    row = (await select_audit_rows(keeper.db, keeper.org_id))[-2]
    assert (row.event, row.subject) == ("credential:revoked", str(credential.credential_id))
    assert "suspended for 30 days" in row.details


async def test_a_cursor_of_another_organization_is_an_unknown_one(
    keeper: Keeper, admin_db: Database, actor: Actor
) -> None:
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.PRO)
    theirs = await set_credential(
        admin_db, actor, keeper.keys, org_id=other.org_id, provider="openai", secret=bytearray(SECRET)
    )
    # Set after theirs, so that their time would let it through.
    await keeper.set()
    unknown = await select_credentials(admin_db, keeper.org_id, after=uuid4())
    assert await select_credentials(admin_db, keeper.org_id, after=theirs.credential_id) == unknown == []
