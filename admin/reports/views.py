"""What strangers sent, for the platform's operators: reports of abuse, which are closed with a note, and what
browsers said broke the pages' policy. Each look is recorded."""

from __future__ import annotations

from datetime import datetime

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import web_session
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.abuse_reports import NOTE_CHARS_MAX, close_report, select_reports
from storage.csp_violations import select_violations
from storage.errors import NotFound
from storage.model import Actor
from storage.staff import record_view

ROWS_SHOWN = 50

blueprint = Blueprint("reports", __name__, template_folder="templates")


@blueprint.get("/staff/reports")
async def show_abuse() -> ResponseReturnValue:
    try:
        before = datetime.fromisoformat(request.args["before"]) if "before" in request.args else None
    except ValueError:
        abort(404)
    if before is not None and before.tzinfo is None:
        abort(404)
    await record_view(services().db, _actor(), None, "abuse_reports")
    found = await select_reports(services().db, before=before, limit=ROWS_SHOWN)
    return await render_template(
        "reports/abuse.html",
        reports=found,
        before=found[-1].received_at.isoformat() if len(found) == ROWS_SHOWN else None,
        note_chars_max=NOTE_CHARS_MAX,
        done="The report is closed." if request.args.get("done") == "closed" else None,
    )


@blueprint.post("/staff/reports/<reference>/close")
async def close(reference: str) -> ResponseReturnValue:
    note = (await request.form).get("note", "").strip()
    try:
        await close_report(services().db, _actor(), reference[:20], note)
    except NotFound:
        return see(url_for("reports.show_abuse"))
    return see(url_for("reports.show_abuse", done="closed"))


@blueprint.get("/staff/violations")
async def show_violations() -> ResponseReturnValue:
    await record_view(services().db, _actor(), None, "csp_violations")
    return await render_template("reports/violations.html", violations=await select_violations(services().db))


def _actor() -> Actor:
    return web_session.actor(web_session.require_user().user_id)
