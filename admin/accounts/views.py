"""Signing in and out. Whatever is wrong with a sign-in, the answer is the same, and takes the same time."""

from __future__ import annotations

from quart import Blueprint, render_template, request, url_for
from quart.typing import ResponseReturnValue
from quart_trio.wrappers import TrioResponse

from admin import web_session
from admin.services import services
from storage.passwords import PASSWORD_CHARS_MAX
from storage.users import EMAIL_CHARS_MAX, record_sign_in, select_user_by_email

REFUSED = "That email address and password do not match."

blueprint = Blueprint("accounts", __name__, template_folder="templates")


@blueprint.get("/sign-in")
async def show_sign_in() -> ResponseReturnValue:
    if web_session.current_user() is not None:
        return _see(url_for("keys.show_home"))
    return await render_template("accounts/sign_in.html")


@blueprint.post("/sign-in")
async def sign_in() -> ResponseReturnValue:
    form = await request.form
    email, password = form.get("email", ""), form.get("password", "")
    db = services().db
    sound = len(email) <= EMAIL_CHARS_MAX and len(password) <= PASSWORD_CHARS_MAX
    found = await select_user_by_email(db, email) if sound else None
    user, digest = found or (None, None)
    ok = await services().passwords.verify(password, digest)
    user_id = None if user is None else user.user_id
    await record_sign_in(db, web_session.actor(user_id if ok else None), user_id, ok)
    if not ok or user_id is None:
        # The address goes back into the form, the password does not.
        shown = email[:EMAIL_CHARS_MAX] if email.isprintable() else ""
        return await render_template("accounts/sign_in.html", problem=REFUSED, email=shown), 422
    response = _see(url_for("keys.show_home"))
    await web_session.sign_in(response, user_id)
    return response


@blueprint.post("/sign-out")
async def sign_out() -> ResponseReturnValue:
    response = _see(url_for("accounts.show_sign_in"))
    await web_session.sign_out(response)
    return response


def _see(location: str) -> TrioResponse:
    """What is at another place, now to be fetched by GET."""
    return TrioResponse("", status=303, headers={"Location": location})
