"""The status page, for everybody and for programs. Cacheable, without scripts or cookies; while the database
is away it shows what was known last, and says so."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from quart import Blueprint, Response, abort, current_app, jsonify
from quart.typing import ResponseReturnValue

from admin import transport
from admin.rendering import render_template
from admin.services import services
from admin.status import feed
from admin.status.last_known import LastKnown
from admin.status.report import HEADLINES, Report, make_history, make_report, overall, state_of
from storage.errors import NotFound, StorageError
from storage.incidents import select_incident

PAGE_SECONDS = 30
_EXTENSION = "karta.status"

blueprint = Blueprint("status", __name__, template_folder="templates")
_log = logging.getLogger("karta.admin")


@blueprint.get("/status")
async def show() -> ResponseReturnValue:
    report, away = await _find_report()
    transport.make_public(PAGE_SECONDS)
    return await _render(report, away)


@blueprint.get("/status.json")
async def show_json() -> ResponseReturnValue:
    report, _ = await _find_report()
    transport.make_public(PAGE_SECONDS)
    return jsonify(feed.write_json(report, datetime.now(UTC)))


@blueprint.get("/status.atom")
async def show_atom() -> ResponseReturnValue:
    report, _ = await _find_report()
    transport.make_public(PAGE_SECONDS)
    content_type = "application/atom+xml; charset=utf-8"
    return Response(feed.write_atom(report, status_origin()), content_type=content_type)


@blueprint.get("/status.svg")
async def show_badge() -> ResponseReturnValue:
    report, _ = await _find_report()
    transport.make_public(PAGE_SECONDS)
    badge = feed.write_badge(overall(report, datetime.now(UTC)))
    return Response(badge, content_type="image/svg+xml")


@blueprint.get("/status/history")
async def show_history() -> ResponseReturnValue:
    history = await make_history(services().db, datetime.now(UTC))
    report, _ = await _find_report()
    transport.make_public(PAGE_SECONDS)
    return await render_template("status/history.html", history=history, past=report.past)


@blueprint.get("/status/incidents/<uuid:incident_id>")
async def show_incident(incident_id: UUID) -> ResponseReturnValue:
    try:
        incident = await select_incident(services().db, incident_id)
    except NotFound:
        abort(404)
    transport.make_public(PAGE_SECONDS)
    return await render_template("status/incident.html", incident=incident)


def status_origin() -> str:
    """Where the status page is for others: under its own name, if it has one."""
    return services().settings.status_url or services().origin


async def _find_report() -> tuple[Report, bool]:
    """A new report, or the last known one and True; nothing at all, but that, where none is known."""
    last_known, now = _last_known(), datetime.now(UTC)
    try:
        report = await make_report(services().db, now)
    except StorageError:
        found = await last_known.find()
        return found or Report(now, [], [], []), True
    try:
        page = await _render(report, False)
        await last_known.keep(report, partial(_write_files, report, page, now))
    except OSError as error:
        _log.warning("the status page's copy was not written: %s", error.strerror)
    return report, False


def _write_files(report: Report, page: str, now: datetime) -> Mapping[str, bytes]:
    origin = status_origin()
    return {
        "index.html": page.replace('="/', f'="{origin}/').encode(),
        "status.atom": feed.write_atom(report, origin),
        "status.svg": feed.write_badge(overall(report, now)).encode(),
    }


async def _render(report: Report, away: bool) -> str:
    now = datetime.now(UTC)
    return await render_template(
        "status/status.html",
        report=report,
        away=away,
        shown=overall(report, now),
        headlines=HEADLINES,
        state_of=lambda component: state_of(component, report.open, now),
    )


def _last_known() -> LastKnown:
    found = current_app.extensions.get(_EXTENSION)
    if found is None:
        found = LastKnown(services().settings.status_dir)
        current_app.extensions[_EXTENSION] = found
    assert isinstance(found, LastKnown)
    return found


@blueprint.app_template_filter("uptime")
def show_uptime(share: float | None) -> str:
    """`99.95 %`; never rounded up to 100."""
    if share is None:
        return "no data"
    return "100 %" if share == 1 else f"{int(share * 10_000) / 100:.2f} %"


@blueprint.app_template_filter("bar_class")
def name_bar(share: float | None) -> str:
    """How a day's bar looks."""
    if share is None:
        return "none"
    if share >= 0.999:
        return "up"
    return "degraded" if share >= 0.95 else "down"
