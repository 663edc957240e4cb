"""The two ceremonies of WebAuthn: a browser makes a passkey, a browser signs with one.

Options go into the page as JSON, the browser's answer comes back as a field of an ordinary form, so forms
and their proofs are as everywhere. The challenge in the answer is taken away first, and only then is
anything checked: origin, name, signature, counter, and whether the authenticator saw its user. Answers made
inside another site's frame are refused (webauthn lets them pass).

As a second factor a passkey needs no more than its owner's touch. Where it is all there is (signing in
without a password, proof before something sensitive) it must have verified its user, by a PIN or a finger.
"""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import msgspec
import webauthn
from webauthn.helpers import base64url_to_bytes
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from admin import web_session
from admin.services import services
from storage.errors import NotFound
from storage.model import User
from storage.passkeys import (
    ChallengePurpose,
    Passkey,
    create_challenge,
    ensure_handle,
    note_passkey_used,
    select_passkey,
    select_passkeys,
    take_challenge,
)

RP_NAME = "Karta"
RESPONSE_CHARS_MAX = 16 * 1024
"""A registration without attestation is about 1.5 KiB."""
_USER_MUST_BE_VERIFIED = frozenset({ChallengePurpose.SIGN_IN, ChallengePurpose.PROOF})


class CeremonyFailed(Exception):
    """The answer proves nothing. Says nothing of why: the browser's user can only try again."""


class _ClientData(msgspec.Struct):
    """What matters to us of what the browser signed; the library checks type and origin."""

    challenge: str
    cross_origin: bool = msgspec.field(name="crossOrigin", default=False)
    top_origin: str | None = msgspec.field(name="topOrigin", default=None)


async def registration_options(user: User) -> str:
    """For `navigator.credentials.create`, as JSON."""
    db = services().db
    known = await select_passkeys(db, user.user_id)
    options = webauthn.generate_registration_options(
        rp_id=services().host,
        rp_name=RP_NAME,
        user_name=user.email,
        user_id=await ensure_handle(db, user.user_id),
        challenge=await create_challenge(db, ChallengePurpose.REGISTER, _holder()),
        timeout=120_000,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED,
            user_verification=UserVerificationRequirement.PREFERRED,
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=one.credential_id) for one in known],
    )
    return webauthn.options_to_json(options)


async def verify_registration(user_id: UUID, name: str, response: str) -> Passkey:
    """The passkey that was made, not kept yet. Raises `CeremonyFailed`."""
    challenge, credential = await _take(ChallengePurpose.REGISTER, response)
    try:
        verified = webauthn.verify_registration_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=services().host,
            expected_origin=services().origin,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError):
        raise CeremonyFailed from None
    created_at = web_session.current_session().last_seen_at
    return Passkey(
        credential_id=verified.credential_id,
        passkey_id=uuid4(),
        user_id=user_id,
        name=name,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        backed_up=verified.credential_backed_up,
        created_at=created_at,
        last_used_at=None,
    )


async def signing_options(purpose: ChallengePurpose, user_id: UUID | None) -> str:
    """For `navigator.credentials.get`, as JSON: of a known user their passkeys, else any the browser has."""
    db = services().db
    known = [] if user_id is None else await select_passkeys(db, user_id)
    options = webauthn.generate_authentication_options(
        rp_id=services().host,
        challenge=await create_challenge(db, purpose, _holder()),
        timeout=120_000,
        allow_credentials=[PublicKeyCredentialDescriptor(id=one.credential_id) for one in known],
        user_verification=_verification(purpose),
    )
    return webauthn.options_to_json(options)


async def verify_signature(purpose: ChallengePurpose, user_id: UUID | None, response: str) -> Passkey:
    """The passkey that signed; of a known user only theirs will do. Raises `CeremonyFailed`."""
    db = services().db
    challenge, credential = await _take(purpose, response)
    try:
        passkey, handle = await select_passkey(db, base64url_to_bytes(str(credential["rawId"])))
        if user_id is not None and passkey.user_id != user_id:
            raise CeremonyFailed
        _check_handle(credential, handle, required=user_id is None)
        verified = webauthn.verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=services().host,
            expected_origin=services().origin,
            credential_public_key=passkey.public_key,
            # The library would raise here; our own check below is atomic, and covers all cases.
            credential_current_sign_count=0,
            require_user_verification=purpose in _USER_MUST_BE_VERIFIED,
        )
    except (WebAuthnException, NotFound, ValueError, KeyError, TypeError):
        raise CeremonyFailed from None
    if not await note_passkey_used(
        db, passkey.credential_id, verified.new_sign_count, verified.credential_backed_up
    ):
        raise CeremonyFailed
    return passkey


def _verification(purpose: ChallengePurpose) -> UserVerificationRequirement:
    if purpose in _USER_MUST_BE_VERIFIED:
        return UserVerificationRequirement.REQUIRED
    return UserVerificationRequirement.PREFERRED


def _check_handle(credential: dict[str, object], handle: bytes, *, required: bool) -> None:
    """A passkey that names its user must name the one we know it by."""
    answer = credential["response"]
    told = answer.get("userHandle") if isinstance(answer, dict) else None
    if told is None and not required:
        return
    if base64url_to_bytes(str(told)) != handle:
        raise CeremonyFailed


async def _take(purpose: ChallengePurpose, response: str) -> tuple[bytes, dict[str, object]]:
    """The challenge of an answer, used up, and the answer. Raises `CeremonyFailed`."""
    if len(response) > RESPONSE_CHARS_MAX:
        raise CeremonyFailed
    try:
        credential = json.loads(response)
        data = base64url_to_bytes(credential["response"]["clientDataJSON"])
        client = msgspec.json.decode(data, type=_ClientData)
        challenge = base64url_to_bytes(client.challenge)
        await take_challenge(services().db, purpose, _holder(), challenge)
    except (NotFound, ValueError, KeyError, TypeError, RecursionError, msgspec.MsgspecError):
        raise CeremonyFailed from None
    if client.cross_origin or client.top_origin is not None:
        raise CeremonyFailed
    return challenge, credential


def _holder() -> bytes:
    """The browser, by the cookie that its forms go with."""
    return web_session.digest(web_session.form_secret())
