"""Incidents and maintenance, told by the staff and shown to everybody."""

from __future__ import annotations

import re

import pytest
from werkzeug.datastructures import MultiDict

from admin import csrf
from storage.bridge import Database
from storage.health import Sample, State, insert_samples, this_minute
from storage.incidents import select_incidents
from tests.admin.browsing import Visitor
from tests.admin.conftest import make_stale
from tests.admin.staff.test_views import operator
from tests.admin.trust.test_views import check_html

__all__ = ["operator"]

PAGE = "/staff/incidents"


async def test_an_incident_is_told_from_first_to_last(operator: Visitor, admin_db: Database) -> None:
    await insert_samples(admin_db, this_minute(), [Sample("gateway", State.UP)])
    given = {"title": "Slow <b>", "message": "We look.", "components": "gateway"}
    answer = await operator.submit(PAGE, given)
    assert answer.headers["location"] == f"{PAGE}?done=opened"
    [incident] = await select_incidents(admin_db)
    assert incident.components == ("gateway",)
    assert "Slow &lt;b&gt;" in (await operator.get("/status")).text
    page = (await operator.get(PAGE)).text
    check_html(page)
    told = {"stage": "resolved", "message": "Mended."}
    await operator.submit(PAGE, told, f"{PAGE}/{incident.incident_id}")
    assert (await select_incidents(admin_db))[0].ends_at is not None
    # A second time there is nothing to resolve.
    answer = await operator.submit(PAGE, told, f"{PAGE}/{incident.incident_id}")
    assert answer.headers["location"] == PAGE


async def test_maintenance_is_announced_and_cancelled(operator: Visitor, admin_db: Database) -> None:
    given = {"planned_title": "Disks", "planned_message": "New ones."}
    times = {"starts_at": "2126-01-01T10:00", "ends_at": "2126-01-01T12:00"}
    await operator.submit(PAGE, given | times, "/staff/maintenance")
    [one] = await select_incidents(admin_db)
    assert "Disks" in (await operator.get("/status")).text
    check_html((await operator.get(PAGE)).text)
    await operator.submit(PAGE, {}, f"/staff/maintenance/{one.incident_id}/cancel")
    assert (await select_incidents(admin_db))[0].cancelled
    swapped = {"starts_at": times["ends_at"], "ends_at": times["starts_at"]}
    for wrong in (swapped, {"starts_at": "soon", "ends_at": ""}):
        assert (await operator.submit(PAGE, given | wrong, "/staff/maintenance")).status_code == 422


@pytest.mark.parametrize("wrong", [{"title": ""}, {"title": "x" * 201}, {"message": ""}])
async def test_what_cannot_be_told(operator: Visitor, admin_db: Database, wrong: dict[str, str]) -> None:
    answer = await operator.submit(PAGE, {"title": "Slow", "message": "We look."} | wrong)
    assert answer.status_code == 422
    assert await select_incidents(admin_db) == []


async def test_to_tell_wants_proof(operator: Visitor, admin_db: Database) -> None:
    await make_stale(admin_db)
    answer = await operator.submit(PAGE, {"title": "Slow", "message": "We look."})
    assert answer.headers["location"] == "/prove"
    assert await select_incidents(admin_db) == []


async def test_proof_in_between_loses_no_component(operator: Visitor, admin_db: Database) -> None:
    given = {"title": "Slow", "message": "We look.", "components": ["gateway", "webhooks"]}
    token = await operator.token(PAGE)
    await make_stale(admin_db)
    asked = await operator.request("POST", PAGE, data={csrf.FIELD: token, **given})
    assert asked.headers["location"] == "/prove"
    await admin_db.execute("UPDATE sessions SET stepped_up_at = now()")
    page = (await operator.get("/prove/resume")).text
    fields = MultiDict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
    await operator.request("POST", PAGE, data=fields.to_dict(flat=False))
    [incident] = await select_incidents(admin_db)
    assert incident.components == ("gateway", "webhooks")
