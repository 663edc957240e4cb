"""Provider keys: sealed as soon as they are typed, shown by four characters, and all of it with proof."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from admin import csrf
from admin.provider_check import Endpoint
from storage.bridge import Database
from storage.credentials import CREDENTIALS_MAX, select_credentials
from storage.model import Plan
from storage.organizations import set_plan
from tests.admin.browsing import Visitor
from tests.admin.conftest import (
    ACTOR,
    PASSWORD,
    Person,
    make_person,
    make_stale,
    running_admin,
)
from tests.support.scripted_provider import Line, scripted_provider

SECRET, NEWER = "sk-ant-api03-0123456789-wxyz", "sk-ant-api03-9876543210-abcd"


def at(person: Person, page: str = "") -> str:
    return f"/organizations/{person.organization.org_id}/provider-keys{page}"


GOOD = {SECRET, NEWER}
"""The keys that the provider knows."""


@pytest.fixture
async def admin_url(database_url: str) -> AsyncIterator[str]:
    """With a provider that can be asked."""

    async def handler(line: Line) -> None:
        head, _ = await line.read_request()
        known = any(f"x-api-key: {key}\r\n".encode() in head for key in GOOD)
        if b"slow" in head:
            await line.answer(b"{}", status="503 Service Unavailable")
        else:
            await line.answer(b"{}", status="200 OK" if known else "401 Unauthorized")

    async with scripted_provider(handler) as provider:
        endpoints = {"anthropic": Endpoint(f"{provider.base_url}/v1/models", "x-api-key")}
        async with running_admin(database_url, endpoints=endpoints) as url:
            yield url


async def add(visitor: Visitor, person: Person, secret: str = SECRET) -> httpx.Response:
    return await visitor.submit(at(person, "/new"), {"provider": "anthropic", "secret": secret})


async def test_a_key_behind_many_ended_ones_is_shown_and_rotated(
    signed_in: Visitor, person: Person, owner_db: Database
) -> None:
    await owner_db.execute(
        """
        INSERT INTO provider_credentials
               (credential_id, org_id, provider, last_four, master_key_version, created_at, revoked_at)
        SELECT gen_random_uuid(), $1, 'anthropic', 'gone', 1, now() - interval '1 day', now()
          FROM generate_series(1, $2)
        """,
        person.organization.org_id,
        CREDENTIALS_MAX,
    )
    await add(signed_in, person)
    page = (await signed_in.get(at(person))).text
    assert "wxyz" in page
    assert "gone" not in page
    [live] = await select_credentials(owner_db, person.organization.org_id, live=True)
    rotated = await signed_in.submit(at(person, f"/{live.credential_id}/rotate"), {"secret": NEWER})
    assert rotated.status_code == 303


async def test_a_key_is_sealed_replaced_and_destroyed(
    signed_in: Visitor, person: Person, admin_db: Database, owner_db: Database
) -> None:
    assert "None yet" in (await signed_in.get(at(person))).text
    done = await add(signed_in, person, f" {SECRET} ")
    page = (await signed_in.get(done.headers["location"])).text
    assert "The provider took the key" in page
    assert "The provider took it on" in page
    assert "wxyz" in page
    assert SECRET not in page
    (credential,) = await select_credentials(admin_db, person.organization.org_id)
    rotate = at(person, f"/{credential.credential_id}/rotate")
    assert "wxyz" in (await signed_in.get(rotate)).text
    refused = await signed_in.submit(rotate, {"secret": "short"})
    assert refused.status_code == 422
    assert (await signed_in.submit(rotate, {"secret": NEWER})).status_code == 303
    page = (await signed_in.get(at(person))).text
    assert "abcd" in page
    revoke = at(person, f"/{credential.credential_id}/revoke")
    assert (await signed_in.submit(at(person), {}, revoke)).status_code == 303
    assert "None yet" in (await signed_in.get(at(person))).text
    assert (await signed_in.get(rotate)).status_code == 404
    for table in ("audit_log", "sessions", "provider_credentials"):
        rows = await owner_db.fetch(f"SELECT t::text AS row FROM {table} t")
        assert not {SECRET, NEWER} & set("".join(row["row"] for row in rows).split())
        assert "0123456789" not in "".join(row["row"] for row in rows)


async def test_a_key_the_provider_refuses_is_not_taken(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    refused = await add(signed_in, person, "sk-ant-api03-nobody-knows")
    assert refused.status_code == 422
    assert "does not know that key" in refused.text
    assert "nobody-knows" not in refused.text
    assert 'name="untried"' not in refused.text
    assert await select_credentials(admin_db, person.organization.org_id) == []
    await add(signed_in, person)
    (credential,) = await select_credentials(admin_db, person.organization.org_id)
    rotate = at(person, f"/{credential.credential_id}/rotate")
    assert (await signed_in.submit(rotate, {"secret": "sk-ant-api03-nobody-knows"})).status_code == 422
    assert (await select_credentials(admin_db, person.organization.org_id))[0].last_four == "wxyz"


async def test_where_nothing_is_told_the_person_may_keep_it(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    untold = await add(signed_in, person, "sk-ant-api03-slow-provider")
    assert untold.status_code == 422
    assert "could not be asked" in untold.text
    assert "slow-provider" not in untold.text
    form = {"provider": "anthropic", "secret": "sk-ant-api03-slow-provider", "untried": "yes"}
    assert 'name="untried"' in untold.text
    kept = await signed_in.submit(at(person, "/new"), form)
    assert kept.status_code == 303
    assert "was not tried" in (await signed_in.get(at(person))).text
    (credential,) = await select_credentials(admin_db, person.organization.org_id)
    assert credential.verified_at is None
    rotate = at(person, f"/{credential.credential_id}/rotate")
    assert (await signed_in.submit(rotate, {"secret": NEWER})).status_code == 303
    (credential,) = await select_credentials(admin_db, person.organization.org_id)
    assert credential.verified_at is not None
    untried = {"provider": "openai", "secret": SECRET}
    assert "could not be asked" in (await signed_in.submit(at(person, "/new"), untried)).text


async def test_nobody_sorts_many_keys_by_it(signed_in: Visitor, person: Person) -> None:
    page = at(person, "/new")
    form = {csrf.FIELD: await signed_in.token(page), "provider": "anthropic", "secret": "sk-ant-api03-guess"}
    statuses = [(await signed_in.post(page, form)).status_code for _ in range(31)]
    assert statuses == [422] * 30 + [429]


@pytest.mark.parametrize("secret", ["", "short", "with space in it", "ключ-ключ-ключ", "x" * 5000])
async def test_what_is_no_key_is_not_shown_again(
    signed_in: Visitor, person: Person, admin_db: Database, secret: str
) -> None:
    refused = await add(signed_in, person, secret)
    assert refused.status_code == 422
    assert not secret or f'value="{secret}"' not in refused.text
    assert await select_credentials(admin_db, person.organization.org_id) == []
    wrong = await signed_in.submit(at(person, "/new"), {"provider": "nobody", "secret": SECRET})
    assert wrong.status_code == 400


async def test_on_the_free_plan_there_are_none(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    await set_plan(admin_db, ACTOR, person.organization.org_id, Plan.FREE)
    assert "Pro and Enterprise" in (await signed_in.get(at(person))).text
    assert (await add(signed_in, person)).status_code == 303
    assert await select_credentials(admin_db, person.organization.org_id) == []


async def test_a_secret_typed_before_the_proof_is_not_kept(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    page = at(person, "/new")
    token = await signed_in.token(page)
    await make_stale(admin_db)
    form = {csrf.FIELD: token, "provider": "anthropic", "secret": SECRET}
    asked = await signed_in.post(page, form, headers={"Referer": signed_in.url + page})
    assert asked.headers["location"] == "/prove"
    assert SECRET not in await admin_db.fetch_value("SELECT interrupted FROM sessions")
    await signed_in.submit("/prove", {"password": PASSWORD}, "/prove/password")
    assert (await signed_in.get("/prove/resume")).headers["location"] == page


async def test_a_key_of_another_organization_is_none(
    signed_in: Visitor, person: Person, admin_db: Database, admin_url: str
) -> None:
    await add(signed_in, person)
    (credential,) = await select_credentials(admin_db, person.organization.org_id)
    eve = await make_person(admin_db, "eve@example.com")
    async with Visitor(admin_url) as other:
        await other.sign_in(eve.email, PASSWORD)
        form = {csrf.FIELD: await other.token("/account"), "secret": NEWER}
        for action in ("rotate", "revoke"):
            path = at(eve, f"/{credential.credential_id}/{action}")
            assert (await other.post(path, form)).status_code == 404
    assert (await select_credentials(admin_db, person.organization.org_id))[0].revoked_at is None
