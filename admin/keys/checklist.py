"""The first steps of an organization, as its first page shows them until they are taken, and for a while
after.

Steps: the organization itself, a key, whose provider key requests go up with (a choice, so never missing),
and a first request, which the page follows live.

Bounds: for an organization that is older and uses its keys, nothing more is asked of the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from storage.bridge import Database
from storage.credentials import select_credentials
from storage.model import APIKey, Organization, ProviderCredential, UsageRecord
from storage.usage_report import select_first_usage

SHOWN_FOR = timedelta(hours=1)
"""After its first request: it is the page on which somebody waits for it."""
YOUNG_FOR = timedelta(days=7)
"""An older organization whose keys are in use is not asked about."""


class Checklist(NamedTuple):
    has_key: bool
    own_keys: list[ProviderCredential]
    """Provider keys that the organization brought."""
    first: UsageRecord | None
    """The first request."""


async def make_checklist(
    db: Database, organization: Organization, keys: Sequence[APIKey], now: datetime | None = None
) -> Checklist | None:
    """None when there is nothing left to show."""
    now = now or datetime.now(UTC)
    used = any(key.last_used_at is not None for key in keys)
    if used and now - organization.created_at > YOUNG_FOR:
        return None
    first = await select_first_usage(db, organization.org_id)
    # Keys that were used and no request: those have left by their age.
    if used if first is None else now - first.started_at > SHOWN_FOR:
        return None
    return Checklist(bool(keys), await select_credentials(db, organization.org_id, live=True), first)
