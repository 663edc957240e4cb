"""Signing up: an address first, a link by mail, then a password and an organization's name.

The page says the same of every address, after the same time; whether there is an account already is told by
mail alone. No password is taken from somebody who has not shown that the address is theirs.
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
from storage.accounts import Letters, complete_sign_up, request_sign_up
from storage.email_links import LinkPurpose
from storage.errors import Conflict, NotFound
from storage.letter_kinds import LetterKind
from storage.outbox import Letter
from storage.sessions import Method

NAME_CHARS_MAX = 200


def _write(email: str, path: str) -> Letters:
    return Letters(
        known=Letter(kind=LetterKind.ALREADY_SIGNED_UP, recipient=email),
        unknown=Letter(kind=LetterKind.SIGN_UP, recipient=email, facts={"path": path}),
    )


ASKING = Asking(
    LinkPurpose.SIGN_UP,
    throttle.SIGN_UP_ADDRESS,
    throttle.SIGN_UP_ACCOUNT,
    page="accounts/sign_up.html",
    sent="sign_up.show_sent",
    write=_write,
    post=request_sign_up,
)

blueprint = Blueprint("sign_up", __name__, template_folder="templates")


@blueprint.get("/sign-up")
async def show() -> ResponseReturnValue:
    return await render_template("accounts/sign_up.html")


@blueprint.post("/sign-up")
async def ask() -> ResponseReturnValue:
    return await asking.ask(ASKING)


@blueprint.get("/sign-up/sent")
async def show_sent() -> ResponseReturnValue:
    return await render_template("accounts/sent.html", again=url_for("sign_up.show"))


@blueprint.get("/sign-up/confirm")
async def show_confirm() -> ResponseReturnValue:
    link = await links.find(LinkPurpose.SIGN_UP)
    if link is None:
        return await _render_spent()
    return await render_template("accounts/sign_up_confirm.html", email=link.email)


@blueprint.post("/sign-up/confirm")
async def confirm() -> ResponseReturnValue:
    await throttle.count_address(throttle.LINK_ADDRESS)
    link = await links.find(LinkPurpose.SIGN_UP)
    if link is None:
        return await _render_spent()
    form = await request.form
    name, password = form.get("organization", "").strip(), form.get("password", "")
    problems = {}
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable():
        problems["organization"] = f"A name has 1 to {NAME_CHARS_MAX} characters."
    if problem := await password_rules.find_problem(services().passwords, password, (link.email, name)):
        problems["password"] = problem
    if problems:
        page = render_template(
            "accounts/sign_up_confirm.html", email=link.email, organization=name, problems=problems
        )
        return await page, 422
    digest = await services().passwords.digest(password)
    try:
        user, _ = await complete_sign_up(
            services().db, web_session.actor(None), links.token_digest(), digest, name
        )
    except (NotFound, Conflict):
        return await _render_spent()
    response = see(url_for("keys.show_home"))
    web_session.delete_cookie(response, links.COOKIE)
    await web_session.sign_in(response, user.user_id, Method.PASSWORD)
    return response


async def _render_spent() -> ResponseReturnValue:
    return await render_template("accounts/link_spent.html", again=url_for("sign_up.show")), 410
