"""Being told by mail when something public changes, the list of sub-processors or how Karta is: asked for,
confirmed and ended by links."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from quart import Blueprint, request, url_for
from quart.typing import ResponseReturnValue

from admin import throttle, web_session
from admin.redirect import see
from admin.rendering import render_template
from admin.services import Services, services
from storage.errors import InvalidValue, NotFound
from storage.letter_kinds import LetterKind
from storage.model import Actor
from storage.outbox import Letter
from storage.subscriptions import (
    Topic,
    announce,
    confirm_subscription,
    end_subscription,
    request_subscription,
)
from storage.users import normalize_email

NO_ADDRESS = "That is not an email address."
CHANGES_TOLD = 5


class Words(NamedTuple):
    """How pages speak of a topic."""

    when: str
    page: str
    """The endpoint of what is told of."""
    label: str


WORDS = {
    Topic.SUB_PROCESSORS: Words(
        "the list of sub-processors changes", "trust.show_sub_processors", "The list of sub-processors"
    ),
    Topic.INCIDENTS: Words("there is an incident or maintenance", "status.show", "The status page"),
}
_SUB_PROCESSORS = {"topic": Topic.SUB_PROCESSORS.value}
_INCIDENTS = {"topic": Topic.INCIDENTS.value}

blueprint = Blueprint("subscribe", __name__, template_folder="templates")


@blueprint.get("/subprocessors/subscribe", defaults=_SUB_PROCESSORS)
@blueprint.get("/status/subscribe", defaults=_INCIDENTS)
async def show(topic: str) -> ResponseReturnValue:
    return await _render_form(topic)


@blueprint.post("/subprocessors/subscribe", defaults=_SUB_PROCESSORS)
@blueprint.post("/status/subscribe", defaults=_INCIDENTS)
async def ask(topic: str) -> ResponseReturnValue:
    await throttle.count_address(throttle.SUBSCRIBE_ADDRESS)
    try:
        email = normalize_email((await request.form).get("email", ""))
    except InvalidValue:
        return await _render_form(topic, NO_ADDRESS), 422
    await throttle.count(throttle.SUBSCRIBE_ACCOUNT, email)
    token = web_session.new_token()
    path = url_for("subscribe.show_confirm", token=token, topic=topic)
    facts = {"topic": topic, "path": path}
    await request_subscription(
        services().db,
        web_session.actor(None),
        services().master_keys,
        Topic(topic),
        web_session.digest(token),
        Letter(kind=LetterKind.SUBSCRIPTION_CONFIRM, recipient=email, facts=facts),
    )
    return see(url_for("subscribe.show_sent", topic=topic))


@blueprint.get("/subprocessors/subscribe/sent", defaults=_SUB_PROCESSORS)
@blueprint.get("/status/subscribe/sent", defaults=_INCIDENTS)
async def show_sent(topic: str) -> ResponseReturnValue:
    return await render_template("accounts/sent.html", again=url_for("subscribe.show", topic=topic))


@blueprint.get("/subprocessors/confirm/<token>", defaults=_SUB_PROCESSORS)
@blueprint.get("/status/confirm/<token>", defaults=_INCIDENTS)
async def show_confirm(topic: str, token: str) -> ResponseReturnValue:
    """Mail programs follow links as well: so the page has a button, and following does nothing."""
    return await _render(topic, ends=False, action=url_for("subscribe.confirm", token=token, topic=topic))


@blueprint.post("/subprocessors/confirm/<token>", defaults=_SUB_PROCESSORS)
@blueprint.post("/status/confirm/<token>", defaults=_INCIDENTS)
async def confirm(topic: str, token: str) -> ResponseReturnValue:
    await throttle.count_address(throttle.LINK_ADDRESS)
    sound = token if len(token) <= web_session.TOKEN_CHARS_MAX else ""
    try:
        await confirm_subscription(services().db, web_session.actor(None), web_session.digest(sound))
    except NotFound:
        return await _render(topic, spent=True), 410
    return await _render(topic, done=f"You will be told when {WORDS[Topic(topic)].when}.")


@blueprint.get("/subprocessors/subscription/<uuid:subscription_id>/end", defaults=_SUB_PROCESSORS)
@blueprint.get("/status/subscription/<uuid:subscription_id>/end", defaults=_INCIDENTS)
async def show_end(topic: str, subscription_id: UUID) -> ResponseReturnValue:
    action = url_for("subscribe.end", subscription_id=subscription_id, topic=topic)
    return await _render(topic, ends=True, action=action)


@blueprint.post("/subprocessors/subscription/<uuid:subscription_id>/end", defaults=_SUB_PROCESSORS)
@blueprint.post("/status/subscription/<uuid:subscription_id>/end", defaults=_INCIDENTS)
async def end(topic: str, subscription_id: UUID) -> ResponseReturnValue:
    await throttle.count_address(throttle.LINK_ADDRESS)
    await end_subscription(services().db, web_session.actor(None), subscription_id)
    return await _render(topic, done="You will not be told any more.")


async def tell_changes(found: Services, actor: Actor) -> int:
    """Tells subscribers when the list is another than the one told last. Returns how many."""
    current = found.sub_processors.read()
    changes = [f"{one.date.isoformat()}: {one.change}" for one in current.history[:CHANGES_TOLD]]
    return await announce(
        found.db,
        actor,
        Topic.SUB_PROCESSORS,
        current.digest,
        LetterKind.SUB_PROCESSORS_CHANGED,
        {"changes": changes},
    )


async def _render_form(topic: str, problem: str | None = None) -> str:
    words = WORDS[Topic(topic)]
    return await render_template("trust/subscribe.html", words=words, problem=problem)


async def _render(
    topic: str, *, ends: bool = False, action: str = "", done: str | None = None, spent: bool = False
) -> str:
    return await render_template(
        "trust/subscription.html",
        words=WORDS[Topic(topic)],
        again=url_for("subscribe.show", topic=topic),
        ends=ends,
        action=action,
        done=done,
        spent=spent,
    )
