"""The organization's page: what it shows, to whom, and what never."""

from __future__ import annotations

from uuid import uuid4

from storage.api_keys import mint_key, revoke_key, select_keys
from storage.bridge import Database
from storage.model import Mode, Role
from storage.organizations import create_organization
from storage.users import add_member
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import ACTOR, Person, make_person, running_admin


def path(person: Person) -> str:
    return f"/organizations/{person.organization.org_id}"


async def test_it_shows_the_organization_its_plan_and_its_keys(
    visitor: Visitor, person: Person, admin_db: Database
) -> None:
    org_id = person.organization.org_id
    live, token = await mint_key(admin_db, ACTOR, org_id=org_id, name="Production", mode=Mode.LIVE)
    test, _ = await mint_key(admin_db, ACTOR, org_id=org_id, name="CI", mode=Mode.TEST)
    await revoke_key(admin_db, ACTOR, test.key_id)
    await visitor.sign_in(person.email, person.password)
    assert (await visitor.get("/")).headers["location"] == path(person)
    page = (await visitor.get(path(person))).text
    for shown in ("Acme", "Pro plan", "Owner", "Production", "CI", "Never", "Active", "Revoked"):
        assert shown in page
    assert f"kt_live_{live.key_id}…{token[-4:]}" in page
    assert token not in page
    assert token.rpartition("_")[2] not in page


async def test_without_keys_it_leads_to_the_first(visitor: Visitor, person: Person) -> None:
    await visitor.sign_in(person.email, person.password)
    page = (await visitor.get(path(person))).text
    assert "No keys yet" in page
    assert f'href="{path(person)}/keys/new"' in page
    assert "Send a first request" in page


async def test_the_snippets_name_the_gateway(database_url: str, person: Person) -> None:
    async with (
        running_admin(database_url, public_url="https://gateway.example.com/") as url,
        Visitor(url) as visitor,
    ):
        await visitor.sign_in(person.email, person.password)
        page = (await visitor.get(path(person))).text
    assert 'base_url="https://gateway.example.com"' in page
    assert 'base_url="https://gateway.example.com/v1"' in page


async def test_a_key_that_was_used_ends_the_hint(
    visitor: Visitor, person: Person, admin_db: Database, owner_db: Database
) -> None:
    await mint_key(admin_db, ACTOR, org_id=person.organization.org_id, name="Used", mode=Mode.LIVE)
    await owner_db.execute("UPDATE api_keys SET last_used_at = now()")
    await visitor.sign_in(person.email, person.password)
    page = (await visitor.get(path(person))).text
    assert "Send a first request" not in page
    assert "Never" not in page


async def test_another_organization_is_as_one_that_is_not_there(
    visitor: Visitor, person: Person, admin_db: Database
) -> None:
    other = await make_person(admin_db, "eve@example.com", name="Evil")
    await visitor.sign_in(person.email, person.password)
    theirs = await visitor.get(path(other))
    nobodys = await visitor.get(f"/organizations/{uuid4()}")
    assert (theirs.status_code, nobodys.status_code) == (404, 404)
    assert strip_nonce(theirs.text) == strip_nonce(nobodys.text)
    assert "Evil" not in theirs.text


async def test_several_organizations_are_one_click_apart(
    visitor: Visitor, person: Person, admin_db: Database
) -> None:
    second = await create_organization(admin_db, ACTOR, name="Second <b>", plan=person.organization.plan)
    await add_member(admin_db, ACTOR, second.org_id, person.user.user_id, Role.VIEWER)
    await visitor.sign_in(person.email, person.password)
    page = (await visitor.get(f"/organizations/{second.org_id}")).text
    assert f'href="{path(person)}"' in page
    assert "Second &lt;b&gt;" in page
    assert "Viewer" in page


async def test_a_member_of_none_is_told(visitor: Visitor, person: Person, owner_db: Database) -> None:
    await owner_db.execute("DELETE FROM memberships")
    await visitor.sign_in(person.email, person.password)
    assert "No organization yet" in (await visitor.get("/")).text


async def test_nobody_sees_it_signed_out(visitor: Visitor, person: Person) -> None:
    response = await visitor.get(path(person))
    assert response.status_code == 303
    assert response.headers["location"].startswith("/sign-in?next=/organizations/")


async def test_a_key_has_a_page_and_an_end(signed_in: Visitor, person: Person, admin_db: Database) -> None:
    org_id = person.organization.org_id
    key, token = await mint_key(
        admin_db, ACTOR, org_id=org_id, name="Web", mode=Mode.LIVE, allowed_models=["claude-sonnet-5-5"]
    )
    page = (await signed_in.get(f"{path(person)}/keys/{key.key_id}")).text
    for shown in ("Web", "claude-sonnet-5-5", "Rotate", "Revoke"):
        assert shown in page
    assert token not in page
    form = {"csrf_token": token_of(page)}
    revoked = await signed_in.post(f"{path(person)}/keys/{key.key_id}/revoke", form)
    assert "The key was revoked" in (await signed_in.get(revoked.headers["location"])).text
    assert (await select_keys(admin_db, org_id))[0].revoked_at is not None
    assert "/rotate" not in (await signed_in.get(f"{path(person)}/keys/{key.key_id}")).text


async def test_a_key_of_another_organization_is_none(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    eve = await make_person(admin_db, "eve@example.com")
    theirs, _ = await mint_key(admin_db, ACTOR, org_id=eve.organization.org_id, name="Theirs", mode=Mode.LIVE)
    form = {"csrf_token": await signed_in.token("/account")}
    for page in ("", "/rotate", "/limits"):
        assert (await signed_in.get(f"{path(person)}/keys/{theirs.key_id}{page}")).status_code == 404
    for page in ("/revoke", "/rotate", "/limits"):
        response = await signed_in.post(f"{path(person)}/keys/{theirs.key_id}{page}", form)
        assert response.status_code == 404
    assert (await select_keys(admin_db, eve.organization.org_id))[0].revoked_at is None


def strip_nonce(page: str) -> str:
    return "\n".join(line for line in page.splitlines() if "nonce=" not in line and "csrf" not in line)
