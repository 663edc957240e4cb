"""The page of a person's second factors, and what can be done there. All of it needs fresh proof; whatever
changes them ends other sessions and is told by mail.

Setting up the first factor leads on to recovery codes, which are shown once, in the answer that makes them.
"""

from __future__ import annotations

from uuid import UUID

import segno
from markupsafe import Markup
from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import passkey_ceremony, web_session
from admin.passkey_ceremony import CeremonyFailed
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.errors import Conflict, NotFound
from storage.factors import select_factors
from storage.letter_kinds import LetterKind
from storage.outbox import Letter
from storage.passkeys import PASSKEYS_MAX, insert_passkey, remove_passkey
from storage.recovery_codes import replace_recovery_codes
from storage.totp import begin_totp, confirm_totp, provisioning_uri, remove_totp, select_begun_secret

NAME_CHARS_MAX = 100
WRONG_CODE = "That is not the app’s code. Is the phone’s clock, or the database’s, wrong?"  # noqa: RUF001
NO_PASSKEY = "The passkey could not be added. Try again, or another one."
DONE = {
    "app": "Your authenticator app is set up.",
    "passkey": "The passkey was added.",
    "removed": "It was removed, and your other sessions were ended.",
    "required": "Your organization requires a second factor. Set one up to go on.",
}

blueprint = Blueprint("factors", __name__, template_folder="templates")


@blueprint.get("/account/factors")
async def show() -> ResponseReturnValue:
    factors = await select_factors(services().db, web_session.require_user().user_id)
    done = DONE.get(request.args.get("done", ""))
    return await render_template("mfa/factors.html", factors=factors, done=done, most=PASSKEYS_MAX)


@blueprint.post("/account/factors/app")
async def begin_app() -> ResponseReturnValue:
    try:
        await begin_totp(services().db, services().master_keys, web_session.require_user().user_id)
    except Conflict:
        return see(url_for("factors.show"))
    return see(url_for("factors.show_app"))


@blueprint.get("/account/factors/app")
async def show_app() -> ResponseReturnValue:
    return await _render_app()


@blueprint.post("/account/factors/app/confirm")
async def confirm_app() -> ResponseReturnValue:
    user = web_session.require_user()
    code = (await request.form).get("code", "").replace(" ", "")
    try:
        right = await confirm_totp(
            services().db,
            web_session.actor(user.user_id),
            services().master_keys,
            user.user_id,
            code,
            _letter(LetterKind.FACTOR_ADDED, "An authenticator app"),
            keep_session=web_session.session_digest(),
        )
    except NotFound:
        return see(url_for("factors.show"))
    if not right:
        return await _render_app(WRONG_CODE)
    return await _lead_on("app")


@blueprint.post("/account/factors/app/remove")
async def remove_app() -> ResponseReturnValue:
    user = web_session.require_user()
    try:
        await remove_totp(
            services().db,
            web_session.actor(user.user_id),
            services().master_keys,
            user.user_id,
            _letter(LetterKind.FACTOR_REMOVED, "The authenticator app"),
            keep_session=web_session.session_digest(),
        )
    except NotFound:
        abort(404)
    return await _go_on("removed")


@blueprint.get("/account/factors/passkey")
async def show_passkey() -> ResponseReturnValue:
    return await _render_passkey()


@blueprint.post("/account/factors/passkey")
async def add_passkey() -> ResponseReturnValue:
    user = web_session.require_user()
    form = await request.form
    name = form.get("name", "").strip() or "Passkey"
    if len(name) > NAME_CHARS_MAX or not name.isprintable():
        problem = f"A name has at most {NAME_CHARS_MAX} characters."
        return await _render_passkey(problem), 422
    try:
        passkey = await passkey_ceremony.verify_registration(user.user_id, name, form.get("response", ""))
        await insert_passkey(
            services().db,
            web_session.actor(user.user_id),
            services().master_keys,
            passkey,
            _letter(LetterKind.FACTOR_ADDED, "A passkey"),
            keep_session=web_session.session_digest(),
        )
    except (CeremonyFailed, Conflict):
        return await _render_passkey(NO_PASSKEY), 422
    return await _lead_on("passkey")


@blueprint.post("/account/factors/passkey/<uuid:passkey_id>/remove")
async def remove_passkey_by_id(passkey_id: UUID) -> ResponseReturnValue:
    user = web_session.require_user()
    try:
        await remove_passkey(
            services().db,
            web_session.actor(user.user_id),
            services().master_keys,
            user.user_id,
            passkey_id,
            _letter(LetterKind.FACTOR_REMOVED, "A passkey"),
            keep_session=web_session.session_digest(),
        )
    except NotFound:
        abort(404)
    return await _go_on("removed")


@blueprint.get("/account/factors/recovery-codes")
async def show_codes() -> ResponseReturnValue:
    factors = await select_factors(services().db, web_session.require_user().user_id)
    if not factors.any:
        return see(url_for("factors.show"))
    done = DONE.get(request.args.get("done", ""))
    return await render_template("mfa/codes.html", factors=factors, done=done)


@blueprint.post("/account/factors/recovery-codes")
async def make_codes() -> ResponseReturnValue:
    user = web_session.require_user()
    if not (await select_factors(services().db, user.user_id)).any:
        abort(404)
    codes = await replace_recovery_codes(
        services().db,
        web_session.actor(user.user_id),
        user.user_id,
        session=web_session.session_digest(),
    )
    return await render_template("mfa/codes_once.html", codes=codes)


async def _render_app(problem: str | None = None) -> ResponseReturnValue:
    user = web_session.require_user()
    try:
        secret = await select_begun_secret(services().db, services().master_keys, user.user_id)
    except NotFound:
        return see(url_for("factors.show"))
    uri = provisioning_uri(secret, user.email)
    # Dark on light whatever the theme, since that is what cameras read; no style attributes, no size.
    drawn = segno.make(uri, error="m").svg_inline(border=3, light="#fff", dark="#000", omitsize=True)
    grouped = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
    # segno writes the drawing itself: nothing of what is drawn is in its markup.
    picture = Markup(drawn)  # noqa: S704
    page = await render_template("mfa/app.html", picture=picture, secret=grouped, problem=problem)
    return page, 422 if problem else 200


async def _render_passkey(problem: str | None = None) -> str:
    options = await passkey_ceremony.registration_options(web_session.require_user())
    return await render_template("mfa/passkey.html", options=options, problem=problem)


async def _lead_on(done: str) -> ResponseReturnValue:
    """To recovery codes, where there are none yet."""
    factors = await select_factors(services().db, web_session.require_user().user_id)
    if factors.recovery_codes_left:
        return await _go_on(done)
    return await _go_on(done, "factors.show_codes")


async def _go_on(done: str, page: str = "factors.show") -> ResponseReturnValue:
    """After a change of factors the session has a new token."""
    response = see(url_for(page, done=done))
    await web_session.prove(response)
    return response


def _letter(kind: LetterKind, what: str) -> Letter:
    return Letter(kind=kind, recipient=web_session.require_user().email, facts={"what": what})
