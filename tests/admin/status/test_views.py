"""The status page over what the health job keeps; without a database; and under its own name."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from storage.bridge import Database
from storage.health import Sample, State, insert_samples, this_minute
from storage.incidents import Stage, open_incident, update_incident
from tests.admin.browsing import Visitor
from tests.admin.conftest import ACTOR, running_admin
from tests.admin.trust.test_views import check_html
from tests.support.database_line import database_line

PATHS = ["/status", "/status/history", "/status.json", "/status.atom", "/status.svg"]


async def fill(db: Database) -> None:
    minute = this_minute()
    for number in range(3):
        samples = [Sample("gateway", State.UP, 12), Sample("database", State.DOWN, 3)]
        await insert_samples(db, minute - timedelta(minutes=number), samples)


async def test_nothing_is_ever_taken_for_good(visitor: Visitor) -> None:
    page = (await visitor.get("/status")).text
    assert "The state is unknown" in page
    assert "Nothing is known yet" in page
    assert (await visitor.get("/status.json")).json()["status"] == "unknown"
    check_html(page)


@pytest.mark.parametrize("path", PATHS)
async def test_each_form_may_be_kept_by_caches(visitor: Visitor, admin_db: Database, path: str) -> None:
    await fill(admin_db)
    answer = await visitor.get(path)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=30"
    assert "set-cookie" not in answer.headers
    assert "style=" not in answer.text


async def test_the_page_tells_states_days_and_incidents(visitor: Visitor, admin_db: Database) -> None:
    await fill(admin_db)
    found = await open_incident(admin_db, ACTOR, "The <i>database</i> is away", ["database"], "We look.")
    page = (await visitor.get("/status")).text
    check_html(page)
    assert "Something is down" in page
    assert page.count("<rect") == 2 * 90
    assert "The &lt;i&gt;database" in page
    assert "<script" not in page
    await update_incident(admin_db, ACTOR, found, Stage.RESOLVED, "It is back.")
    page = (await visitor.get(f"/status/incidents/{found}")).text
    check_html(page)
    assert page.index("It is back.") < page.index("We look.")
    assert "It is back." in (await visitor.get("/status")).text.partition("Past incidents")[2]
    assert (await visitor.get("/status/incidents/00000000-0000-0000-0000-000000000000")).status_code == 404


async def test_while_the_database_is_away_what_was_known_last_is_shown(
    database_url: str, admin_db: Database, tmp_path: Path
) -> None:
    await fill(admin_db)
    async with database_line(database_url) as line:
        async with running_admin(line.url, status_dir=tmp_path) as url, Visitor(url) as visitor:
            assert "does not answer" not in (await visitor.get("/status")).text
            line.cut()
            for path in ("/status", "/status.json", "/status.atom", "/status.svg"):
                assert (await visitor.get(path)).status_code == 200
            page = (await visitor.get("/status")).text
            assert "The database does not answer" in page
            assert "Gateway" in page
        # Another process, which has never seen the database.
        async with running_admin(line.url, status_dir=tmp_path) as url, Visitor(url) as visitor:
            assert "Gateway" in (await visitor.get("/status")).text
        async with running_admin(line.url) as url, Visitor(url) as visitor:
            assert "The state is unknown" in (await visitor.get("/status")).text
    check_copies(tmp_path)


def check_copies(folder: Path) -> None:
    names = ["index.html", "report.json", "status.atom", "status.svg"]
    assert sorted(path.name for path in folder.iterdir()) == names
    copy = (folder / "index.html").read_text()
    check_html(copy)
    assert '="/' not in copy
    assert json.loads((folder / "report.json").read_bytes())["components"]


async def test_under_its_own_name_there_is_nothing_else(database_url: str) -> None:
    settings = {"admin_url": "https://karta.example.com", "status_url": "https://status.example.com"}
    async with running_admin(database_url, **settings) as url, Visitor(url) as visitor:
        own = {"Host": "status.example.com"}
        first = await visitor.get("/", headers=own)
        assert (first.status_code, first.headers["location"]) == (302, "/status")
        assert (await visitor.get("/status", headers=own)).status_code == 200
        assert (await visitor.get("/static/karta.css", headers=own)).status_code == 200
        elsewhere = await visitor.get("/sign-in?x=1", headers=own)
        assert elsewhere.headers["location"] == "https://karta.example.com/sign-in?x=1"
        assert (await visitor.post("/sign-in", {}, headers=own)).status_code == 404
        assert (await visitor.get("/status", headers={"Host": "other.example.com"})).status_code == 421
        feed = (await visitor.get("/status.atom", headers=own)).text
    assert "https://status.example.com/status" in feed
