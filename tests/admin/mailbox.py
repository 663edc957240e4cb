"""What Karta would have sent."""

from __future__ import annotations

import re

from storage.bridge import Database
from storage.outbox import Letter, select_waiting
from tests.admin.conftest import MASTER_KEYS


async def letters(db: Database) -> list[Letter]:
    """All that wait, oldest first."""
    return [message.letter for message in reversed(await select_waiting(db, MASTER_KEYS))]


async def newest_link(db: Database) -> str:
    """The path of the link in the newest letter."""
    text = (await letters(db))[-1].text
    found = re.search(r"http://localhost:\d+(/link/\S+)", text)
    assert found is not None, text
    return found[1]
