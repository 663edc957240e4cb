"""Management keys on the pages: minted with fresh proof and shown once, bounded by the role, ended by whoever
may."""

from __future__ import annotations

import re

import httpx
import pytest

from admin import csrf, throttle
from admin.authorization import TABLE, Audience
from admin.management_keys import views
from admin.management_keys.views import WHAT_SCOPES_DO, offered_scopes
from storage import management_keys
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import DatabaseBusy
from storage.management_keys import Scope, select_management_keys
from storage.model import Role
from storage.throttles import Rule
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import Person, make_stale
from tests.admin.keys.test_minting import once_of
from tests.admin.management_api.client import Client, mint
from tests.admin.test_authorization import make_member

FORM = {"name": "Nightly", "lifetime": "30", "keys:read": "yes", "usage:read": "yes"}


def page_of(person: Person) -> str:
    return f"/organizations/{person.organization.org_id}/management-keys"


async def fill(visitor: Visitor, person: Person, **changes: str | None) -> httpx.Response:
    shown = (await visitor.get(f"{page_of(person)}/new")).text
    given = {**FORM, csrf.FIELD: token_of(shown), "once": once_of(shown), **changes}
    form = {name: value for name, value in given.items() if value is not None}
    return await visitor.post(f"{page_of(person)}/new", form)


def token_in(page: str) -> str:
    found = re.search(r"kt_mgmt_\w{12}_\w{34}", page)
    assert found is not None
    return found[0]


async def test_a_key_is_made_shown_once_and_works(
    signed_in: Visitor, person: Person, admin_db: Database, owner_db: Database
) -> None:
    assert "None yet" in (await signed_in.get(page_of(person))).text
    made = await fill(signed_in, person)
    assert made.status_code == 200
    token = token_in(made.text)
    assert made.text.count(token) == 1
    async with Client(signed_in.url, token, person.organization.org_id) as api:
        assert (await api.call("GET", f"{api.org}/api-keys")).status_code == 200
        assert (await api.call("GET", api.org)).status_code == 403
    [key] = await select_management_keys(admin_db, person.organization.org_id)
    assert (key.name, key.scopes) == ("Nightly", {Scope.KEYS_READ, Scope.USAGE_READ})
    listed = (await signed_in.get(page_of(person))).text
    assert key.key_id in listed
    assert person.email in listed
    secret = token.rpartition("_")[2]
    assert secret not in listed
    for table in ("audit_log", "sessions", "throttles", "outbox", "management_keys"):
        kept = await owner_db.fetch(f"SELECT t::text AS row FROM {table} t")
        assert secret not in "".join(row["row"] for row in kept)


async def test_a_form_sent_twice_mints_once(signed_in: Visitor, person: Person, admin_db: Database) -> None:
    shown = (await signed_in.get(f"{page_of(person)}/new")).text
    form = {**FORM, csrf.FIELD: token_of(shown), "once": once_of(shown)}
    statuses = [(await signed_in.post(f"{page_of(person)}/new", form)).status_code for _ in range(2)]
    assert statuses == [200, 303]
    assert len(await select_management_keys(admin_db, person.organization.org_id)) == 1


async def test_what_makes_no_key(
    signed_in: Visitor, person: Person, admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = dict.fromkeys((scope.value for scope in Scope), None)
    for changes, status in (
        ({"name": ""}, 422),
        ({"name": "x" * 201}, 422),
        (nothing, 422),
        ({"lifetime": "3650"}, 400),
        ({"once": "x"}, 400),
    ):
        assert (await fill(signed_in, person, **changes)).status_code == status, changes
    monkeypatch.setattr(management_keys, "LIVE_KEYS_MAX", 0)
    full = await fill(signed_in, person)
    assert full.status_code == 422
    assert "revoke some first" in full.text
    monkeypatch.setattr(throttle, "MANAGEMENT_MINT_ACCOUNT", Rule("management_mint:few", 1, 3600))
    assert [(await fill(signed_in, person)).status_code for _ in range(2)] == [422, 429]
    assert await select_management_keys(admin_db, person.organization.org_id) == []


async def test_a_form_that_found_the_database_busy_mints_afterwards(
    signed_in: Visitor, person: Person, admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = (await signed_in.get(f"{page_of(person)}/new")).text
    form = {**FORM, csrf.FIELD: token_of(shown), "once": once_of(shown)}

    async def fail(*_: object, **__: object) -> None:
        raise DatabaseBusy("busy")

    with monkeypatch.context() as patch:
        patch.setattr(views, "mint_management_key", fail)
        assert (await signed_in.post(f"{page_of(person)}/new", form)).status_code == 503
    made = await signed_in.post(f"{page_of(person)}/new", form)
    assert token_in(made.text)


async def test_proof_in_between_loses_no_scope(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    shown = (await signed_in.get(f"{page_of(person)}/new")).text
    form = {**FORM, csrf.FIELD: token_of(shown), "once": once_of(shown)}
    await make_stale(admin_db)
    asked = await signed_in.post(f"{page_of(person)}/new", form)
    assert asked.headers["location"] == "/prove"
    proved = await signed_in.submit("/prove", {"password": person.password}, "/prove/password")
    page = (await signed_in.get(proved.headers["location"])).text
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
    made = await signed_in.post(f"{page_of(person)}/new", fields)
    assert made.status_code == 200
    [key] = await select_management_keys(admin_db, person.organization.org_id)
    assert key.scopes == {Scope.KEYS_READ, Scope.USAGE_READ}


async def test_who_may_end_whose(signed_in: Visitor, person: Person, admin_db: Database) -> None:
    org_id = person.organization.org_id
    theirs, token = await mint(admin_db, person)
    mail = await make_member(admin_db, person, Role.DEVELOPER)
    async with Visitor(signed_in.url) as developer:
        await developer.sign_in(mail, person.password)
        page = (await developer.get(page_of(person))).text
        assert theirs.key_id in page
        assert "/revoke" not in page
        form = {csrf.FIELD: token_of((await developer.get(f"{page_of(person)}/new")).text)}
        path = f"{page_of(person)}/{theirs.key_id}/revoke"
        assert (await developer.post(path, form)).status_code == 403
        assert (await developer.post(f"{page_of(person)}/nosuchkey000/revoke", form)).status_code == 404
        await fill(developer, person)
        await fill(developer, person)
        own = [
            key
            for key in await select_management_keys(admin_db, org_id)
            if key.user_id != person.user.user_id
        ]
        ended = await developer.post(f"{page_of(person)}/{own[0].key_id}/revoke", form)
        assert ended.status_code == 303
    # An owner ends anybody's, without fresh proof: it may have to be quick.
    await make_stale(admin_db)
    for key_id in (own[1].key_id, theirs.key_id):
        done = await signed_in.submit(page_of(person), {}, f"{page_of(person)}/{key_id}/revoke")
        assert "was revoked" in (await signed_in.get(done.headers["location"])).text
    assert all(key.revoked_at for key in await select_management_keys(admin_db, org_id))
    events = [row.event for row in await select_audit_rows(admin_db, org_id)]
    assert events.count("management_key:revoked") == 3
    async with Client(signed_in.url, token, org_id) as api:
        assert (await api.call("GET", api.org)).status_code == 401


def test_each_role_is_offered_what_it_can_use() -> None:
    assert offered_scopes(Role.OWNER) == list(Scope)
    reads = {scope for scope in Scope if scope.value.endswith(":read")}
    writes = {Scope.KEYS_WRITE, Scope.LIMITS_WRITE, Scope.WEBHOOKS_WRITE}
    assert set(offered_scopes(Role.DEVELOPER)) == reads | writes
    assert set(offered_scopes(Role.BILLING)) == reads - {Scope.WEBHOOKS_READ} | {Scope.LIMITS_WRITE}
    assert set(WHAT_SCOPES_DO) == set(Scope)
    used = {access.scope for access in TABLE.values() if access.audience is Audience.KEY}
    assert used == {None, *Scope}
