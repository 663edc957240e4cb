from __future__ import annotations

from uuid import uuid4

import pytest

from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import InvalidReference
from storage.letter_kinds import MailTopic
from storage.mail_preferences import select_opt_outs, set_opt_outs
from storage.model import Actor
from storage.passwords import REFERENCE_DIGEST
from storage.users import create_user


async def test_what_a_person_does_without(admin_db: Database, actor: Actor) -> None:
    user = await create_user(admin_db, actor, email="a@example.com", password_digest=REFERENCE_DIGEST)
    for wanted in ({MailTopic.KEYS, MailTopic.BUDGETS}, {MailTopic.BUDGETS}, {MailTopic.BUDGETS}, set()):
        await set_opt_outs(admin_db, actor, user.user_id, wanted)
        assert await select_opt_outs(admin_db, user.user_id) == wanted
    told = [row.event for row in await select_audit_rows(admin_db, None)]
    assert told.count("mail:preferences_changed") == 3, "nothing changed once"
    with pytest.raises(InvalidReference):
        await set_opt_outs(admin_db, actor, uuid4(), {MailTopic.KEYS})
