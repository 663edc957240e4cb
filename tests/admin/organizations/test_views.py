"""Making an organization, its settings, its end; who may is tested with the table (test_authorization)."""

from __future__ import annotations

import pytest

from admin import csrf, throttle
from storage.bridge import Database
from storage.organizations import select_organization, select_organizations_by_user
from storage.throttles import Rule
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import Person
from tests.admin.mfa.codes import set_up_app


def at(person: Person, page: str) -> str:
    return f"/organizations/{person.organization.org_id}/{page}"


async def test_another_organization_is_made_and_switched_to(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    for name in ("", " ", "x" * 201, "a\u202eb"):
        assert (await signed_in.submit("/organizations/new", {"name": name})).status_code == 422
    made = await signed_in.submit("/organizations/new", {"name": " Second & Sons "})
    page = (await signed_in.get(made.headers["location"])).text
    assert "Second &amp; Sons" in page
    assert f'href="/organizations/{person.organization.org_id}"' in page
    names = [one.name for one, _ in await select_organizations_by_user(admin_db, person.user.user_id)]
    assert names == ["Acme", "Second & Sons"]


async def test_nobody_makes_many(signed_in: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "NEW_ORGANIZATION_ACCOUNT", Rule("new_organization:account", 1, 3600))
    assert (await signed_in.submit("/organizations/new", {"name": "One"})).status_code == 303
    assert (await signed_in.submit("/organizations/new", {"name": "Two"})).status_code == 429


async def test_a_name_is_changed(signed_in: Visitor, person: Person) -> None:
    settings = at(person, "settings")
    assert (await signed_in.submit(settings, {"name": ""}, at(person, "name"))).status_code == 422
    done = await signed_in.submit(settings, {"name": "Renamed"}, at(person, "name"))
    assert "The name was changed" in (await signed_in.get(done.headers["location"])).text
    assert "Renamed" in (await signed_in.get(settings)).text


async def test_who_requires_a_second_factor_has_one(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    settings, mfa = at(person, "settings"), at(person, "mfa")
    refused = await signed_in.submit(settings, {"required": "yes"}, mfa)
    assert refused.status_code == 422
    await set_up_app(signed_in, admin_db)
    assert (await signed_in.submit(settings, {"required": "yes"}, mfa)).status_code == 303
    assert (await select_organization(admin_db, person.organization.org_id)).mfa_required
    assert (await signed_in.submit(settings, {"required": "no"}, mfa)).status_code == 303
    assert not (await select_organization(admin_db, person.organization.org_id)).mfa_required


async def test_its_end_is_asked_for_and_taken_back(
    signed_in: Visitor, person: Person, admin_db: Database
) -> None:
    page = at(person, "delete")
    assert (await signed_in.submit(page, {"name": "Acne"})).status_code == 422
    asked = await signed_in.submit(page, {"name": "Acme"})
    shown = (await signed_in.get(asked.headers["location"])).text
    assert "This organization is suspended" in shown
    form = {csrf.FIELD: token_of(shown)}
    kept = await signed_in.post(at(person, "keep"), form)
    assert "is kept" in (await signed_in.get(kept.headers["location"])).text
    assert (await select_organization(admin_db, person.organization.org_id)).delete_after is None
    assert (await signed_in.post(at(person, "keep"), form)).headers["location"] == "/"
