"""What the database tells running gateways: which key, organization or credential has changed, at commit.

The triggers are in migrations/0005_changes.sql; listen by `Database.listen(CHANNEL)`.
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from storage.errors import InvalidValue

CHANNEL = "karta_changes"


class Change(msgspec.Struct, frozen=True):
    """One changed row. `key_id` is set for a key and its limits, None for what concerns all keys of the
    organization; `org_id` is None for what concerns everybody.
    """

    table: Literal[
        "api_keys", "limits", "organizations", "price_overrides", "provider_credentials", "route_targets"
    ]
    org_id: UUID | None
    key_id: str | None = None


_decoder = msgspec.json.Decoder(Change)


def decode_change(payload: str) -> Change:
    """Reads a notification. Raises InvalidValue for what our triggers did not send."""
    try:
        return _decoder.decode(payload)
    except msgspec.MsgspecError:
        raise InvalidValue(
            f"not one of Karta's notifications: does somebody else NOTIFY on {CHANNEL}?"
        ) from None
