"""Where Postmark tells of addresses that take no mail: bounces, complaints, and changes of its own lists.

Postmark signs nothing: the webhook's URL carries a user and a password, which come as HTTP basic
authentication (https://postmark:PASSWORD@admin.example.com/webhooks/postmark). Without a password in the
settings there is no such page. Bodies are bounded as forms are, and what is told again changes nothing.

A bounce counts when Postmark has made the address inactive for it: it tells of passing troubles as well.
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime

import msgspec
from quart import Blueprint, abort, request
from quart.typing import ResponseReturnValue

from admin import throttle
from admin.services import services
from storage.errors import CheckFailed, InvalidValue
from storage.model import Actor, ActorKind
from storage.suppressions import EVERY_STREAM, Reason, reactivate, suppress

USER = "postmark"
ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="postmark")
_REASONS = {
    "HardBounce": Reason.HARD_BOUNCE,
    "SpamComplaint": Reason.SPAM_COMPLAINT,
    "ManualSuppression": Reason.UNSUBSCRIBED,
}

blueprint = Blueprint("suppressions_webhook", __name__)


class _Told(msgspec.Struct, rename="pascal"):
    """What is read of Postmark's three kinds; which fields there are depends on the kind."""

    record_type: str
    message_stream: str = "outbound"
    type: str = ""
    email: str = ""
    recipient: str = ""
    inactive: bool = False
    suppress_sending: bool | None = None
    suppression_reason: str | None = None
    bounced_at: datetime | None = None
    changed_at: datetime | None = None


_decoder = msgspec.json.Decoder(_Told)


@blueprint.post("/webhooks/postmark")
async def take() -> ResponseReturnValue:
    expected = services().settings.postmark_webhook_password
    if expected is None:
        abort(404)
    await throttle.count_address(throttle.POSTMARK_ADDRESS)
    given = request.authorization
    user, password = (given.username or "", given.password or "") if given is not None else ("", "")
    right = hmac.compare_digest(password.encode(), expected.get_secret_value().encode())
    if not (right and user == USER):
        return "", 401, {"WWW-Authenticate": 'Basic realm="postmark"'}
    body = await request.get_data(cache=False)
    try:
        await _note(_decoder.decode(body))
    except (msgspec.DecodeError, CheckFailed, InvalidValue):
        # Postmark would tell the same again for hours: nothing of it can be used.
        return "", 422
    return "", 204


async def _note(told: _Told) -> None:
    db, email = services().db, told.email or told.recipient
    at = told.bounced_at or told.changed_at or datetime.now(UTC)
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    if told.record_type in ("Bounce", "SpamComplaint") and told.inactive:
        reason = _REASONS.get(told.type, Reason.INACTIVE)
        await suppress(db, ACTOR, email, _stream(reason, told), reason, at)
    elif told.record_type == "SubscriptionChange" and told.suppress_sending is not None:
        if told.suppress_sending:
            reason = _REASONS.get(told.suppression_reason or "", Reason.INACTIVE)
            await suppress(db, ACTOR, email, _stream(reason, told), reason, at)
        else:
            await reactivate(db, ACTOR, email, told.message_stream, at)


def _stream(reason: Reason, told: _Told) -> str:
    return EVERY_STREAM if reason is Reason.HARD_BOUNCE else told.message_stream
