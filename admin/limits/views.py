"""Shows and sets limits and budgets, with what is used of them: of an organization, or of one key."""

from __future__ import annotations

from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import authorization, web_session
from admin.limits.form import FIELDS, find_standings, read_form, show_amount
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from admin.standing import describe_all
from storage.api_keys import select_key
from storage.errors import Conflict, NotFound
from storage.limits import THRESHOLDS, LimitScope, LimitStanding, select_limits, set_limit, unset_limit
from storage.model import APIKey

DONE = {"set": "The limits were set. Gateways keep to them from now on."}

blueprint = Blueprint("limits", __name__, template_folder="templates")


@blueprint.get("/organizations/<uuid:org_id>/limits")
async def show(org_id: UUID) -> ResponseReturnValue:
    return await _render(org_id, None)


@blueprint.post("/organizations/<uuid:org_id>/limits")
async def change(org_id: UUID) -> ResponseReturnValue:
    return await _change(org_id, None)


@blueprint.get("/organizations/<uuid:org_id>/keys/<key_id>/limits")
async def show_of_key(org_id: UUID, key_id: str) -> ResponseReturnValue:
    return await _render(org_id, await _require_key(org_id, key_id))


@blueprint.post("/organizations/<uuid:org_id>/keys/<key_id>/limits")
async def change_of_key(org_id: UUID, key_id: str) -> ResponseReturnValue:
    return await _change(org_id, await _require_key(org_id, key_id))


async def _require_key(org_id: UUID, key_id: str) -> APIKey:
    try:
        return await select_key(services().db, org_id, key_id)
    except NotFound:
        abort(404)


async def _select(org_id: UUID, key: APIKey | None) -> list[LimitStanding]:
    found = await select_limits(services().db, org_id, key.key_id if key else None)
    # Without a key all limits of the organization are told, those of its keys too.
    return [one for one in found if one.limit.key_id == (key.key_id if key else None)]


async def _change(org_id: UUID, key: APIKey | None) -> ResponseReturnValue:
    form = await request.form
    amounts, problems = read_form(form)
    if problems:
        return await _render(org_id, key, dict(form), problems), 422
    standings = find_standings(await _select(org_id, key))
    actor = web_session.actor(web_session.require_user().user_id)
    for field in FIELDS:
        amount, standing = amounts[field.name], standings.get(field.name)
        if amount == (standing.limit.amount if standing else None):
            continue
        scope = LimitScope(
            org_id=org_id, key_id=key.key_id if key else None, kind=field.kind, period=field.period
        )
        try:
            if amount is None:
                await unset_limit(services().db, actor, scope)
            else:
                # What was chosen by other means stays: whether it is hard, and where it tells.
                hard = standing is None or standing.limit.hard
                thresholds = THRESHOLDS if standing is None else standing.limit.thresholds
                await set_limit(services().db, actor, scope, amount, hard=hard, thresholds=thresholds)
        except Conflict:
            problems[field.name] = "The organization has too many limits: remove some first."
            return await _render(org_id, key, dict(form), problems), 409
    if key is None:
        return see(url_for("limits.show", org_id=org_id, done="set"))
    return see(url_for("limits.show_of_key", org_id=org_id, key_id=key.key_id, done="set"))


async def _render(
    org_id: UUID,
    key: APIKey | None,
    given: dict[str, str] | None = None,
    problems: dict[str, str] | None = None,
) -> str:
    found = await _select(org_id, key)
    standings = find_standings(found)
    shown = {field.name: _show(field.name, standings) for field in FIELDS}
    return await render_template(
        "limits/limits.html",
        key=key,
        fields=FIELDS,
        standings=standings,
        gauges=describe_all(found, {key.key_id: key.name} if key else {}),
        show_amount=show_amount,
        given=shown | (given or {}),
        problems=problems or {},
        changes=authorization.allows("limits.change" if key is None else "limits.change_of_key"),
        done=DONE.get(request.args.get("done", "")),
    )


def _show(name: str, standings: dict[str, LimitStanding]) -> str:
    field = next(field for field in FIELDS if field.name == name)
    return show_amount(field, standings[name].limit.amount) if name in standings else ""
