"""An organization's webhook endpoints. Making one, changing it and rotating its secret need fresh proof,
since they say where messages go and what a receiver believes; ending one needs none.

A secret is shown once, in the answer that makes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import authorization, throttle, web_session, webhook_check
from admin.once import AlreadySent, use_up
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.errors import Conflict, InvalidValue, NotFound
from storage.plan_terms import Allowance, limit_of
from storage.throttles import Rule
from storage.webhook_deliveries import FAILING_DAYS, KEPT_DAYS
from storage.webhook_events import CHOICES, TYPES
from storage.webhook_log import select_deliveries
from storage.webhooks import (
    Endpoint,
    NewEndpoint,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    disable_endpoint,
    enable_endpoint,
    rotate_secret,
    select_endpoint,
    select_endpoints,
)

ONCE = Rule("webhook:form", 1, throttle.DAY)
LOG_ROWS = 25
OVERLAPS = {"0": 0, "3600": 3600, "86400": 86400, "604800": 604800}
"""In seconds, as the form names them."""
DONE = {
    "created": "That form was sent already: its endpoint was made, and its secret shown, then.",
    "changed": "The endpoint was changed.",
    "enabled": "The endpoint is on. What waited is on its way.",
    "deleted": "The endpoint was deleted, with its log.",
    "tested": "A test event is on its way. It appears below within seconds.",
}
REASONS = {
    "asked": "It was switched off on this page, or by a program.",
    "gone": "It answered 410 Gone, which asks for nothing more.",
    "failing": f"Every message of {FAILING_DAYS} days failed.",
}
"""Why an endpoint is off."""

blueprint = Blueprint("webhooks", __name__, template_folder="templates")


@blueprint.get("/organizations/<uuid:org_id>/webhooks")
async def show(org_id: UUID) -> ResponseReturnValue:
    plan = authorization.current_membership().organization.plan
    return await render_template(
        "webhooks/webhooks.html",
        endpoints=await select_endpoints(services().db, org_id),
        endpoints_max=limit_of(plan, Allowance.WEBHOOK_ENDPOINTS),
        all_events=len(CHOICES),
        done=DONE.get(request.args.get("done", "")),
    )


@blueprint.get("/organizations/<uuid:org_id>/webhooks/new")
async def show_new(org_id: UUID) -> ResponseReturnValue:  # noqa: ARG001
    return await _render_form(None, {}, {})


@blueprint.post("/organizations/<uuid:org_id>/webhooks/new")
async def create(org_id: UUID) -> ResponseReturnValue:
    form = await request.form
    chosen, problems = await _read(form)
    if not problems:
        actor = web_session.actor(web_session.require_user().user_id)
        try:
            async with use_up(ONCE, form.get("once", "")):
                endpoint, secret = await create_endpoint(
                    services().db, actor, services().master_keys, org_id, chosen
                )
        except AlreadySent:
            return see(url_for("webhooks.show", org_id=org_id, done="created"))
        except (Conflict, InvalidValue) as error:
            problems["url"] = _sentence(error)
        else:
            return await render_template(
                "webhooks/once.html", endpoint=endpoint, secret=secret, rotated=False
            )
    return await _render_form(None, form, problems), 422


@blueprint.get("/organizations/<uuid:org_id>/webhooks/<uuid:endpoint_id>")
async def show_endpoint(org_id: UUID, endpoint_id: UUID) -> ResponseReturnValue:
    endpoint = await _find(org_id, endpoint_id)
    before = request.args.get("before", "")
    deliveries = await select_deliveries(
        services().db,
        org_id,
        endpoint_id,
        before=int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None,
        limit=LOG_ROWS + 1,
    )
    return await render_template(
        "webhooks/endpoint.html",
        endpoint=endpoint,
        deliveries=deliveries[:LOG_ROWS],
        older=deliveries[LOG_ROWS - 1].delivery_id if len(deliveries) > LOG_ROWS else None,
        reason=REASONS.get(endpoint.reason or ""),
        kept_days=KEPT_DAYS,
        done=DONE.get(request.args.get("done", "")),
    )


@blueprint.get("/organizations/<uuid:org_id>/webhooks/<uuid:endpoint_id>/change")
async def show_change(org_id: UUID, endpoint_id: UUID) -> ResponseReturnValue:
    endpoint = await _find(org_id, endpoint_id)
    given = {
        "url": endpoint.url,
        "description": endpoint.description,
        "ordered": "yes" if endpoint.ordered else "",
    }
    return await _render_form(endpoint, {**given, **dict.fromkeys(endpoint.events, "yes")}, {})


@blueprint.post("/organizations/<uuid:org_id>/webhooks/<uuid:endpoint_id>/change")
async def change(org_id: UUID, endpoint_id: UUID) -> ResponseReturnValue:
    endpoint = await _find(org_id, endpoint_id)
    form = await request.form
    chosen, problems = await _read(form)
    if not problems:
        actor = web_session.actor(web_session.require_user().user_id)
        try:
            await change_endpoint(services().db, actor, org_id, endpoint_id, chosen)
        except InvalidValue as error:
            problems["url"] = _sentence(error)
        else:
            return _see_endpoint(endpoint, "changed")
    return await _render_form(endpoint, form, problems), 422


@blueprint.get("/organizations/<uuid:org_id>/webhooks/<uuid:endpoint_id>/rotate")
async def show_rotate(org_id: UUID, endpoint_id: UUID) -> ResponseReturnValue:
    return await render_template("webhooks/rotate.html", endpoint=await _find(org_id, endpoint_id))


@blueprint.post("/organizations/<uuid:org_id>/webhooks/<uuid:endpoint_id>/rotate")
async def rotate(org_id: UUID, endpoint_id: UUID) -> ResponseReturnValue:
    overlap = (await request.form).get("overlap", "")
    if overlap not in OVERLAPS:
        abort(400)
    await _find(org_id, endpoint_id)
    endpoint, secret = await rotate_secret(
        services().db,
        web_session.actor(web_session.require_user().user_id),
        services().master_keys,
        org_id,
        endpoint_id,
        overlap_seconds=OVERLAPS[overlap],
    )
    return await render_template("webhooks/once.html", endpoint=endpoint, secret=secret, rotated=True)


@blueprint.post("/organizations/<uuid:org_id>/webhooks/<uuid:endpoint_id>/enable")
async def enable(org_id: UUID, endpoint_id: UUID) -> ResponseReturnValue:
    endpoint = await _find(org_id, endpoint_id)
    actor = web_session.actor(web_session.require_user().user_id)
    await enable_endpoint(services().db, actor, org_id, endpoint_id)
    return _see_endpoint(endpoint, "enabled")


@blueprint.post("/organizations/<uuid:org_id>/webhooks/<uuid:endpoint_id>/disable")
async def disable(org_id: UUID, endpoint_id: UUID) -> ResponseReturnValue:
    endpoint = await _find(org_id, endpoint_id)
    actor = web_session.actor(web_session.require_user().user_id)
    await disable_endpoint(services().db, actor, org_id, endpoint_id)
    return _see_endpoint(endpoint)


@blueprint.post("/organizations/<uuid:org_id>/webhooks/<uuid:endpoint_id>/delete")
async def delete(org_id: UUID, endpoint_id: UUID) -> ResponseReturnValue:
    await _find(org_id, endpoint_id)
    actor = web_session.actor(web_session.require_user().user_id)
    await delete_endpoint(services().db, actor, org_id, endpoint_id)
    return see(url_for("webhooks.show", org_id=org_id, done="deleted"))


async def _find(org_id: UUID, endpoint_id: UUID) -> Endpoint:
    try:
        return await select_endpoint(services().db, org_id, endpoint_id)
    except NotFound:
        abort(404)


async def _read(form: Mapping[str, str]) -> tuple[NewEndpoint, dict[str, str]]:
    """What was chosen, and what is wrong with it by field."""
    chosen = NewEndpoint(
        url=form.get("url", "").strip(),
        events=tuple(name for name in CHOICES if form.get(name)),
        description=form.get("description", "").strip(),
        ordered=bool(form.get("ordered")),
    )
    problems = {}
    if not chosen.events:
        problems["events"] = "Choose what it is told of."
    if not (chosen.description or "-").isprintable() or len(chosen.description) > 200:
        problems["description"] = "A description has 200 printable characters at most."
    await throttle.count(throttle.WEBHOOK_CHANGE_ACCOUNT, str(web_session.require_user().user_id))
    problem = await webhook_check.find_problem(chosen.url)
    if problem is not None:
        problems["url"] = problem
    return chosen, problems


async def _render_form(
    endpoint: Endpoint | None, given: Mapping[str, str], problems: Mapping[str, str]
) -> str:
    return await render_template(
        "webhooks/form.html",
        endpoint=endpoint,
        given=given,
        problems=problems,
        families=_families(),
        once=secrets.token_urlsafe(16),
    )


def _families() -> dict[str, list[tuple[str, str]]]:
    """The events by what stands before their dot, each with its meaning."""
    families: dict[str, list[tuple[str, str]]] = {}
    for name in CHOICES:
        families.setdefault(name.partition(".")[0], []).append((name, TYPES[name].meaning))
    return families


def _see_endpoint(endpoint: Endpoint, done: str | None = None) -> ResponseReturnValue:
    org_id, endpoint_id = endpoint.org_id, endpoint.endpoint_id
    return see(url_for("webhooks.show_endpoint", org_id=org_id, endpoint_id=endpoint_id, done=done))


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
