"""What platform operators see and do. Each view is recorded before it is shown: of an organization in its own
audit log, where its members find it. Nothing here shows a key, a prompt, or a way to act as a member.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import web_session
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from admin.standing import describe_all
from storage.errors import Conflict, NotFound
from storage.limits import select_limits
from storage.memberships import select_members
from storage.model import Actor, OrgStatus, Plan
from storage.organizations import select_organization, set_plan
from storage.sessions import end_member_sessions
from storage.shown_keys import count_keys, select_key_names
from storage.staff import (
    PAGE_ROWS_MAX,
    REASON_CHARS_MAX,
    SEARCH_CHARS_MAX,
    lift,
    record_view,
    search_organizations,
    suspend,
)
from storage.usage_report import Grouping, select_totals

USAGE_DAYS = 30
MODELS_SHOWN_MAX = 50
"""Those that cost most."""
DONE = {
    "suspended": "The organization is suspended. Its running requests were cut.",
    "lifted": "The suspension is lifted.",
    "plan": "The plan was changed.",
    "signed-out": "The member was signed out everywhere.",
}

blueprint = Blueprint("staff", __name__, template_folder="templates")


@blueprint.get("/staff")
async def show_organizations() -> ResponseReturnValue:
    text = request.args.get("search", "").strip()[:SEARCH_CHARS_MAX]
    status = OrgStatus.SUSPENDED if request.args.get("status") == "suspended" else None
    await record_view(services().db, _actor(), None, "organizations", text)
    try:
        after = UUID(request.args["after"]) if "after" in request.args else None
    except ValueError:
        abort(404)
    found = await search_organizations(services().db, text, status, after)
    return await render_template(
        "staff/organizations.html",
        organizations=found,
        search=text,
        status=status,
        after=found[-1].org_id if len(found) == PAGE_ROWS_MAX else None,
    )


@blueprint.get("/staff/organizations/<uuid:subject_id>")
async def show_organization(subject_id: UUID) -> ResponseReturnValue:
    return await _render(subject_id)


@blueprint.post("/staff/organizations/<uuid:subject_id>/suspend")
async def suspend_organization(subject_id: UUID) -> ResponseReturnValue:
    reason = (await request.form).get("reason", "").strip()
    if not 0 < len(reason) <= REASON_CHARS_MAX:
        problem = f"Say why, in {REASON_CHARS_MAX} characters at most: its members read it."
        return await _render(subject_id, {"reason": problem}), 422
    try:
        await suspend(services().db, _actor(), subject_id, reason)
    except NotFound:
        abort(404)
    return _see(subject_id, "suspended")


@blueprint.post("/staff/organizations/<uuid:subject_id>/lift")
async def lift_suspension(subject_id: UUID) -> ResponseReturnValue:
    try:
        await lift(services().db, _actor(), subject_id)
    except NotFound:
        abort(404)
    except Conflict:
        return _see(subject_id)
    return _see(subject_id, "lifted")


@blueprint.post("/staff/organizations/<uuid:subject_id>/plan")
async def change_plan(subject_id: UUID) -> ResponseReturnValue:
    try:
        plan = Plan((await request.form).get("plan", ""))
    except ValueError:
        abort(400)
    try:
        await set_plan(services().db, _actor(), subject_id, plan)
    except NotFound:
        abort(404)
    return _see(subject_id, "plan")


@blueprint.post("/staff/organizations/<uuid:subject_id>/members/<uuid:user_id>/sign-out")
async def sign_member_out(subject_id: UUID, user_id: UUID) -> ResponseReturnValue:
    """Of everywhere."""
    try:
        await end_member_sessions(services().db, _actor(), subject_id, user_id)
    except NotFound:
        abort(404)
    return _see(subject_id, "signed-out")


def _actor() -> Actor:
    return web_session.actor(web_session.require_user().user_id)


def _see(subject_id: UUID, done: str | None = None) -> ResponseReturnValue:
    return see(url_for("staff.show_organization", subject_id=subject_id, done=done))


async def _render(subject_id: UUID, problems: dict[str, str] | None = None) -> str:
    db = services().db
    try:
        organization = await select_organization(db, subject_id)
    except NotFound:
        abort(404)
    await record_view(db, _actor(), subject_id, "organization")
    live_keys, made_keys = await count_keys(db, subject_id)
    since = datetime.now(UTC) - timedelta(days=USAGE_DAYS)
    [whole] = await select_totals(db, subject_id, since=since)
    by_model = await select_totals(
        db, subject_id, since=since, by=Grouping.MODEL, dearest_first=True, limit=MODELS_SHOWN_MAX
    )
    limits = await select_limits(db, subject_id)
    names = await select_key_names(db, subject_id, [standing.limit.key_id for standing in limits])
    return await render_template(
        "staff/organization.html",
        subject=organization,
        members=await select_members(db, subject_id),
        live_keys=live_keys,
        made_keys=made_keys,
        whole=whole,
        by_model=by_model,
        standings=describe_all(limits, names),
        plans=tuple(Plan),
        days=USAGE_DAYS,
        problems=problems or {},
        done=DONE.get(request.args.get("done", "")),
    )
