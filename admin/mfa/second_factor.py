"""Signing in: the second factor after a password, or a passkey instead of one."""

from __future__ import annotations

from uuid import UUID

from quart import Blueprint, request
from quart.typing import ResponseReturnValue

from admin import passkey_ceremony, pending_sign_in, throttle, web_session
from admin.local_path import local_path
from admin.passkey_ceremony import CeremonyFailed
from admin.redirect import see
from admin.rendering import render_template
from admin.services import services
from storage.errors import NotFound
from storage.factors import select_factors
from storage.letter_kinds import LetterKind
from storage.model import User
from storage.outbox import Letter
from storage.passkeys import ChallengePurpose
from storage.recovery_codes import use_recovery_code
from storage.sessions import Method
from storage.totp import use_totp
from storage.users import record_failed_sign_in

WRONG_CODE = "That is not the code. Each works once: wait for the next one."
WRONG_RECOVERY_CODE = "That is none of your recovery codes, or it was used."
WRONG_PASSKEY = "That passkey did not work. Try again."

blueprint = Blueprint("second_factor", __name__, template_folder="templates")


@blueprint.get("/sign-in/second-factor")
async def show() -> ResponseReturnValue:
    return await _render(await pending_sign_in.require_user())


@blueprint.post("/sign-in/second-factor/code")
async def by_code() -> ResponseReturnValue:
    user = await _count_code()
    code = (await request.form).get("code", "").replace(" ", "")
    if not await use_totp(services().db, services().master_keys, user.user_id, code):
        await _note_failure(user.user_id, "totp")
        return await _render(user, problem=WRONG_CODE), 422
    await throttle.give_back(throttle.CODE_ACCOUNT, str(user.user_id))
    return await _complete(user, Method.PASSWORD_TOTP)


@blueprint.post("/sign-in/second-factor/passkey")
async def by_passkey() -> ResponseReturnValue:
    user = await _count()
    response = (await request.form).get("response", "")
    try:
        passkey = await passkey_ceremony.verify_signature(
            ChallengePurpose.SECOND_FACTOR, user.user_id, response
        )
    except CeremonyFailed:
        await _note_failure(user.user_id, "passkey")
        return await _render(user, passkey_problem=WRONG_PASSKEY), 422
    return await _complete(user, Method.PASSWORD_PASSKEY, passkey.credential_id)


@blueprint.get("/sign-in/recovery-code")
async def show_recovery() -> ResponseReturnValue:
    await pending_sign_in.require_user()
    return await render_template("mfa/recovery.html", then=_then())


@blueprint.post("/sign-in/recovery-code")
async def by_recovery_code() -> ResponseReturnValue:
    user = await _count_code()
    code = (await request.form).get("code", "")
    told = Letter(kind=LetterKind.RECOVERY_CODE_USED, recipient=user.email)
    used = await use_recovery_code(
        services().db, web_session.actor(user.user_id), services().master_keys, user.user_id, code, told
    )
    if not used:
        await _note_failure(user.user_id, "recovery code")
        return await render_template("mfa/recovery.html", problem=WRONG_RECOVERY_CODE, then=_then()), 422
    await throttle.give_back(throttle.CODE_ACCOUNT, str(user.user_id))
    return await _complete(user, Method.PASSWORD_RECOVERY_CODE)


@blueprint.get("/sign-in/passkey")
async def show_passkey() -> ResponseReturnValue:
    await throttle.count_address(throttle.CHALLENGE_ADDRESS)
    return await _render_passkey()


@blueprint.post("/sign-in/passkey")
async def by_passkey_alone() -> ResponseReturnValue:
    await throttle.count_address(throttle.SIGN_IN_ADDRESS)
    response = (await request.form).get("response", "")
    answer = see(await _posted_then())
    try:
        passkey = await passkey_ceremony.verify_signature(ChallengePurpose.SIGN_IN, None, response)
        await web_session.sign_in(
            answer, passkey.user_id, Method.PASSKEY, credential_id=passkey.credential_id
        )
    except (CeremonyFailed, NotFound):
        await _note_failure(None, "passkey")
        return await _render_passkey(WRONG_PASSKEY), 422
    return answer


async def _count() -> User:
    """Whose second factor is awaited, and one more try counted."""
    await throttle.count_address(throttle.PROOF_ADDRESS)
    user = await pending_sign_in.require_user()
    await throttle.count(throttle.PROOF_ACCOUNT, str(user.user_id))
    return user


async def _count_code() -> User:
    """The same of a code, which can be guessed."""
    user = await _count()
    await throttle.count(throttle.CODE_ACCOUNT, str(user.user_id))
    return user


async def _complete(user: User, method: Method, credential_id: bytes | None = None) -> ResponseReturnValue:
    response = see(await _posted_then())
    await pending_sign_in.complete(response, user.user_id, method, credential_id)
    await throttle.forgive(throttle.PROOF_ACCOUNT, str(user.user_id))
    return response


async def _note_failure(user_id: UUID | None, by: str) -> None:
    await record_failed_sign_in(services().db, web_session.actor(None), user_id, by)


async def _render(user: User, problem: str | None = None, passkey_problem: str | None = None) -> str:
    factors = await select_factors(services().db, user.user_id)
    options = None
    if factors.passkeys:
        options = await passkey_ceremony.signing_options(ChallengePurpose.SECOND_FACTOR, user.user_id)
    return await render_template(
        "mfa/second_factor.html",
        factors=factors,
        options=options,
        problem=problem,
        passkey_problem=passkey_problem,
        then=_then() if request.method == "GET" else await _posted_then(),
    )


async def _render_passkey(problem: str | None = None) -> str:
    options = await passkey_ceremony.signing_options(ChallengePurpose.SIGN_IN, None)
    return await render_template(
        "mfa/passkey_sign_in.html", options=options, problem=problem, then=await _posted_then()
    )


def _then() -> str:
    return local_path(request.args.get("next"))


async def _posted_then() -> str:
    return local_path((await request.form).get("next") or request.args.get("next"))
