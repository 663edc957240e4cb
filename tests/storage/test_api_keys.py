"""Keys from mint to revocation. Each mint is a real bcrypt, so the tests are few and long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from storage import key_format, staff
from storage.api_keys import (
    OVERLAP_SECONDS_MAX,
    PAGE_ROWS_MAX,
    mint_key,
    revoke_key,
    rotate_key,
    select_gateway_key,
    select_gateway_keys,
    select_key,
    select_keys,
)
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.credentials import revoke_credential, set_credential
from storage.errors import CheckFailed, Conflict, InvalidValue, NotFound
from storage.model import Actor, GatewayKey, Mode, Organization, OrgStatus, Plan
from storage.organizations import create_organization, set_plan
from storage.sealing import MasterKeys, open_sealed


async def test_a_key_from_mint_to_revocation(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization
) -> None:
    key, token = await mint_key(
        admin_db, actor, org_id=org.org_id, name="ci", mode=Mode.TEST, allowed_models=["a", "b"]
    )
    parsed = key_format.parse(token.encode())
    assert parsed is not None
    assert (parsed.key_id, parsed.mode, token[-4:]) == (key.key_id, Mode.TEST, key.last_four)
    assert (key.name, key.allowed_models, key.revoked_at) == ("ci", ("a", "b"), None)
    assert await select_keys(admin_db, org.org_id) == [key]

    seen = await select_gateway_key(gateway_db, key.key_id)
    assert seen is not None
    assert key_format.verify(parsed.secret, seen.secret_digest)
    assert (seen.org_id, seen.mode, seen.plan) == (org.org_id, Mode.TEST, Plan.PRO)
    assert (seen.allowed_models, seen.credentials) == (("a", "b"), ())

    revoked = await revoke_key(admin_db, actor, key.key_id)
    assert revoked.revoked_at is not None
    assert await revoke_key(admin_db, actor, key.key_id) == revoked
    seen = await select_gateway_key(gateway_db, key.key_id)
    assert seen is not None
    assert seen.revoked_at == revoked.revoked_at
    with pytest.raises(Conflict):
        await rotate_key(admin_db, actor, key.key_id)

    rows = await select_audit_rows(admin_db, org.org_id, after_seq=1)
    assert [(row.event, row.subject) for row in rows] == [
        ("api_key:minted", key.key_id),
        ("api_key:revoked", key.key_id),
    ]
    told = "".join(row.details for row in rows) + repr(key) + repr(seen)
    assert parsed.secret.decode() not in told
    assert seen.secret_digest.decode() not in told


async def test_rotation_with_and_without_overlap(admin_db: Database, actor: Actor, org: Organization) -> None:
    expires_at = datetime.now(UTC) + timedelta(days=2)
    old, _ = await mint_key(
        admin_db,
        actor,
        org_id=org.org_id,
        name="web",
        mode=Mode.LIVE,
        expires_at=expires_at,
        allowed_models=["m"],
    )
    assert old.expires_at == expires_at
    new, token = await rotate_key(admin_db, actor, old.key_id, 600)
    assert new.key_id != old.key_id
    assert new.key_id in token
    assert (new.name, new.mode, new.allowed_models, new.org_id) == ("web", Mode.LIVE, ("m",), org.org_id)
    assert new.expires_at is not None
    assert abs(new.expires_at - datetime.now(UTC) - timedelta(days=2)) < timedelta(minutes=1)

    newest, _ = await rotate_key(admin_db, actor, new.key_id)
    keys = {key.key_id: key for key in await select_keys(admin_db, org.org_id)}
    overlapping = keys[old.key_id].expires_at
    assert overlapping is not None
    assert timedelta() < overlapping - datetime.now(UTC) <= timedelta(seconds=600)
    assert keys[old.key_id].revoked_at is None
    assert keys[new.key_id].revoked_at is not None
    assert keys[newest.key_id].revoked_at is None

    rows = await select_audit_rows(admin_db, org.org_id, after_seq=2)
    assert [(row.event, row.subject) for row in rows] == [
        ("api_key:rotated", old.key_id),
        ("api_key:rotated", new.key_id),
    ]
    assert new.key_id in rows[0].details


async def test_other_organizations_keys_are_not_there(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.PRO)
    key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)
    assert await select_keys(admin_db, other.org_id) == []
    with pytest.raises(NotFound):
        await revoke_key(admin_db, actor, key.key_id, org_id=other.org_id)
    with pytest.raises(NotFound):
        await rotate_key(admin_db, actor, key.key_id, org_id=other.org_id)
    assert await select_keys(admin_db, org.org_id) == [key]
    assert (await revoke_key(admin_db, actor, key.key_id, org_id=org.org_id)).revoked_at is not None


async def test_what_cannot_be_minted(admin_db: Database, actor: Actor, org: Organization) -> None:
    with pytest.raises(NotFound):
        await mint_key(admin_db, actor, org_id=uuid4(), name="k", mode=Mode.LIVE)
    with pytest.raises(CheckFailed):
        await mint_key(admin_db, actor, org_id=org.org_id, name="", mode=Mode.LIVE)
    with pytest.raises(CheckFailed):
        await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE, allowed_models=[])
    assert await select_keys(admin_db, org.org_id) == []


async def test_unknown_keys(admin_db: Database, gateway_db: Database, actor: Actor) -> None:
    assert await select_gateway_key(gateway_db, "0" * 12) is None
    for key_id in ("0" * 12, "", "x" * 1000):
        with pytest.raises(NotFound):
            await revoke_key(admin_db, actor, key_id)
        with pytest.raises(NotFound):
            await rotate_key(admin_db, actor, key_id)
    token = key_format.mint(Mode.LIVE).token
    with pytest.raises(NotFound) as caught:
        await revoke_key(admin_db, actor, token)
    assert token not in str(caught.value)
    for overlap in (-1, OVERLAP_SECONDS_MAX + 1, float("nan")):
        with pytest.raises(InvalidValue):
            await rotate_key(admin_db, actor, "0" * 12, overlap)


async def test_pages_tell_all_once_and_look_ups_are_bounded(
    admin_db: Database, gateway_db: Database, owner_db: Database, actor: Actor, org: Organization
) -> None:
    # One digest for all: minting them would cost a second and a half.
    await owner_db.execute(
        """
        INSERT INTO api_keys (key_id, org_id, name, mode, last_four, secret_digest)
        SELECT lpad(n::text, 12, '0'), $1, 'k', 'live', 'abcd', $2 FROM generate_series(1, 5) n
        """,
        org.org_id,
        b"$2b$12$" + b"a" * 53,
    )
    seen: list[str] = []
    while page := await select_keys(admin_db, org.org_id, 2, seen[-1] if seen else None):
        seen += [key.key_id for key in page]
    assert seen == [str(n).zfill(12) for n in range(1, 6)]
    found = await select_gateway_keys(gateway_db, [*seen, "unknown", seen[0]])
    assert sorted(key.key_id for key in found) == seen
    assert await select_gateway_keys(gateway_db, []) == []
    with pytest.raises(InvalidValue):
        await select_gateway_keys(gateway_db, ["x"] * (PAGE_ROWS_MAX + 1))


@pytest.mark.parametrize("digest", [b"$2b$11$" + b"a" * 53, b"$2b$04$" + b"a" * 53, b"x" * 60, b"\xff" * 60])
async def test_a_cheap_digest_cannot_even_be_written_by_hand(
    digest: bytes, owner_db: Database, org: Organization
) -> None:
    with pytest.raises((CheckFailed, InvalidValue)):
        await owner_db.execute(
            """
            INSERT INTO api_keys (key_id, org_id, name, mode, last_four, secret_digest)
            VALUES ('0123456789ab', $1, 'k', 'live', 'abcd', $2)
            """,
            org.org_id,
            digest,
        )


async def test_the_gateways_row_has_all_it_needs(
    admin_db: Database, gateway_db: Database, actor: Actor, org: Organization, master_keys: MasterKeys
) -> None:
    key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)

    async def look() -> GatewayKey:
        seen = await select_gateway_key(gateway_db, key.key_id)
        assert seen is not None
        return seen

    for provider in ("openai", "anthropic"):
        await set_credential(
            admin_db,
            actor,
            master_keys,
            org_id=org.org_id,
            provider=provider,
            secret=bytearray(f"sk-{provider}-0123456789".encode()),
        )
    seen = await look()
    assert [credential.provider for credential in seen.credentials] == ["anthropic", "openai"]
    assert open_sealed(master_keys, seen.credentials[1]) == b"sk-openai-0123456789"
    await revoke_credential(admin_db, actor, seen.credentials[0].credential_id)
    assert [credential.provider for credential in (await look()).credentials] == ["openai"]
    await set_plan(admin_db, actor, org.org_id, Plan.ENTERPRISE)
    await staff.suspend(admin_db, actor, org.org_id, "unpaid")
    seen = await look()
    assert (seen.plan, seen.org_status) == (Plan.ENTERPRISE, OrgStatus.SUSPENDED)


async def test_one_key_is_found_in_its_organization_alone(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    key, _ = await mint_key(admin_db, actor, org_id=org.org_id, name="One", mode=Mode.LIVE)
    assert await select_key(admin_db, org.org_id, key.key_id) == key
    for org_id, key_id in ((uuid4(), key.key_id), (org.org_id, "nonsense")):
        with pytest.raises(NotFound):
            await select_key(admin_db, org_id, key_id)


async def test_a_cursor_of_another_organization_is_an_unknown_one(
    admin_db: Database, actor: Actor, org: Organization
) -> None:
    other = await create_organization(admin_db, actor, name="Other", plan=Plan.PRO)
    theirs, _ = await mint_key(admin_db, actor, org_id=other.org_id, name="k", mode=Mode.LIVE)
    # Made after theirs, so that their time would let it through.
    await mint_key(admin_db, actor, org_id=org.org_id, name="k", mode=Mode.LIVE)
    unknown = await select_keys(admin_db, org.org_id, after="aaaaaaaaaaaa")
    assert await select_keys(admin_db, org.org_id, after=theirs.key_id) == unknown == []
