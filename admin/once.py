"""Forms that do something once, however often they are sent.

Each carries a number of its own, which is used up before the work, so that of two that are sent at the same
moment one does it. When the work fails, and nothing can have come of it, the number is good again: who mends
what was in the way sends the same form once more. After a cancelled request, or a COMMIT of which nobody
knows, something may have come of it, and the number stays used up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from quart import abort

from admin.services import services
from storage import throttles
from storage.errors import CommitUnknown, StorageError
from storage.throttles import Rule


class AlreadySent(Exception):
    """This form was sent before, and did its work or is at it."""


@asynccontextmanager
async def use_up(rule: Rule, number: str) -> AsyncIterator[None]:
    """Around the work of a form, and nothing that comes after it: what fails there has the number good again.
    Raises `AlreadySent`."""
    if not 10 < len(number) < 100:
        abort(400)
    if await throttles.use(services().db, rule, number) is not None:
        raise AlreadySent
    try:
        yield
    except CommitUnknown:
        raise
    except Exception:
        # What went wrong is to be told, also where the database is away and the number stays used up.
        with suppress(StorageError):
            await throttles.forgive(services().db, rule, number)
        raise
