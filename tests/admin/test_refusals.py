"""Who is refused is in the log: who it was, of what, from where; and a flood does not fill it."""

from __future__ import annotations

import logging
from uuid import uuid4

import pytest

from admin import refusals
from storage.bridge import Database
from tests.admin.browsing import Visitor
from tests.admin.conftest import Person


@pytest.fixture(autouse=True)
def _a_new_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(refusals._Minute, "number", -1)
    monkeypatch.setattr(refusals._Minute, "refused", 0)
    caplog.set_level(logging.WARNING, "karta.admin")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.getMessage().startswith("refused")]


async def test_a_member_whose_role_does_not_allow_it(
    signed_in: Visitor, person: Person, admin_db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    org_id = person.organization.org_id
    assert (await signed_in.get(f"/organizations/{org_id}/settings")).status_code == 200
    assert told(caplog) == []
    await admin_db.execute("UPDATE memberships SET role = 'viewer'")
    assert (await signed_in.get(f"/organizations/{org_id}/settings?x=secret")).status_code == 403
    who = f"user {person.user.user_id}"
    assert told(caplog) == [f"refused: 403 for organizations.show_settings by {who} from 127.0.0.1"]


async def test_forged_forms_and_calls_without_a_key(
    visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await visitor.post("/sign-in", {"csrf_token": "x"})).status_code == 403
    assert (await visitor.get(f"/api/v1/organizations/{uuid4()}")).status_code == 401
    assert [one.partition(" from ")[0] for one in told(caplog)] == [
        "refused: 403 for accounts.sign_in by nobody known",
        "refused: 401 for api.get_organization by nobody known",
    ]


async def test_a_flood_is_cut_off_and_counted(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(refusals, "PER_MINUTE_MAX", 2)
    monkeypatch.setattr(refusals, "monotonic", lambda: 600.0)
    for _ in range(5):
        await visitor.post("/sign-in", {"csrf_token": "x"})
    assert len(told(caplog)) == 2
    monkeypatch.setattr(refusals, "monotonic", lambda: 660.0)
    await visitor.post("/sign-in", {"csrf_token": "x"})
    assert told(caplog)[2] == "refused: 3 more in a minute"
    assert len(told(caplog)) == 4
