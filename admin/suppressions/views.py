"""How mail goes, for the platform's operators: what waits and what failed, and which addresses get none. Each
look is recorded."""

from __future__ import annotations

from quart import Blueprint, request, url_for
from quart.typing import ResponseReturnValue

from admin import web_session
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.errors import NotFound
from storage.model import Actor
from storage.outbox import select_failures, select_standing
from storage.staff import record_view
from storage.suppressions import lift, select_suppressions
from storage.users import EMAIL_CHARS_MAX

ROWS_SHOWN = 50

blueprint = Blueprint("suppressions", __name__, template_folder="templates")


@blueprint.get("/staff/mail")
async def show() -> ResponseReturnValue:
    email = request.args.get("email", "").strip()[:EMAIL_CHARS_MAX]
    await record_view(services().db, _actor(), None, "mail")
    return await render_template(
        "suppressions/mail.html",
        standing=await select_standing(services().db),
        failures=await select_failures(services().db, ROWS_SHOWN),
        suppressions=await select_suppressions(services().db, email=email or None, limit=ROWS_SHOWN),
        email=email,
        sends=services().settings.sends_mail,
        done="The address gets mail again." if request.args.get("done") == "lifted" else None,
    )


@blueprint.post("/staff/mail/lift")
async def lift_one() -> ResponseReturnValue:
    form = await request.form
    try:
        await lift(services().db, _actor(), form.get("email", ""), form.get("stream", ""))
    except NotFound:
        return see(url_for("suppressions.show"))
    return see(url_for("suppressions.show", done="lifted"))


def _actor() -> Actor:
    return web_session.actor(web_session.require_user().user_id)
