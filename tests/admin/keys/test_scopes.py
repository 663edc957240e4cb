"""The page on which a key's scope is changed."""

from __future__ import annotations

import pytest

from storage.api_keys import mint_key, revoke_key, select_key
from storage.bridge import Database
from storage.model import KeyScope, Mode
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, Person


@pytest.fixture
async def key_page(person: Person, admin_db: Database) -> str:
    org_id = person.organization.org_id
    key, _ = await mint_key(admin_db, ACTOR, org_id=org_id, name="Web", mode=Mode.LIVE)
    return f"/organizations/{org_id}/keys/{key.key_id}"


async def kept(db: Database, person: Person, page: str) -> KeyScope:
    return (await select_key(db, person.organization.org_id, page.rpartition("/")[2])).scope


async def test_a_scope_is_set_shown_and_taken_away(
    signed_in: Visitor, person: Person, admin_db: Database, key_page: str
) -> None:
    form = {"models": "m", "endpoints": "chat", "networks": "192.0.2.0/24"}
    done = await signed_in.submit(f"{key_page}/scope", form)
    assert done.status_code == 303
    page = (await signed_in.get(done.headers["location"])).text
    for shown in ("Gateways keep to it", "chat, completions", "192.0.2.0/24"):
        assert shown in page
    assert 'value="chat" checked' in (await signed_in.get(f"{key_page}/scope")).text
    await signed_in.submit(f"{key_page}/scope", {})
    assert await kept(admin_db, person, key_page) == KeyScope()


async def test_what_is_no_network_changes_nothing(
    signed_in: Visitor, person: Person, admin_db: Database, key_page: str
) -> None:
    form = {"models": "m", "endpoints": "chat", "networks": "192.0.2.1/24 <b>"}
    refused = await signed_in.submit(f"{key_page}/scope", form)
    assert refused.status_code == 422
    assert "192.0.2.1/24 &lt;b&gt;" in refused.text
    assert 'value="chat" checked' in refused.text
    assert await kept(admin_db, person, key_page) == KeyScope()


async def test_an_ended_key_leads_nowhere_but_is_no_error(
    signed_in: Visitor, person: Person, admin_db: Database, key_page: str
) -> None:
    await revoke_key(admin_db, ACTOR, key_page.rpartition("/")[2])
    assert "/scope" not in (await signed_in.get(key_page)).text
    assert (await signed_in.get(key_page + "x/scope")).status_code == 404
