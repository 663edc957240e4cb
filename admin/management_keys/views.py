"""An organization's management keys.

Minting one needs fresh proof, since it does without proof what a browser's session does not; ending one needs
none: it may have to be quick. A key is shown once, in the answer that makes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import authorization, throttle, web_session
from admin.authorization import ADMINS, TABLE, Audience
from admin.once import AlreadySent, use_up
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.errors import Conflict, NotFound
from storage.management_keys import (
    ManagementKey,
    Scope,
    mint_management_key,
    revoke_management_key,
    select_management_keys,
)
from storage.memberships import select_members
from storage.model import Role
from storage.throttles import Rule

NAME_CHARS_MAX = 200
LIFETIMES = {"30": 30, "90": 90, "365": 365}
"""In days, as the form names them."""
ONCE = Rule("management_mint:form", 1, throttle.DAY)
WHAT_SCOPES_DO = {
    Scope.ORGANIZATION_READ: "see its name, plan and state",
    Scope.ORGANIZATION_WRITE: "rename it",
    Scope.MEMBERS_READ: "see members and invitations",
    Scope.MEMBERS_WRITE: "invite, change roles, take out; never owners",
    Scope.KEYS_READ: "see API keys",
    Scope.KEYS_WRITE: "mint, rotate and revoke API keys",
    Scope.LIMITS_READ: "see limits and budgets",
    Scope.LIMITS_WRITE: "set and remove limits and budgets",
    Scope.PROVIDER_KEYS_READ: "see which provider keys there are",
    Scope.PROVIDER_KEYS_WRITE: "set, rotate and revoke provider keys",
    Scope.ROUTES_READ: "see routes",
    Scope.ROUTES_WRITE: "set and remove routes",
    Scope.USAGE_READ: "see usage and cost",
    Scope.WEBHOOKS_READ: "see webhook endpoints and their log",
    Scope.WEBHOOKS_WRITE: "make and change webhook endpoints, rotate secrets, send again",
}
"""In a few words, for the form."""
DONE = {
    "minted": "That form was sent already: its key was made, and shown, then.",
    "revoked": "The key was revoked. It is refused from now on.",
}

blueprint = Blueprint("management_keys", __name__, template_folder="templates")


@blueprint.get("/organizations/<uuid:org_id>/management-keys")
async def show(org_id: UUID) -> ResponseReturnValue:
    db = services().db
    return await render_template(
        "management_keys/management_keys.html",
        keys=await select_management_keys(db, org_id),
        emails={member.user_id: member.email for member in await select_members(db, org_id)},
        state=_state,
        may_revoke=_may_revoke,
        done=DONE.get(request.args.get("done", "")),
    )


@blueprint.get("/organizations/<uuid:org_id>/management-keys/new")
async def show_new(org_id: UUID) -> ResponseReturnValue:  # noqa: ARG001
    return await _render_new({}, {})


@blueprint.post("/organizations/<uuid:org_id>/management-keys/new")
async def mint(org_id: UUID) -> ResponseReturnValue:
    user = web_session.require_user()
    form = await request.form
    name = form.get("name", "").strip()
    scopes = {scope for scope in Scope if form.get(scope.value)}
    if form.get("lifetime") not in LIFETIMES:
        abort(400)
    problems = {}
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
        problems["name"] = f"A name has 1 to {NAME_CHARS_MAX} characters."
    if not scopes:
        problems["scope"] = "Choose what the key is for."
    if not problems:
        await throttle.count(throttle.MANAGEMENT_MINT_ACCOUNT, str(user.user_id))
        try:
            async with use_up(ONCE, form.get("once", "")):
                key, token = await mint_management_key(
                    services().db,
                    web_session.actor(user.user_id),
                    org_id=org_id,
                    user_id=user.user_id,
                    name=name,
                    scopes=scopes,
                    days=LIFETIMES[form["lifetime"]],
                )
        except AlreadySent:
            return see(url_for("management_keys.show", org_id=org_id, done="minted"))
        except Conflict as error:
            problems["name"] = f"{str(error)[:1].upper()}{str(error)[1:]}."
        else:
            return await render_template(
                "management_keys/once.html", key=key, token=token, origin=services().origin
            )
    return await _render_new(form, problems), 422


@blueprint.post("/organizations/<uuid:org_id>/management-keys/<key_id>/revoke")
async def revoke(org_id: UUID, key_id: str) -> ResponseReturnValue:
    """Of one's own; owners and admins also of others."""
    user = web_session.require_user()
    only_of = None if authorization.current_membership().role in ADMINS else user.user_id
    try:
        await revoke_management_key(
            services().db, web_session.actor(user.user_id), org_id, key_id, only_of=only_of
        )
    except NotFound:
        abort(404)
    return see(url_for("management_keys.show", org_id=org_id, done="revoked"))


def offered_scopes(role: Role) -> list[Scope]:
    """Those under which a key of that role may do anything."""
    rows = [access for access in TABLE.values() if access.audience is Audience.KEY and role in access.roles]
    return [scope for scope in Scope if any(access.scope is scope for access in rows)]


def _state(key: ManagementKey) -> str:
    """`active`, `expired` or `revoked`: shown, and a class of the style sheet."""
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expires_at <= datetime.now(UTC) else "active"


def _may_revoke(key: ManagementKey) -> bool:
    ours = key.user_id == web_session.require_user().user_id
    return _state(key) == "active" and (ours or authorization.current_membership().role in ADMINS)


async def _render_new(given: Mapping[str, str], problems: Mapping[str, str]) -> str:
    return await render_template(
        "management_keys/new.html",
        given=given,
        scopes=offered_scopes(authorization.current_membership().role),
        what_scopes_do=WHAT_SCOPES_DO,
        once=secrets.token_urlsafe(16),
        problems=problems,
    )
