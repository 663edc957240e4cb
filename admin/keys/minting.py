"""New keys: minted, or in place of an old one. A key is shown once, in the answer that makes it.

Each form carries a number of its own that is used up with it (`once`), so that a form sent twice mints once:
the second answer says so, and shows nothing.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import throttle, web_session
from admin.keys.scope_form import FAMILIES, read_scope, show_given
from admin.once import AlreadySent, use_up
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.api_keys import mint_key, rotate_key, select_key
from storage.errors import Conflict, NotFound
from storage.model import APIKey, Mode
from storage.throttles import Rule

NAME_CHARS_MAX = 200
EXPIRIES = {"": None, "30": 30, "90": 90, "365": 365}
"""In days, as the form names them."""
OVERLAPS = {"0": 0, "3600": 3600, "86400": 86400, "604800": 604800}
"""How many seconds the old key lives on, as the form names them."""
ONCE = Rule("mint:form", 1, throttle.DAY)

blueprint = Blueprint("minting", __name__, template_folder="templates")


@blueprint.get("/organizations/<uuid:org_id>/keys/new")
async def show_new(org_id: UUID) -> ResponseReturnValue:  # noqa: ARG001
    return await _render_new({}, {})


@blueprint.post("/organizations/<uuid:org_id>/keys/new")
async def mint(org_id: UUID) -> ResponseReturnValue:
    user = web_session.require_user()
    form = await request.form
    name = form.get("name", "").strip()
    scope, problems = read_scope(form)
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
        problems["name"] = f"A name has 1 to {NAME_CHARS_MAX} characters."
    if form.get("expiry", "") not in EXPIRIES or form.get("mode") not in list(Mode):
        abort(400)
    if problems:
        return await _render_new(show_given(form), problems), 422
    await throttle.count(throttle.MINT_ACCOUNT, str(user.user_id))
    days = EXPIRIES[form.get("expiry", "")]
    try:
        async with use_up(ONCE, form.get("once", "")):
            key, token = await mint_key(
                services().db,
                web_session.actor(user.user_id),
                org_id=org_id,
                name=name,
                mode=Mode(form["mode"]),
                expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
                allowed_models=scope.models,
                allowed_endpoints=scope.endpoints,
                allowed_networks=scope.networks,
            )
    except AlreadySent:
        return see(url_for("keys.show_organization", org_id=org_id, done="minted"))
    return await _render_once(key, token)


@blueprint.get("/organizations/<uuid:org_id>/keys/<key_id>/rotate")
async def show_rotate(org_id: UUID, key_id: str) -> ResponseReturnValue:
    return await render_template(
        "keys/rotate.html", key=await _require(org_id, key_id), once=secrets.token_urlsafe(16)
    )


@blueprint.post("/organizations/<uuid:org_id>/keys/<key_id>/rotate")
async def rotate(org_id: UUID, key_id: str) -> ResponseReturnValue:
    user = web_session.require_user()
    await _require(org_id, key_id)
    form = await request.form
    if form.get("overlap") not in OVERLAPS:
        abort(400)
    await throttle.count(throttle.MINT_ACCOUNT, str(user.user_id))
    actor, overlap = web_session.actor(user.user_id), OVERLAPS[form["overlap"]]
    try:
        async with use_up(ONCE, form.get("once", "")):
            key, token = await rotate_key(services().db, actor, key_id, overlap, org_id=org_id)
    except AlreadySent:
        return see(url_for("keys.show_organization", org_id=org_id, done="minted"))
    except Conflict:
        return see(url_for("keys.show_key", org_id=org_id, key_id=key_id))
    return await _render_once(key, token)


async def _require(org_id: UUID, key_id: str) -> APIKey:
    try:
        return await select_key(services().db, org_id, key_id)
    except NotFound:
        abort(404)


async def _render_new(given: dict[str, object], problems: dict[str, str]) -> str:
    once = secrets.token_urlsafe(16)
    return await render_template(
        "keys/new.html", given=given, problems=problems, once=once, families=FAMILIES
    )


async def _render_once(key: APIKey, token: str) -> str:
    return await render_template(
        "keys/once.html", key=key, token=token, gateway_url=services().settings.gateway_url
    )
