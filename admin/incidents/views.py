"""Where the platform's operators open, tell of and resolve incidents, and announce maintenance."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict

from admin import web_session
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.errors import Conflict, NotFound
from storage.health import select_recent
from storage.incidents import (
    Stage,
    cancel_maintenance,
    open_incident,
    plan_maintenance,
    select_incidents,
    update_incident,
)
from storage.model import Actor

TITLE_CHARS_MAX = 200
MESSAGE_CHARS_MAX = 4000
STAGES = (Stage.INVESTIGATING, Stage.IDENTIFIED, Stage.MONITORING, Stage.RESOLVED)
DONE = {
    "opened": "The incident is on the status page.",
    "told": "It is told on the status page.",
    "planned": "The maintenance is announced.",
    "cancelled": "The maintenance is cancelled.",
}

blueprint = Blueprint("incidents", __name__, template_folder="templates")


@blueprint.get("/staff/incidents")
async def show() -> ResponseReturnValue:
    return await _render()


@blueprint.post("/staff/incidents")
async def open_new() -> ResponseReturnValue:
    form = await request.form
    title, message, problems = _read_texts(form)
    if problems:
        return await _render(problems, form.to_dict()), 422
    await open_incident(services().db, _actor(), title, _read_components(form), message)
    return _see("opened")


@blueprint.post("/staff/incidents/<uuid:incident_id>")
async def tell(incident_id: UUID) -> ResponseReturnValue:
    form = await request.form
    message = form.get("message", "").strip()
    if form.get("stage") not in STAGES or not 0 < len(message) <= MESSAGE_CHARS_MAX:
        return await _render({"message": f"Say what is known, in 1 to {MESSAGE_CHARS_MAX} characters."}), 422
    try:
        await update_incident(services().db, _actor(), incident_id, Stage(form["stage"]), message)
    except NotFound:
        abort(404)
    except Conflict:
        return _see(None)
    return _see("told")


@blueprint.post("/staff/maintenance")
async def plan() -> ResponseReturnValue:
    form = await request.form
    title, message, problems = _read_texts(form, "planned_")
    starts_at, ends_at = _read_moment(form.get("starts_at")), _read_moment(form.get("ends_at"))
    if starts_at is None or ends_at is None or starts_at >= ends_at:
        problems["ends_at"] = "Give a beginning, and an end after it."
    if problems or starts_at is None or ends_at is None:
        return await _render(problems, form.to_dict()), 422
    await plan_maintenance(
        services().db, _actor(), title, _read_components(form), message, starts_at, ends_at
    )
    return _see("planned")


@blueprint.post("/staff/maintenance/<uuid:incident_id>/cancel")
async def cancel(incident_id: UUID) -> ResponseReturnValue:
    try:
        await cancel_maintenance(services().db, _actor(), incident_id, "It will not take place.")
    except NotFound:
        return _see(None)
    return _see("cancelled")


def _actor() -> Actor:
    return web_session.actor(web_session.require_user().user_id)


def _see(done: str | None) -> ResponseReturnValue:
    return see(url_for("incidents.show", done=done))


def _read_texts(form: MultiDict[str, str], prefix: str = "") -> tuple[str, str, dict[str, str]]:
    title, message = (form.get(prefix + name, "").strip() for name in ("title", "message"))
    problems = {}
    if not 0 < len(title) <= TITLE_CHARS_MAX or not title.isprintable():
        problems[prefix + "title"] = f"A title has 1 to {TITLE_CHARS_MAX} characters."
    if not 0 < len(message) <= MESSAGE_CHARS_MAX or "\0" in message:
        problems[prefix + "message"] = f"Say what is known, in 1 to {MESSAGE_CHARS_MAX} characters."
    return title, message, problems


def _read_components(form: MultiDict[str, str]) -> list[str]:
    return [name for name in form.getlist("components") if len(name) <= 40][:50]


def _read_moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text or "").replace(tzinfo=UTC)
    except ValueError:
        return None


async def _render(problems: dict[str, str] | None = None, given: dict[str, str] | None = None) -> str:
    db, now = services().db, datetime.now(UTC)
    return await render_template(
        "incidents/incidents.html",
        incidents=await select_incidents(db),
        components=[recent.component for recent in await select_recent(db, now)],
        stages=STAGES,
        now=now,
        problems=problems or {},
        given=given or {},
        done=DONE.get(request.args.get("done", "")),
    )
