"""What an existing key may be used for: shown, and changed. Gateways keep to it at once."""

from __future__ import annotations

from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import web_session
from admin.keys.scope_form import FAMILIES, find_others, read_scope, show_given, show_scope
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.api_keys import select_key
from storage.errors import NotFound
from storage.key_scopes import set_scope
from storage.model import APIKey

blueprint = Blueprint("scopes", __name__, template_folder="templates")


@blueprint.get("/organizations/<uuid:org_id>/keys/<key_id>/scope")
async def show(org_id: UUID, key_id: str) -> ResponseReturnValue:
    key = await _require(org_id, key_id)
    return await _render(key, show_scope(key.scope), {})


@blueprint.post("/organizations/<uuid:org_id>/keys/<key_id>/scope")
async def change(org_id: UUID, key_id: str) -> ResponseReturnValue:
    key = await _require(org_id, key_id)
    form = await request.form
    scope, problems = read_scope(form, find_others(key.scope))
    if problems:
        return await _render(key, show_given(form), problems), 422
    actor = web_session.actor(web_session.require_user().user_id)
    await set_scope(services().db, actor, org_id, key_id, scope)
    return see(url_for("keys.show_key", org_id=org_id, key_id=key_id, done="scope"))


async def _require(org_id: UUID, key_id: str) -> APIKey:
    try:
        return await select_key(services().db, org_id, key_id)
    except NotFound:
        abort(404)


async def _render(key: APIKey, given: dict[str, object], problems: dict[str, str]) -> str:
    return await render_template(
        "keys/scope.html",
        key=key,
        given=given,
        problems=problems,
        families=FAMILIES,
        others=find_others(key.scope),
    )
