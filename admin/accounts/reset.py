"""A new password for who has forgotten theirs, by a link in a mail.

The page says the same of every address, after the same time. Setting the password ends every session and
signs nobody in: whoever has a second factor is asked for it at the next sign-in, as always.
"""

from __future__ import annotations

from quart import Blueprint, request, url_for
from quart.typing import ResponseReturnValue

from admin import password_rules, throttle, web_session
from admin.accounts import asking, links
from admin.accounts.asking import Asking
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.accounts import Letters, request_reset, reset_password
from storage.email_links import LinkPurpose
from storage.errors import NotFound
from storage.letter_kinds import LetterKind
from storage.outbox import Letter

ASKING = Asking(
    LinkPurpose.RESET_PASSWORD,
    throttle.RESET_ADDRESS,
    throttle.RESET_ACCOUNT,
    page="accounts/forgot.html",
    sent="reset.show_sent",
    write=lambda email, path: Letters(
        known=Letter(kind=LetterKind.RESET_PASSWORD, recipient=email, facts={"path": path}), unknown=None
    ),
    post=request_reset,
)

blueprint = Blueprint("reset", __name__, template_folder="templates")


@blueprint.get("/forgot-password")
async def show() -> ResponseReturnValue:
    return await render_template("accounts/forgot.html")


@blueprint.post("/forgot-password")
async def ask() -> ResponseReturnValue:
    return await asking.ask(ASKING)


@blueprint.get("/forgot-password/sent")
async def show_sent() -> ResponseReturnValue:
    return await render_template("accounts/sent.html", again=url_for("reset.show"))


@blueprint.get("/reset-password")
async def show_confirm() -> ResponseReturnValue:
    link = await links.find(LinkPurpose.RESET_PASSWORD)
    if link is None:
        return await _render_spent()
    return await render_template("accounts/reset.html", email=link.email)


@blueprint.post("/reset-password")
async def confirm() -> ResponseReturnValue:
    await throttle.count_address(throttle.LINK_ADDRESS)
    link = await links.find(LinkPurpose.RESET_PASSWORD)
    if link is None:
        return await _render_spent()
    password = (await request.form).get("password", "")
    if problem := await password_rules.find_problem(services().passwords, password, (link.email,)):
        problems = {"password": problem}
        return await render_template("accounts/reset.html", email=link.email, problems=problems), 422
    digest = await services().passwords.digest(password)
    told = Letter(kind=LetterKind.PASSWORD_CHANGED, recipient=link.email)
    try:
        await reset_password(
            services().db,
            web_session.actor(None),
            services().master_keys,
            links.token_digest(),
            digest,
            told,
        )
    except NotFound:
        return await _render_spent()
    await throttle.forgive(throttle.SIGN_IN_ACCOUNT, link.email)
    response = see(url_for("accounts.show_sign_in", reason="new-password"))
    web_session.delete_cookie(response, links.COOKIE)
    return response


async def _render_spent() -> ResponseReturnValue:
    return await render_template("accounts/link_spent.html", again=url_for("reset.show")), 410
