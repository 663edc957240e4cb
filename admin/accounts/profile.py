"""A person's own page: address, password, sessions, and leaving. What could lock the owner out needs fresh
proof of who they are (see `authorization`)."""

from __future__ import annotations

from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import password_rules, throttle, web_session
from admin.accounts import links
from admin.accounts.asking import NO_ADDRESS
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage import accounts
from storage.accounts import Letters
from storage.email_links import LinkPurpose
from storage.errors import Conflict, InvalidValue, NotFound
from storage.letter_kinds import LetterKind
from storage.outbox import Letter
from storage.sessions import end_other_sessions, end_session, select_sessions
from storage.suppressions import select_suppressions
from storage.users import normalize_email

DONE = {
    "password": "Your password was changed, and your other sessions were ended.",
    "email": "Your address was changed.",
    "email-sent": "Follow the link that was sent to the new address. Until then nothing changes.",
    "session": "The session was ended.",
}

blueprint = Blueprint("profile", __name__, template_folder="templates")


@blueprint.get("/account")
async def show() -> ResponseReturnValue:
    user = web_session.require_user()
    idle_seconds = services().settings.session_idle_minutes * 60
    return await render_template(
        "accounts/profile.html",
        user=user,
        has_factor=web_session.require().has_factor,
        here=web_session.current_session(),
        sessions=await select_sessions(services().db, user.user_id, idle_seconds),
        suppressed=await select_suppressions(services().db, email=user.email, limit=1),
        done=DONE.get(request.args.get("done", "")),
    )


@blueprint.get("/account/password")
async def show_password() -> ResponseReturnValue:
    return await render_template("accounts/change_password.html")


@blueprint.post("/account/password")
async def change_password() -> ResponseReturnValue:
    user = web_session.require_user()
    password = (await request.form).get("password", "")
    if problem := await password_rules.find_problem(services().passwords, password, (user.email,)):
        problems = {"password": problem}
        return await render_template("accounts/change_password.html", problems=problems), 422
    digest = await services().passwords.digest(password)
    told = Letter(kind=LetterKind.PASSWORD_CHANGED, recipient=user.email)
    await accounts.change_password(
        services().db,
        web_session.actor(user.user_id),
        services().master_keys,
        user.user_id,
        digest,
        told,
        keep_session=web_session.session_digest(),
    )
    response = see(url_for("profile.show", done="password"))
    await web_session.prove(response)
    return response


@blueprint.get("/account/email")
async def show_email() -> ResponseReturnValue:
    return await render_template("accounts/change_email.html", user=web_session.require_user())


@blueprint.post("/account/email")
async def change_email() -> ResponseReturnValue:
    user = web_session.require_user()
    try:
        email = normalize_email((await request.form).get("email", ""))
    except InvalidValue:
        page = render_template("accounts/change_email.html", user=user, problems={"email": NO_ADDRESS})
        return await page, 422
    await throttle.count(throttle.EMAIL_CHANGE_ACCOUNT, str(user.user_id))
    token = web_session.new_token()
    told = Letters(
        known=Letter(kind=LetterKind.EMAIL_TAKEN, recipient=email),
        unknown=Letter(
            kind=LetterKind.CHANGE_EMAIL,
            recipient=email,
            facts={"path": links.make(LinkPurpose.CHANGE_EMAIL, token)},
        ),
    )
    await accounts.request_email_change(
        services().db,
        web_session.actor(user.user_id),
        services().master_keys,
        user.user_id,
        email,
        web_session.digest(token),
        told,
        session=web_session.session_digest(),
    )
    return see(url_for("profile.show", done="email-sent"))


@blueprint.get("/account/email/confirm")
async def show_confirm_email() -> ResponseReturnValue:
    link = await links.find(LinkPurpose.CHANGE_EMAIL)
    if link is None:
        return await _render_spent()
    return await render_template("accounts/confirm_email.html", email=link.email)


@blueprint.post("/account/email/confirm")
async def confirm_email() -> ResponseReturnValue:
    """Open to whoever has the link: `accounts.complete_email_change` says why that is enough."""
    await throttle.count_address(throttle.LINK_ADDRESS)
    link = await links.find(LinkPurpose.CHANGE_EMAIL)
    if link is None:
        return await _render_spent()
    try:
        await accounts.complete_email_change(
            services().db,
            web_session.actor(link.user_id),
            services().master_keys,
            links.token_digest(),
            Letter(kind=LetterKind.EMAIL_CHANGED, recipient=link.email, facts={"new_email": link.email}),
        )
    except (NotFound, Conflict):
        return await _render_spent()
    response = see(url_for("profile.show", done="email"))
    web_session.delete_cookie(response, links.COOKIE)
    return response


@blueprint.post("/account/sessions/<uuid:session_id>/end")
async def end_session_by_id(session_id: UUID) -> ResponseReturnValue:
    user = web_session.require_user()
    try:
        await end_session(services().db, web_session.actor(user.user_id), user.user_id, session_id)
    except NotFound:
        abort(404)
    return see(url_for("profile.show", done="session"))


@blueprint.post("/account/sessions/end-others")
async def end_others() -> ResponseReturnValue:
    user = web_session.require_user()
    await end_other_sessions(
        services().db, web_session.actor(user.user_id), user.user_id, web_session.session_digest()
    )
    return see(url_for("profile.show", done="session"))


@blueprint.get("/account/delete")
async def show_delete() -> ResponseReturnValue:
    return await render_template("accounts/delete.html", user=web_session.require_user())


@blueprint.post("/account/delete")
async def delete() -> ResponseReturnValue:
    user = web_session.require_user()
    if (await request.form).get("email", "").strip().lower() != user.email:
        problems = {"email": "Type your own address as it stands above."}
        return await render_template("accounts/delete.html", user=user, problems=problems), 422
    try:
        await accounts.delete_account(
            services().db,
            web_session.actor(user.user_id),
            services().master_keys,
            user.user_id,
            Letter(kind=LetterKind.ACCOUNT_DELETED, recipient=user.email),
            session=web_session.session_digest(),
        )
    except Conflict:
        return await render_template("accounts/delete.html", user=user, only_owner=True), 409
    response = see(url_for("accounts.show_sign_in", reason="deleted"))
    await web_session.sign_out(response)
    return response


async def _render_spent() -> ResponseReturnValue:
    return await render_template("accounts/link_spent.html", again=url_for("profile.show")), 410
