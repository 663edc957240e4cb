"""An organization's keys: all of them, one of them, and the end of one."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from quart import Blueprint, abort, redirect, request, url_for
from quart.typing import ResponseReturnValue

from admin import authorization, web_session
from admin.keys.checklist import make_checklist
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.api_keys import revoke_key, select_key
from storage.errors import NotFound
from storage.limits import select_limits
from storage.model import APIKey
from storage.shown_keys import select_shown_keys

KEYS_SHOWN_MAX = 500
"""More would make a page nobody reads; the command line lists them all."""
DONE = {
    "minted": "That form was sent already: its key was made, and shown, then.",
    "scope": "It was set. Gateways keep to it from now on.",
    "revoked": "The key was revoked. Gateways refuse it from now on.",
}

blueprint = Blueprint("keys", __name__, template_folder="templates")


@blueprint.get("/")
async def show_home() -> ResponseReturnValue:
    """The user's first organization."""
    memberships = authorization.memberships()
    if not memberships:
        return await render_template("keys/no_organization.html")
    first = memberships[0].organization
    return redirect(url_for("keys.show_organization", org_id=first.org_id), code=303)


@blueprint.get("/organizations/<uuid:org_id>")
async def show_organization(org_id: UUID) -> ResponseReturnValue:
    keys = await select_shown_keys(services().db, org_id, KEYS_SHOWN_MAX)
    return await render_template(
        "keys/organization.html",
        role=authorization.current_membership().role,
        keys=keys,
        shown_max=KEYS_SHOWN_MAX,
        gateway_url=services().settings.gateway_url,
        never_used=all(key.last_used_at is None for key in keys),
        checklist=await make_checklist(services().db, authorization.current_membership().organization, keys),
        done=DONE.get(request.args.get("done", "")),
    )


@blueprint.get("/organizations/<uuid:org_id>/keys/<key_id>")
async def show_key(org_id: UUID, key_id: str) -> ResponseReturnValue:
    try:
        key = await select_key(services().db, org_id, key_id)
    except NotFound:
        abort(404)
    standings = await select_limits(services().db, org_id, key_id)
    done = DONE.get(request.args.get("done", ""))
    return await render_template("keys/key.html", key=key, standings=standings, done=done)


@blueprint.post("/organizations/<uuid:org_id>/keys/<key_id>/revoke")
async def revoke(org_id: UUID, key_id: str) -> ResponseReturnValue:
    user = web_session.require_user()
    try:
        await revoke_key(services().db, web_session.actor(user.user_id), key_id, org_id=org_id)
    except NotFound:
        abort(404)
    return see(url_for("keys.show_organization", org_id=org_id, done="revoked"))


@blueprint.app_template_filter("status")
def status(key: APIKey) -> str:
    """`active`, `expired` or `revoked`: shown, and a class of the style sheet."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at is not None and key.expires_at <= datetime.now(UTC) else "active"
