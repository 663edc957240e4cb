"""New keys: shown once, made once, and what they may."""

from __future__ import annotations

import re
from datetime import timedelta

import httpx
import pytest

from admin import csrf, throttle
from storage.api_keys import mint_key, revoke_key, select_keys
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.key_format import parse
from storage.model import Mode, Plan
from storage.organizations import set_plan
from storage.plan_terms import Allowance, limit_of
from storage.throttles import Rule
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import ACTOR, Person

FORM = {"name": "Web", "mode": "live", "expiry": "", "models": ""}


def once_of(page: str) -> str:
    found = re.search(r'name="once" value="([^"]+)"', page)
    assert found is not None
    return found[1]


async def mint(visitor: Visitor, person: Person, **form: str) -> httpx.Response:
    page = f"/organizations/{person.organization.org_id}/keys/new"
    shown = (await visitor.get(page)).text
    given = {**FORM, **form, csrf.FIELD: token_of(shown), "once": once_of(shown)}
    return await visitor.post(page, given)


def token_in(page: str) -> str:
    found = re.search(r"kt_(?:live|test)_\w{12}_\w{34}", page)
    assert found is not None
    return found[0]


async def test_a_key_is_shown_once_and_nowhere_else(
    signed_in: Visitor, person: Person, admin_db: Database, owner_db: Database
) -> None:
    org_id = person.organization.org_id
    made = await mint(signed_in, person, expiry="30", models="claude-sonnet-5-5\ngpt-6-sol,x")
    assert made.status_code == 200
    assert "no-store" in made.headers["cache-control"]
    token = token_in(made.text)
    assert parse(token.encode()) is not None
    assert made.text.count(token) == 3  # by itself, and in two snippets
    (key,) = await select_keys(admin_db, org_id)
    assert key.name == "Web"
    assert key.allowed_models == ("claude-sonnet-5-5", "gpt-6-sol", "x")
    assert key.expires_at is not None
    assert key.expires_at - key.created_at > timedelta(days=29)
    secret = token.rpartition("_")[2]
    assert secret not in (await signed_in.get(f"/organizations/{org_id}")).text
    for table in ("audit_log", "sessions", "throttles", "outbox"):
        kept = await owner_db.fetch(f"SELECT t::text AS row FROM {table} t")
        assert secret not in "".join(row["row"] for row in kept)


async def test_a_form_sent_twice_mints_once(signed_in: Visitor, person: Person, admin_db: Database) -> None:
    page = f"/organizations/{person.organization.org_id}/keys/new"
    shown = (await signed_in.get(page)).text
    form = {**FORM, csrf.FIELD: token_of(shown), "once": once_of(shown)}
    assert (await signed_in.post(page, form)).status_code == 200
    again = await signed_in.post(page, form)
    assert again.status_code == 303
    assert "was sent already" in (await signed_in.get(again.headers["location"])).text
    assert len(await select_keys(admin_db, person.organization.org_id)) == 1


async def test_a_form_that_the_plan_refused_mints_once_there_is_room(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    org_id = person.organization.org_id
    await set_plan(admin_db, ACTOR, org_id, Plan.FREE)
    most = limit_of(Plan.FREE, Allowance.KEYS)
    assert most is not None
    for _ in range(most):
        old, _token = await mint_key(admin_db, ACTOR, org_id=org_id, name="Old", mode=Mode.LIVE)
    page = f"/organizations/{org_id}/keys/new"
    shown = (await signed_in.get(page)).text
    form = {**FORM, csrf.FIELD: token_of(shown), "once": once_of(shown)}
    for _ in range(2):
        refused = await signed_in.post(page, form)
        assert refused.status_code == 403
        assert "no room" in refused.text
    await revoke_key(admin_db, ACTOR, old.key_id)
    made = await signed_in.post(page, form)
    assert token_in(made.text).startswith("kt_live_")
    assert (await signed_in.post(page, form)).status_code == 303


async def test_a_test_key_is_one(signed_in: Visitor, person: Person) -> None:
    assert "kt_test_" in token_in((await mint(signed_in, person, mode="test")).text)


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"name": ""}, 422),
        ({"name": "x" * 201}, 422),
        ({"models": "x" * 201}, 422),
        ({"models": "\n".join(str(number) for number in range(201))}, 422),
        ({"mode": "free"}, 400),
        ({"expiry": "3000"}, 400),
        ({"once": ""}, 400),
    ],
)
async def test_what_makes_no_key(
    signed_in: Visitor, person: Person, admin_db: Database, form: dict[str, str], status: int
) -> None:
    page = f"/organizations/{person.organization.org_id}/keys/new"
    shown = (await signed_in.get(page)).text
    given = {**FORM, csrf.FIELD: token_of(shown), "once": once_of(shown)} | form
    assert (await signed_in.post(page, given)).status_code == status
    assert await select_keys(admin_db, person.organization.org_id) == []


async def test_minting_is_throttled(
    signed_in: Visitor, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "MINT_ACCOUNT", Rule("mint:account", 1, 3600))
    assert (await mint(signed_in, person)).status_code == 200
    assert (await mint(signed_in, person)).status_code == 429


async def test_a_key_is_rotated_with_an_overlap(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    org_id = person.organization.org_id
    old, _ = await mint_key(admin_db, ACTOR, org_id=org_id, name="Web", mode=Mode.LIVE)
    page = f"/organizations/{org_id}/keys/{old.key_id}/rotate"
    shown = (await signed_in.get(page)).text
    form = {csrf.FIELD: token_of(shown), "once": once_of(shown), "overlap": "3600"}
    assert (await signed_in.post(page, {**form, "overlap": "1"})).status_code == 400
    made = await signed_in.post(page, form)
    assert token_in(made.text).startswith("kt_live_")
    assert (await signed_in.post(page, form)).status_code == 303
    first, second = await select_keys(admin_db, org_id)
    assert (first.name, second.name) == ("Web", "Web")
    assert first.expires_at is not None
    assert first.revoked_at is None
    assert (await select_audit_rows(admin_db, org_id))[-1].event == "api_key:rotated"
