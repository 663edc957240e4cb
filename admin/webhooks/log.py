"""What was sent to an endpoint: one message with all its tries; sending it again; and a trial."""

from __future__ import annotations

import json
from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import throttle, web_session
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from admin.webhooks.message import name_message
from storage.errors import Conflict, NotFound
from storage.webhook_log import redeliver, select_delivery, send_test
from storage.webhooks import select_endpoint

DONE = {"again": "The message is sent again."}
REASONS = {
    "unsafe_url": "the URL is none that is called",
    "unsafe_address": "the name stood for an address that is not public",
    "no_name": "the name could not be found",
    "no_connection": "nothing took the connection",
    "tls": "the certificate or the handshake failed",
    "timeout": "no answer in time",
    "bad_answer": "the connection broke, or what came was no HTTP",
    "no_secret": "its signing secret cannot be opened",
}
"""Why there was no answer."""

blueprint = Blueprint("webhook_log", __name__, template_folder="templates")


@blueprint.get("/organizations/<uuid:org_id>/webhooks/<uuid:endpoint_id>/deliveries/<int:delivery_id>")
async def show(org_id: UUID, endpoint_id: UUID, delivery_id: int) -> ResponseReturnValue:
    try:
        delivery, body, attempts = await select_delivery(
            services().db, org_id, endpoint_id, _bounded(delivery_id)
        )
        endpoint = await select_endpoint(services().db, org_id, endpoint_id)
    except NotFound:
        abort(404)
    return await render_template(
        "webhooks/delivery.html",
        endpoint=endpoint,
        delivery=delivery,
        message_id=name_message(delivery.event_id),
        body=json.dumps(json.loads(body), indent=2, ensure_ascii=False),
        attempts=attempts,
        reasons=REASONS,
        done=DONE.get(request.args.get("done", "")),
    )


@blueprint.post(
    "/organizations/<uuid:org_id>/webhooks/<uuid:endpoint_id>/deliveries/<int:delivery_id>/redeliver"
)
async def redeliver_by_id(org_id: UUID, endpoint_id: UUID, delivery_id: int) -> ResponseReturnValue:
    user = web_session.require_user()
    await throttle.count(throttle.WEBHOOK_SEND_ACCOUNT, str(user.user_id))
    try:
        actor = web_session.actor(user.user_id)
        await redeliver(services().db, actor, org_id, endpoint_id, _bounded(delivery_id))
    except NotFound:
        abort(404)
    except Conflict:
        return _see_endpoint(org_id, endpoint_id)  # which says that it is off
    place = url_for(
        "webhook_log.show", org_id=org_id, endpoint_id=endpoint_id, delivery_id=delivery_id, done="again"
    )
    return see(place)


@blueprint.post("/organizations/<uuid:org_id>/webhooks/<uuid:endpoint_id>/test")
async def send_trial(org_id: UUID, endpoint_id: UUID) -> ResponseReturnValue:
    user = web_session.require_user()
    await throttle.count(throttle.WEBHOOK_SEND_ACCOUNT, str(user.user_id))
    try:
        await send_test(services().db, web_session.actor(user.user_id), org_id, endpoint_id)
    except NotFound:
        abort(404)
    except Conflict:
        return _see_endpoint(org_id, endpoint_id)
    return _see_endpoint(org_id, endpoint_id, done="tested")


def _see_endpoint(org_id: UUID, endpoint_id: UUID, done: str | None = None) -> ResponseReturnValue:
    return see(url_for("webhooks.show_endpoint", org_id=org_id, endpoint_id=endpoint_id, done=done))


def _bounded(delivery_id: int) -> int:
    if delivery_id >= 2**63:
        abort(404)
    return delivery_id
