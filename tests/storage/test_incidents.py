"""Incidents and maintenance from first to last."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import CheckFailed, Conflict, Denied, NotFound
from storage.incidents import (
    Stage,
    cancel_maintenance,
    find_automatic,
    open_incident,
    plan_maintenance,
    select_incident,
    select_incidents,
    select_open,
    update_incident,
)
from storage.model import Actor

NOW = datetime.now(UTC)


async def test_an_incident_from_first_to_last(admin_db: Database, actor: Actor) -> None:
    found = await open_incident(admin_db, actor, "Slow", ["gateway", "usage"], "We look.")
    await update_incident(admin_db, actor, found, Stage.IDENTIFIED, "A disk.")
    [one] = await select_open(admin_db)
    assert (one.title, one.components, one.automatic, one.ends_at) == (
        "Slow",
        ("gateway", "usage"),
        False,
        None,
    )
    assert [(told.stage, told.message) for told in one.updates] == [
        (Stage.IDENTIFIED, "A disk."),
        (Stage.INVESTIGATING, "We look."),
    ]
    await update_incident(admin_db, actor, found, Stage.RESOLVED, "Mended.")
    assert await select_open(admin_db) == []
    assert (await select_incident(admin_db, found)).ends_at is not None
    with pytest.raises(Conflict):
        await update_incident(admin_db, actor, found, Stage.MONITORING, "Again?")
    with pytest.raises(NotFound):
        await update_incident(admin_db, actor, uuid4(), Stage.MONITORING, "x")
    rows = await select_audit_rows(admin_db, None)
    assert [row.event for row in rows] == ["incident:opened", "incident:updated", "incident:resolved"]


async def test_a_component_has_one_automatic_incident(admin_db: Database, actor: Actor) -> None:
    found = await open_incident(admin_db, actor, "Down", ["gateway"], "x", automatic=True)
    assert await find_automatic(admin_db, "gateway") == found
    with pytest.raises(Conflict):
        await open_incident(admin_db, actor, "Down", ["gateway"], "x", automatic=True)
    await open_incident(admin_db, actor, "Down", ["gateway"], "by hand")
    await update_incident(admin_db, actor, found, Stage.RESOLVED, "x")
    assert await find_automatic(admin_db, "gateway") is None


async def test_maintenance_is_planned_and_cancelled(admin_db: Database, actor: Actor) -> None:
    hour = timedelta(hours=1)
    found = await plan_maintenance(admin_db, actor, "Disks", ["database"], "x", NOW + hour, NOW + 2 * hour)
    assert [one.incident_id for one in await select_open(admin_db)] == [found]
    await cancel_maintenance(admin_db, actor, found, "Not needed.")
    assert await select_open(admin_db) == []
    [one] = await select_incidents(admin_db)
    assert (one.cancelled, one.updates[0].stage) == (True, Stage.CANCELLED)
    with pytest.raises(NotFound):
        await cancel_maintenance(admin_db, actor, found, "x")
    with pytest.raises(CheckFailed):
        await plan_maintenance(admin_db, actor, "Disks", [], "x", NOW, NOW)


async def test_what_was_told_is_not_changed(admin_db: Database, actor: Actor) -> None:
    await open_incident(admin_db, actor, "Slow", [], "x")
    for sql in (
        "UPDATE incident_updates SET message = 'y'",
        "DELETE FROM incident_updates",
        "UPDATE incidents SET title = 'y'",
        "DELETE FROM incidents",
    ):
        with pytest.raises(Denied):
            await admin_db.execute(sql)


async def test_subscribers_are_told_of_each_word(
    admin_db: Database, owner_db: Database, actor: Actor
) -> None:
    await owner_db.execute(
        "INSERT INTO subscriptions (topic, email, confirmed_at)"
        " VALUES ('incidents', 'a@example.com', now()), ('sub_processors', 'b@example.com', now())"
    )
    await owner_db.execute(
        "INSERT INTO subscriptions (topic, email, token_digest) VALUES ('incidents', 'c@example.com', $1)",
        bytes(32),
    )
    found = await open_incident(admin_db, actor, "Slow", ["gateway"], "We look.")
    await update_incident(admin_db, actor, found, Stage.RESOLVED, "Done.")
    later = NOW + timedelta(days=1)
    planned = await plan_maintenance(
        admin_db, actor, "Disk", ["gateway"], "Then.", later, later + timedelta(1)
    )
    await cancel_maintenance(admin_db, actor, planned, "Not then.")
    rows = await owner_db.fetch(
        "SELECT kind, recipient, facts->>'stage' AS stage, facts->>'title' AS title,"
        " facts->>'message' AS message, facts ? 'subscription_id' AS ends FROM outbox ORDER BY created_at"
    )
    assert [(row["stage"], row["title"], row["message"]) for row in rows] == [
        ("investigating", "Slow", "We look."),
        ("resolved", "Slow", "Done."),
        ("planned", "Disk", "Then."),
        ("cancelled", "Disk", "Not then."),
    ]
    assert {(row["kind"], row["recipient"], row["ends"]) for row in rows} == {
        ("incident", "a@example.com", True)
    }
