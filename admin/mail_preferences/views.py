"""A person's page of the letters they get: which of them they want, and whether their address takes any."""

from __future__ import annotations

from quart import Blueprint, request, url_for
from quart.typing import ResponseReturnValue

from admin import web_session
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.letter_kinds import MailTopic
from storage.mail_preferences import select_opt_outs, set_opt_outs
from storage.suppressions import select_suppressions

WORDS = {
    MailTopic.KEYS: ("New keys", "An API key was minted or rotated. To owners and admins."),
    MailTopic.BUDGETS: (
        "Budgets",
        "A budget was used to 50, 80 or 100 %, or what was set. To owners, admins and billing.",
    ),
    MailTopic.WEBHOOKS: (
        "Webhooks",
        "An endpoint failed for so long that it was switched off. To owners and admins.",
    ),
}

blueprint = Blueprint("mail_preferences", __name__, template_folder="templates")


@blueprint.get("/account/mail")
async def show() -> ResponseReturnValue:
    user = web_session.require_user()
    return await render_template(
        "mail_preferences/preferences.html",
        user=user,
        words=WORDS,
        without=await select_opt_outs(services().db, user.user_id),
        suppressions=await select_suppressions(services().db, email=user.email),
        done="That is kept." if request.args.get("done") == "kept" else None,
    )


@blueprint.post("/account/mail")
async def change() -> ResponseReturnValue:
    user = web_session.require_user()
    form = await request.form
    without = {topic for topic in MailTopic if form.get(topic.value) != "yes"}
    await set_opt_outs(services().db, web_session.actor(user.user_id), user.user_id, without)
    return see(url_for("mail_preferences.show", done="kept"))
