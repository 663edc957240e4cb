"""Being told by mail when the list of sub-processors changes: asked for, confirmed and ended by links."""

from __future__ import annotations

from uuid import UUID

from quart import Blueprint, request, url_for
from quart.typing import ResponseReturnValue

from admin import throttle, web_session
from admin.redirect import see
from admin.rendering import render_template
from admin.services import Services, services
from admin.trust import letters
from storage.errors import InvalidValue, NotFound
from storage.model import Actor
from storage.subscriptions import (
    Topic,
    announce,
    confirm_subscription,
    end_subscription,
    request_subscription,
)
from storage.users import normalize_email

NO_ADDRESS = "That is not an email address."
PATH = "/subprocessors/subscription"

blueprint = Blueprint("subscribe", __name__, template_folder="templates")


@blueprint.get("/subprocessors/subscribe")
async def show() -> ResponseReturnValue:
    return await render_template("trust/subscribe.html")


@blueprint.post("/subprocessors/subscribe")
async def ask() -> ResponseReturnValue:
    await throttle.count_address(throttle.SUBSCRIBE_ADDRESS)
    try:
        email = normalize_email((await request.form).get("email", ""))
    except InvalidValue:
        return await render_template("trust/subscribe.html", problem=NO_ADDRESS), 422
    await throttle.count(throttle.SUBSCRIBE_ACCOUNT, email)
    token = web_session.new_token()
    link = f"{services().origin}{url_for('subscribe.show_confirm', token=token)}"
    await request_subscription(
        services().db,
        web_session.actor(None),
        services().master_keys,
        Topic.SUB_PROCESSORS,
        web_session.digest(token),
        letters.confirm_subscription(email, link),
    )
    return see(url_for("subscribe.show_sent"))


@blueprint.get("/subprocessors/subscribe/sent")
async def show_sent() -> ResponseReturnValue:
    return await render_template("accounts/sent.html", again=url_for("subscribe.show"))


@blueprint.get("/subprocessors/confirm/<token>")
async def show_confirm(token: str) -> ResponseReturnValue:
    """Mail programs follow links as well: so the page has a button, and following does nothing."""
    action = url_for("subscribe.confirm", token=token)
    return await render_template("trust/subscription.html", ends=False, action=action)


@blueprint.post("/subprocessors/confirm/<token>")
async def confirm(token: str) -> ResponseReturnValue:
    await throttle.count_address(throttle.LINK_ADDRESS)
    sound = token if len(token) <= web_session.TOKEN_CHARS_MAX else ""
    try:
        await confirm_subscription(services().db, web_session.actor(None), web_session.digest(sound))
    except NotFound:
        return await render_template("trust/subscription.html", spent=True), 410
    return await render_template("trust/subscription.html", done="You will be told when the list changes.")


@blueprint.get("/subprocessors/subscription/<uuid:subscription_id>/end")
async def show_end(subscription_id: UUID) -> ResponseReturnValue:
    action = url_for("subscribe.end", subscription_id=subscription_id)
    return await render_template("trust/subscription.html", ends=True, action=action)


@blueprint.post("/subprocessors/subscription/<uuid:subscription_id>/end")
async def end(subscription_id: UUID) -> ResponseReturnValue:
    await throttle.count_address(throttle.LINK_ADDRESS)
    await end_subscription(services().db, web_session.actor(None), subscription_id)
    return await render_template("trust/subscription.html", done="You will not be told any more.")


async def tell_changes(found: Services, actor: Actor) -> int:
    """Tells subscribers when the list is another than the one told last. Returns how many."""
    if found.loaded_master_keys is None:
        return 0
    current = found.settings.load_sub_processors()
    page = f"{found.origin}/subprocessors"
    return await announce(
        found.db,
        actor,
        found.loaded_master_keys,
        Topic.SUB_PROCESSORS,
        current.digest,
        lambda one: letters.changed(
            one.email, current, page, f"{found.origin}{PATH}/{one.subscription_id}/end"
        ),
    )
