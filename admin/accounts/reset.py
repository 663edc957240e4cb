"""A new password for who has forgotten theirs, by a link in a mail.

The page says the same of every address, after the same time. Setting the password ends every session and
signs nobody in: whoever has a second factor is asked for it at the next sign-in, as always.
"""

from __future__ import annotations

from quart import Blueprint, render_template, request, url_for
from quart.typing import ResponseReturnValue

from admin import password_rules, throttle, web_session
from admin.accounts import letters, links
from admin.accounts.sign_up import NO_ADDRESS
from admin.accounts.steady_time import steady_time
from admin.redirect import see
from admin.services import services
from storage.accounts import Letters, request_reset, reset_password
from storage.email_links import LinkPurpose
from storage.errors import InvalidValue, NotFound
from storage.users import normalize_email

blueprint = Blueprint("reset", __name__, template_folder="templates")


@blueprint.get("/forgot-password")
async def show() -> ResponseReturnValue:
    return await render_template("accounts/forgot.html")


@blueprint.post("/forgot-password")
async def ask() -> ResponseReturnValue:
    await throttle.count_address(throttle.RESET_ADDRESS)
    try:
        email = normalize_email((await request.form).get("email", ""))
    except InvalidValue:
        return await render_template("accounts/forgot.html", problem=NO_ADDRESS), 422
    async with steady_time():
        await throttle.count(throttle.RESET_ACCOUNT, email)
        token = web_session.new_token()
        told = Letters(
            known=letters.reset_password(email, links.make(LinkPurpose.RESET_PASSWORD, token)), unknown=None
        )
        await request_reset(
            services().db,
            web_session.actor(None),
            services().master_keys,
            email,
            web_session.digest(token),
            told,
        )
    return see(url_for("reset.show_sent"))


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
    told = letters.password_changed(link.email, services().origin + url_for("reset.show"))
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
