"""Only whoever confirms is told, once for each change, and until they end it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from admin.services import Services
from admin.settings import AdminSettings
from admin.trust.sub_processors import SubProcessorsFile
from admin.trust.subscribe import tell_changes
from storage.bridge import Database
from storage.incidents import open_incident
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, MASTER_KEYS
from tests.admin.mailbox import letters, mails
from tests.admin.trust.test_sub_processors import GOOD


async def link_of(db: Database) -> str:
    found = re.search(r"http://localhost:\d+(/subprocessors/\S+/\S+)\s", (await mails(db))[-1].text)
    assert found is not None
    return found[1]


def services_with(db: Database, path: Path) -> Services:
    settings = AdminSettings.load(database_url="postgresql://x/y", sub_processors_file=path)
    nobody: Any = None
    kept = SubProcessorsFile(path)
    return Services(db, settings, nobody, "http://localhost:1", MASTER_KEYS, sub_processors=kept)


async def test_from_asking_to_ending(visitor: Visitor, admin_db: Database, tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text(GOOD)
    found = services_with(admin_db, path)
    assert await tell_changes(found, ACTOR) == 0, "the first list is where subscribers begin"
    answer = await visitor.submit("/subprocessors/subscribe", {"email": "Ada@example.com"})
    assert answer.headers["location"] == "/subprocessors/subscribe/sent"
    assert "Look at your mail" in (await visitor.get("/subprocessors/subscribe/sent")).text
    link = await link_of(admin_db)
    path.write_text(GOOD.replace("Second.", "Another."))
    assert await tell_changes(found, ACTOR) == 0, "nobody has confirmed"
    assert "Confirm" in (await visitor.get(link)).text
    assert "You will be told" in (await visitor.submit(link, {})).text
    assert (await visitor.submit(link, {}, link)).status_code == 410
    path.write_text(GOOD.replace("Second.", "A third."))
    assert await tell_changes(found, ACTOR) == 1
    assert await tell_changes(found, ACTOR) == 0
    told = (await mails(admin_db))[-1]
    assert (told.recipient, "A third." in told.text) == ("ada@example.com", True)
    path.write_text(GOOD.replace("Second.", "R&D."))
    assert await tell_changes(found, ACTOR) == 0, "a slip is no change"
    end = await link_of(admin_db)
    assert "You will not be told" in (await visitor.submit(end, {})).text
    path.write_text(GOOD.replace("Second.", "A fourth."))
    assert await tell_changes(found, ACTOR) == 0


async def test_nobodys_mailbox_is_filled_by_others(visitor: Visitor, admin_db: Database) -> None:
    assert (await visitor.submit("/subprocessors/subscribe", {"email": "no"})).status_code == 422
    for _ in range(3):
        answer = await visitor.submit("/subprocessors/subscribe", {"email": "ada@example.com"})
        assert answer.status_code == 303
    answer = await visitor.submit("/subprocessors/subscribe", {"email": "ada@example.com"})
    assert answer.status_code == 429
    assert len(await letters(admin_db)) == 3


@pytest.mark.parametrize("path", ["/subprocessors/confirm/" + "x" * 5000, "/subprocessors/confirm/x"])
async def test_a_link_that_never_was(visitor: Visitor, path: str) -> None:
    assert (await visitor.submit(path, {})).status_code == 410


async def test_incidents_are_told_to_whoever_subscribed(visitor: Visitor, admin_db: Database) -> None:
    assert "/status/subscribe" in (await visitor.get("/status")).text
    answer = await visitor.submit("/status/subscribe", {"email": "ada@example.com"})
    assert answer.headers["location"] == "/status/subscribe/sent"
    found = re.search(r"http://localhost:\d+(/status/confirm/\S+)", (await mails(admin_db))[-1].text)
    assert found is not None
    assert "incident or maintenance" in (await visitor.submit(found[1], {})).text
    await open_incident(admin_db, ACTOR, "Slow", ["gateway"], "We look.")
    told = (await mails(admin_db))[-1]
    assert (told.recipient, told.subject) == ("ada@example.com", "Incident: Slow")
    end = re.search(r"http://localhost:\d+(/status/subscription/\S+/end)", told.text)
    assert end is not None
    assert "You will not be told" in (await visitor.submit(end[1], {})).text
    await open_incident(admin_db, ACTOR, "Slow again", ["gateway"], "We look.")
    assert len(await mails(admin_db)) == 2
