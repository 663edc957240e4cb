"""Sends what waits in the outbox, by Postmark. A job of the control plane; each process does it.

A round claims messages and commits that, hands them over, and notes what came of each. Between any two of
these steps the process may die:

- claimed, not handed over: the claim runs out, Postmark is asked, knows nothing, and the message is sent; -
handed over, not noted: the claim runs out, Postmark is asked, and has it: noted as sent, and not sent again.

So a letter is sent once, as far as Postmark's search shows what it took before `LEASE_SECONDS` have passed.
Where nobody can tell, a letter is sent again rather than lost.

What Postmark does not take for now is tried again, at growing intervals with jitter, until `EXPIRES_AFTER`;
what it never takes is given up with its reason. Addresses that get no mail (`storage.suppressions`) are not
tried at all.

Bounds: so many messages of a round, in memory as plain text only while they are handed over; a round ends
before its claim does."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import trio

from admin.mail.postmark import (
    INACTIVE_CODE,
    NotTaken,
    Outgoing,
    Postmark,
    Refused,
    Rejected,
    Taken,
    Unknown,
    open_postmark,
)
from admin.mail.rendering import NotALetter, render
from admin.services import Services
from storage.bridge import Database
from storage.errors import NotFound, StorageError
from storage.letter_kinds import BROADCASTS, LetterKind
from storage.model import Actor, ActorKind
from storage.outbox import Message, claim, mark_failed, mark_sent, put_off
from storage.sealing import MasterKeys
from storage.suppressions import EVERY_STREAM, Reason, select_suppressed, suppress

EVERY_SECONDS = 2.0
AFTER_TROUBLE_SECONDS = 10.0
BATCH_MESSAGES_MAX = 50
"""Postmark takes 500; after a crash each is asked for by itself."""
UNSURE_MESSAGES_MAX = 5
LEASE_SECONDS = 120.0
ROUND_SECONDS_MAX = 100.0
"""Less than the lease: nobody hands over what somebody else may have claimed by then."""
FIRST_WAIT_SECONDS = 15.0
WAIT_SECONDS_MAX = 3600.0
EXPIRES_AFTER = timedelta(days=3)
ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="mailer")
_UNSAFE = set(' ,;<>"()[]\\')
_random = secrets.SystemRandom()
_log = logging.getLogger("karta.admin")


async def keep_sending(services: Services) -> None:
    """For ever; cancel it to stop. Without Postmark's token it does nothing."""
    settings = services.settings
    token, sender, keys = settings.postmark_token, settings.mail_from, services.loaded_master_keys
    if token is None or sender is None or keys is None:
        if settings.env == "production":
            _log.warning(
                "no mail is sent: set KARTA_POSTMARK_TOKEN and KARTA_MAIL_FROM. It waits in the outbox"
            )
        return
    streams = settings.postmark_stream, settings.postmark_broadcast_stream
    async with open_postmark(settings.postmark_url, token, sender) as postmark:
        mailer = Mailer(services.db, keys, postmark, services.origin, streams)
        while True:
            try:
                seconds = await mailer.do_round()
            except StorageError as error:
                _log.warning("mail waits: %s", error)
                seconds = AFTER_TROUBLE_SECONDS
            await trio.sleep(seconds)


class Mailer:
    """Rounds of sending. `streams` are Postmark's for letters to one, and to many."""

    def __init__(
        self,
        db: Database,
        master_keys: MasterKeys,
        postmark: Postmark,
        origin: str,
        streams: tuple[str, str] = ("outbound", "broadcast"),
    ) -> None:
        self._db = db
        self._master_keys = master_keys
        self._postmark = postmark
        self._origin = origin
        self._streams = streams
        self._pause_seconds = 0.0

    async def do_round(self) -> float:
        """Returns after how many seconds to come again: 0 when there may be more. Raises StorageError."""
        self._pause_seconds = 0.0
        with trio.move_on_after(ROUND_SECONDS_MAX):
            found = await self._send_claimed(unsure=True) + await self._send_claimed(unsure=False)
            return self._pause_seconds or (0.0 if found else EVERY_SECONDS)
        _log.warning("mail waits: a round took longer than %d s", ROUND_SECONDS_MAX)
        return AFTER_TROUBLE_SECONDS

    async def _send_claimed(self, *, unsure: bool) -> int:
        limit = UNSURE_MESSAGES_MAX if unsure else BATCH_MESSAGES_MAX
        claimed, messages = await claim(
            self._db, self._master_keys, unsure=unsure, limit=limit, seconds=LEASE_SECONDS
        )
        if unsure:
            messages = await self._find_sent(claimed, messages)
        outgoing = await self._prepare(claimed, messages)
        for stream in self._streams:
            if batch := [one for one in outgoing if one.stream == stream]:
                await self._send(claimed, batch, {one.message_id: one.attempts for one in messages})
        return len(messages)

    async def _find_sent(self, claimed: UUID, messages: Sequence[Message]) -> list[Message]:
        """Asks of each whether it was sent; returns those that were not."""
        left = []
        for message in messages:
            try:
                found = await self._postmark.find(message.message_id, self._stream(message))
            except (NotTaken, Unknown) as error:
                _log.warning("it is not known whether a letter was sent: %s", error)
                await self._put_off(claimed, [message.message_id], message.attempts, unsure=True)
                continue
            if found is None:
                left.append(message)
            else:
                await self._note(claimed, message.message_id, found)
        return left

    async def _prepare(self, claimed: UUID, messages: Sequence[Message]) -> list[Outgoing]:
        """Words for what can be sent; the rest is given up or put off."""
        recipients = [message.letter.recipient for message in messages if message.letter is not None]
        suppressed = await select_suppressed(self._db, recipients)
        prepared = []
        for message in messages:
            stream, letter = self._stream(message), message.letter
            if datetime.now(UTC) - message.created_at > EXPIRES_AFTER:
                await self._give_up(claimed, message.message_id, "it could not be sent for three days")
            elif letter is None:
                _log.error("a letter does not open: was a master key taken away?")
                await self._put_off(claimed, [message.message_id], message.attempts)
            elif {(letter.recipient, stream), (letter.recipient, EVERY_STREAM)} & suppressed:
                await self._give_up(claimed, message.message_id, "the address is suppressed")
            elif not letter.recipient.isprintable() or _UNSAFE & set(letter.recipient):
                await self._give_up(claimed, message.message_id, "that is no address for a header")
            else:
                try:
                    mail = render(letter, self._origin)
                except NotALetter as error:
                    _log.error("a letter cannot be written: %s", error)
                    await self._put_off(claimed, [message.message_id], message.attempts)
                else:
                    prepared.append(Outgoing(message.message_id, stream, letter.kind.value, mail))
        return prepared

    async def _send(self, claimed: UUID, batch: Sequence[Outgoing], attempts: dict[UUID, int]) -> None:
        ids = [one.message_id for one in batch]
        most = max(attempts[message_id] for message_id in ids)
        try:
            results = await self._postmark.send(batch)
        except Rejected as error:
            _log.warning("Postmark refused %d letters together: %s", len(batch), error)
            for one in batch:
                await self._send(claimed, [one], attempts)
        except NotTaken as error:
            _log.warning("mail waits: Postmark %s", error)
            self._pause_seconds = max(AFTER_TROUBLE_SECONDS, error.retry_after_seconds or 0.0)
            await self._put_off(claimed, ids, most, at_least=error.retry_after_seconds)
        except Unknown as error:
            # They stay claimed, and are asked for when the claim has run out.
            _log.warning("it is not known whether %d letters were sent: %s", len(batch), error)
        else:
            for one, result in zip(batch, results, strict=True):
                if isinstance(result, Taken):
                    await self._note(claimed, one.message_id, result)
                else:
                    await self._refused(claimed, one, result, attempts[one.message_id])

    async def _refused(self, claimed: UUID, one: Outgoing, result: Refused, attempts: int) -> None:
        if not result.lasts:
            self._pause_seconds = AFTER_TROUBLE_SECONDS
            _log.warning("mail waits: Postmark says %s", result.reason)
            await self._put_off(claimed, [one.message_id], attempts)
            return
        if result.code == INACTIVE_CODE:
            email = one.mail.recipient
            await suppress(self._db, ACTOR, email, one.stream, Reason.INACTIVE, datetime.now(UTC))
        await self._give_up(claimed, one.message_id, result.reason)

    async def _note(self, claimed: UUID, message_id: UUID, taken: Taken) -> None:
        try:
            await mark_sent(self._db, claimed, message_id, taken.postmark_id)
        except NotFound:
            _log.warning("a letter was noted by somebody else")

    async def _give_up(self, claimed: UUID, message_id: UUID, reason: str) -> None:
        try:
            await mark_failed(self._db, claimed, message_id, reason)
        except NotFound:
            _log.warning("a letter was noted by somebody else")

    async def _put_off(
        self,
        claimed: UUID,
        ids: list[UUID],
        attempts: int,
        *,
        at_least: float | None = None,
        unsure: bool = False,
    ) -> None:
        seconds = max(wait_seconds(attempts), at_least or 0.0)
        await put_off(self._db, claimed, ids, seconds, unsure=unsure)

    def _stream(self, message: Message) -> str:
        kind: LetterKind | None = None if message.letter is None else message.letter.kind
        return self._streams[kind in BROADCASTS]


def wait_seconds(attempts: int) -> float:
    """Before the next try: doubled by each, and between half and one and a half of that."""
    doubled = FIRST_WAIT_SECONDS * 2.0 ** min(attempts - 1, 16)
    return min(doubled, WAIT_SECONDS_MAX) * _random.uniform(0.5, 1.5)
