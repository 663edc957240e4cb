"""Prices that differ from the price library's: an organization's own, or the operator's for everybody.

An override gives picodollars for some classes of one model (or of all whose names begin so) at one provider,
for one tier or for all. It is never changed: setting it again makes a new one, since usage rows name the
override they were priced by. Gateways hear of each change at once and read all overrides anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import Event
from storage.bridge import Database, Transaction
from storage.errors import Conflict, InvalidValue, NotFound
from storage.model import Actor
from storage.queries import Queries, Record

# What the gateway counts. `request` is charged once for each, `audio_hour` for sound that is billed by time.
CLASSES = (
    *("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning"),
    *("input_audio", "input_image", "cache_read_audio", "cache_read_image", "output_audio", "output_image"),
    *("web_search", "file_search", "audio_hour", "request"),
)
TIERS = ("standard", "batch", "flex", "priority", "fast")
# A dollar for a single token, a million dollars for an hour of sound: what is above was typed in error.
RATE_MAX = 10**12
HOURLY_RATE_MAX = 10**18
OVERRIDES_MAX = 10_000
"""All gateways hold all overrides in memory; each is under a kilobyte."""

_COLUMNS = "override_id, org_id, provider, model, tier, rates::text AS rates, created_at, removed_at"
_rates_decoder = msgspec.json.Decoder(dict[str, int])


class PriceOverride(msgspec.Struct, frozen=True, kw_only=True):
    override_id: int
    org_id: UUID | None
    """Whose; None for the operator's, which holds for every organization."""
    provider: str
    model: str
    """A name, or the beginning of one and a star."""
    tier: str | None
    """One of `TIERS`; None for all of them."""
    rates: Mapping[str, int]
    """Picodollars for one token, search, request or hour of each class that is overridden."""
    created_at: datetime
    removed_at: datetime | None = None


async def set_price_override(
    db: Database,
    actor: Actor,
    *,
    org_id: UUID | None,
    provider: str,
    model: str,
    tier: str | None,
    rates: Mapping[str, int],
) -> PriceOverride:
    """A new override, in place of the one for the same model and tier. Audited; gateways hear of it.

    Raises InvalidValue, NotFound for an unknown organization, Conflict when there are too many, and
    CheckFailed for a malformed name.
    """
    _check(tier, rates)
    async with db.transaction() as tx:
        # One at a time: two of these must not both find nothing to replace.
        await tx.execute("SELECT pg_advisory_xact_lock(hashtext('price_overrides'))")
        await _require_org(tx, org_id)
        replaced = await tx.fetch_value(
            """
            UPDATE price_overrides SET removed_at = now()
             WHERE removed_at IS NULL AND provider = $2 AND model = $3
               AND org_id IS NOT DISTINCT FROM $1 AND tier IS NOT DISTINCT FROM $4
            RETURNING override_id
            """,
            org_id,
            provider,
            model,
            tier,
        )
        count = await tx.fetch_value("SELECT count(*) FROM price_overrides WHERE removed_at IS NULL")
        if count >= OVERRIDES_MAX:
            raise Conflict(f"there are {OVERRIDES_MAX} overrides already; remove some, or end a name with *")
        row = await tx.fetch_row(
            f"""
            INSERT INTO price_overrides (org_id, provider, model, tier, rates)
            VALUES ($1, $2, $3, $4, $5::text::jsonb)
            RETURNING {_COLUMNS}
            """,  # noqa: S608
            org_id,
            provider,
            model,
            tier,
            msgspec.json.encode(dict(rates)).decode(),
        )
        assert row is not None
        override = _to_override(row)
        details = _details(override) | {"replaced": replaced}
        await audit.record(tx, actor, Event.PRICE_SET, org_id, str(override.override_id), details)
    return override


async def remove_price_override(db: Database, actor: Actor, override_id: int) -> PriceOverride:
    """The override no longer holds. Raises NotFound, and Conflict when it had been removed before."""
    async with db.transaction() as tx:
        row = await tx.fetch_row(
            f"""
            UPDATE price_overrides SET removed_at = now() WHERE override_id = $1 AND removed_at IS NULL
            RETURNING {_COLUMNS}
            """,  # noqa: S608
            override_id,
        )
        if row is None:
            if await tx.fetch_value("SELECT true FROM price_overrides WHERE override_id = $1", override_id):
                raise Conflict(f"override {override_id} has been removed already")
            raise NotFound(f"there is no override {override_id}: see `karta prices list`")
        override = _to_override(row)
        await audit.record(
            tx, actor, Event.PRICE_REMOVED, override.org_id, str(override_id), _details(override)
        )
    return override


async def select_price_overrides(db: Queries, org_id: UUID | None = None) -> list[PriceOverride]:
    """All overrides that hold, oldest first; with an organization, those that concern it."""
    rows = await db.fetch(
        f"""
        SELECT {_COLUMNS}
          FROM price_overrides
         WHERE removed_at IS NULL AND ($1::uuid IS NULL OR org_id IS NULL OR org_id = $1)
         ORDER BY override_id
         LIMIT {OVERRIDES_MAX}
        """,  # noqa: S608
        org_id,
    )
    return [_to_override(row) for row in rows]


def _check(tier: str | None, rates: Mapping[str, int]) -> None:
    if tier is not None and tier not in TIERS:
        raise InvalidValue(f"{tier!r} is no tier: use {', '.join(TIERS)}, or none for all")
    if not rates:
        raise InvalidValue("an override needs a price for one class at least")
    for name, rate in rates.items():
        if name not in CLASSES:
            raise InvalidValue(f"{name!r} is no class of usage: use {', '.join(CLASSES)}")
        if not 0 <= rate <= (HOURLY_RATE_MAX if name == "audio_hour" else RATE_MAX):
            raise InvalidValue(f"the price of {name} must be between 0 and a dollar for one")


async def _require_org(tx: Transaction, org_id: UUID | None) -> None:
    if org_id is None:
        return
    if not await tx.fetch_value("SELECT true FROM organizations WHERE org_id = $1", org_id):
        raise NotFound(f"there is no organization {org_id}: see `karta org list`")


def _details(override: PriceOverride) -> dict[str, object]:
    return {
        "provider": override.provider,
        "model": override.model,
        "tier": override.tier,
        "rates": dict(override.rates),
    }


def _to_override(row: Record) -> PriceOverride:
    return PriceOverride(
        override_id=row["override_id"],
        org_id=row["org_id"],
        provider=row["provider"],
        model=row["model"],
        tier=row["tier"],
        rates=_rates_decoder.decode(row["rates"]),
        created_at=row["created_at"],
        removed_at=row["removed_at"],
    )
