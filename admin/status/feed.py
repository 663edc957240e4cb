"""The status page for programs: an Atom feed of what was told, JSON, and a badge."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from datetime import datetime
from typing import Any

from admin.status.report import HEADLINES, Report, Shown, overall, state_of
from storage.incidents import Incident

ATOM = "http://www.w3.org/2005/Atom"
ENTRIES_MAX = 50
COLOURS = {
    Shown.UP: "#14603a",
    Shown.MAINTENANCE: "#1d5f8a",
    Shown.DEGRADED: "#8a5a00",
    Shown.DOWN: "#98231a",
    Shown.UNKNOWN: "#566562",
}
"""Each with white text on it at 4.5 to 1 or more."""


def write_atom(report: Report, origin: str) -> bytes:
    """One entry for each incident, with all that was told of it; updated when more is."""
    feed = ElementTree.Element("feed", xmlns=ATOM)
    _add(feed, "title", "Karta status")
    _add(feed, "id", f"{origin}/status")
    ElementTree.SubElement(feed, "link", rel="self", href=f"{origin}/status.atom")
    ElementTree.SubElement(feed, "link", rel="alternate", href=f"{origin}/status")
    incidents = [*reversed(report.open), *report.past][:ENTRIES_MAX]
    newest = max((_updated(one) for one in incidents), default=report.made_at)
    _add(feed, "updated", _rfc3339(newest))
    author = ElementTree.SubElement(feed, "author")
    _add(author, "name", "Karta")
    for one in incidents:
        entry = ElementTree.SubElement(feed, "entry")
        _add(entry, "title", one.title)
        _add(entry, "id", f"urn:uuid:{one.incident_id}")
        ElementTree.SubElement(
            entry, "link", rel="alternate", href=f"{origin}/status/incidents/{one.incident_id}"
        )
        _add(entry, "published", _rfc3339(one.updates[-1].told_at if one.updates else one.starts_at))
        _add(entry, "updated", _rfc3339(_updated(one)))
        told = (f"{up.told_at:%Y-%m-%d %H:%M} UTC, {up.stage.value}: {up.message}" for up in one.updates)
        _add(entry, "content", "\n\n".join(told), type="text")
    written: bytes = ElementTree.tostring(feed, encoding="utf-8", xml_declaration=True)
    return written


def write_json(report: Report, now: datetime) -> dict[str, Any]:
    """For monitors: states, uptimes and what is open."""
    return {
        "status": overall(report, now).value,
        "made_at": report.made_at.isoformat(),
        "components": [
            {
                "name": one.name,
                "label": one.label,
                "status": state_of(one, report.open, now).value,
                "seen_at": None if one.seen_at is None else one.seen_at.isoformat(),
                "latency_ms": one.latency_ms,
                "uptime_90_days": None if one.uptime is None else round(one.uptime, 6),
                "days": [
                    {"day": bar.day.isoformat(), "uptime": bar.uptime, "unseen_minutes": bar.unseen}
                    for bar in one.bars
                    if bar.uptime is not None
                ],
            }
            for one in report.components
        ],
        "open": [
            {
                "id": str(one.incident_id),
                "kind": one.kind.value,
                "title": one.title,
                "components": list(one.components),
                "starts_at": one.starts_at.isoformat(),
                "ends_at": None if one.ends_at is None else one.ends_at.isoformat(),
            }
            for one in report.open
        ],
    }


def write_badge(shown: Shown) -> str:
    """An SVG for other people's pages."""
    text = {Shown.UP: "up", Shown.DEGRADED: "degraded"}.get(shown, shown.value)
    right = 20 + 7 * len(text)
    width = 50 + right
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img"'
        f' aria-label="Karta: {text}"><title>Karta: {HEADLINES[shown]}</title>'
        f'<rect width="{width}" height="20" rx="3" fill="#38423f"/>'
        f'<path d="M50 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H50z" fill="{COLOURS[shown]}"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,Geneva,sans-serif" font-size="11">'
        f'<text x="25" y="14">Karta</text><text x="{50 + right // 2}" y="14">{text}</text></g></svg>\n'
    )


def _updated(one: Incident) -> datetime:
    return one.updates[0].told_at if one.updates else one.starts_at


def _add(parent: ElementTree.Element, tag: str, text: str, **attributes: str) -> None:
    # What XML cannot hold is not told.
    clean = "".join(char for char in text if char in "\n\t" or char.isprintable())
    ElementTree.SubElement(parent, tag, attributes).text = clean


def _rfc3339(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
