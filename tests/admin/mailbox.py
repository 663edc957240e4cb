"""What Karta would have sent."""

from __future__ import annotations

import re

from admin.mail.rendering import Mail, render
from storage.bridge import Database
from storage.outbox import Letter, select_waiting
from tests.admin.conftest import MASTER_KEYS

ORIGIN = "http://localhost:1"


async def letters(db: Database) -> list[Letter]:
    """All that wait, oldest first."""
    found = [message.letter for message in reversed(await select_waiting(db, MASTER_KEYS))]
    opened = [letter for letter in found if letter is not None]
    assert len(opened) == len(found)
    return opened


async def mails(db: Database) -> list[Mail]:
    """The same as they would be read."""
    return [render(letter, ORIGIN) for letter in await letters(db)]


async def newest_link(db: Database) -> str:
    """The path of the link in the newest letter."""
    text = (await mails(db))[-1].text
    found = re.search(r"http://localhost:\d+(/link/\S+)", text)
    assert found is not None, text
    return found[1]
