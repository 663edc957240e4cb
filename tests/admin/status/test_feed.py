"""The feed is Atom, the badge is SVG, and neither breaks by what was told."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from admin.status.feed import ATOM, write_atom, write_badge, write_json
from admin.status.report import Report, Shown
from storage.incidents import Incident, Kind, Stage, Update

NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
INCIDENT = Incident(
    incident_id=UUID(int=5),
    kind=Kind.INCIDENT,
    title="Slow <b>&\x00",
    components=("gateway",),
    automatic=False,
    starts_at=NOW,
    ends_at=None,
    cancelled=False,
    updates=[
        Update(NOW + timedelta(hours=1), Stage.IDENTIFIED, "]]> & <script>"),
        Update(NOW, Stage.INVESTIGATING, "We look."),
    ],
)
REPORT = Report(NOW, [], [INCIDENT], [])


def test_the_feed_is_atom() -> None:
    feed = ElementTree.fromstring(write_atom(REPORT, "https://status.example.com"))
    names = {"a": ATOM}
    assert feed.tag == f"{{{ATOM}}}feed"
    for required in ("a:id", "a:title", "a:updated", "a:author/a:name"):
        assert len(feed.findall(required, names)) == 1
    assert {link.get("rel") for link in feed.findall("a:link", names)} == {"self", "alternate"}
    [entry] = feed.findall("a:entry", names)
    for required in ("a:id", "a:title", "a:updated", "a:content"):
        assert len(entry.findall(required, names)) == 1
    assert entry.findtext("a:id", None, names) == "urn:uuid:00000000-0000-0000-0000-000000000005"
    assert entry.findtext("a:title", None, names) == "Slow <b>&"
    assert entry.findtext("a:updated", None, names) == "2026-04-01T13:00:00Z"
    assert "]]> & <script>" in str(entry.findtext("a:content", None, names))
    assert feed.findtext("a:updated", None, names) == "2026-04-01T13:00:00Z"


def test_a_feed_of_nothing() -> None:
    feed = ElementTree.fromstring(write_atom(Report(NOW, [], [], []), "https://x"))
    assert feed.findall(f"{{{ATOM}}}entry") == []


@pytest.mark.parametrize("shown", Shown)
def test_the_badge_says_what_is(shown: Shown) -> None:
    badge = ElementTree.fromstring(write_badge(shown))
    assert badge.get("aria-label") == f"Karta: {shown.value}"
    assert not re.search("style=|<script", write_badge(shown))


def test_json_says_what_is_open() -> None:
    told = write_json(REPORT, NOW)
    assert (told["status"], told["open"][0]["title"]) == ("unknown", INCIDENT.title)
