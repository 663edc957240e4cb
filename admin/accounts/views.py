"""Signing in and out. Whatever is wrong with a sign-in, the answer is the same, and takes the same time."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from quart import Blueprint, Response, request, url_for
from quart.typing import ResponseReturnValue

from admin import pending_sign_in, throttle, web_session
from admin.local_path import local_path
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.errors import NotFound, ProofRequired
from storage.passwords import PASSWORD_CHARS_MAX
from storage.sessions import Method
from storage.users import EMAIL_CHARS_MAX, has_factor, record_failed_sign_in, select_user_by_email

REFUSED = "That email address and password do not match."
REASONS = {
    "new-password": "Your password was set. Sign in with it.",
    "deleted": "Your account was deleted.",
    "too-late": "That took too long. Sign in once more.",
}
"""Why somebody is here who has just done something else."""

blueprint = Blueprint("accounts", __name__, template_folder="templates")


@blueprint.get("/sign-in")
async def show_sign_in() -> ResponseReturnValue:
    then = local_path(request.args.get("next"))
    if web_session.current_user() is not None:
        return see(then)
    reason = REASONS.get(request.args.get("reason", ""))
    return await render_template("accounts/sign_in.html", then=then, reason=reason)


@blueprint.post("/sign-in")
async def sign_in() -> ResponseReturnValue:
    await throttle.count_address(throttle.SIGN_IN_ADDRESS)
    form = await request.form
    email, password = form.get("email", ""), form.get("password", "")
    then = local_path(form.get("next"))
    db = services().db
    sound = len(email) <= EMAIL_CHARS_MAX and len(password) <= PASSWORD_CHARS_MAX
    account = email.strip().lower() if sound else ""
    await throttle.count(throttle.SIGN_IN_ACCOUNT, account)
    found = await select_user_by_email(db, email) if sound else None
    user, digest = found or (None, None)
    ok = await services().passwords.verify(password, digest)
    if not ok or user is None or digest is None:
        return await _refuse(email, then, None if user is None else user.user_id)
    try:
        response = await _let_in(user.user_id, digest, then)
    except NotFound:  # another password was set while this one was verified
        return await _refuse(email, then, user.user_id)
    await throttle.forgive(throttle.SIGN_IN_ACCOUNT, account)
    return response


async def _let_in(user_id: UUID, password_digest: bytes, then: str) -> Response:
    """Signs in, or on to the second factor. Raises NotFound when the password is the user's no more."""
    if not await has_factor(services().db, user_id):
        response = see(then)
        with suppress(ProofRequired):  # one was set up in this moment
            await web_session.sign_in(response, user_id, Method.PASSWORD, password_digest)
            return response
    response = see(url_for("second_factor.show", next=None if then == "/" else then))
    await pending_sign_in.begin(response, user_id, password_digest)
    return response


async def _refuse(email: str, then: str, user_id: UUID | None) -> ResponseReturnValue:
    await record_failed_sign_in(services().db, web_session.actor(None), user_id)
    # The address goes back into the form, the password does not.
    shown = email[:EMAIL_CHARS_MAX] if email.isprintable() else ""
    page = render_template("accounts/sign_in.html", problem=REFUSED, email=shown, then=then)
    return await page, 422


@blueprint.post("/sign-out")
async def sign_out() -> ResponseReturnValue:
    response = see(url_for("accounts.show_sign_in"))
    await web_session.sign_out(response)
    return response
