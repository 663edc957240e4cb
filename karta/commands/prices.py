"""`karta prices set | list | remove | show`: what models cost, and what was agreed otherwise.

Prices are given and shown as price pages state them: dollars for a million tokens, a thousand searches or
requests, or an hour of sound. Inside they are whole picodollars; a price finer than those is refused.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from karta import database_choice
from karta.terminal import CommandError, print_json, print_table

if TYPE_CHECKING:
    from gateway.price_table import PriceTable, Rates
    from karta.terminal import Commands
    from storage.bridge import Database
    from storage.prices import PriceOverride


class Unit(NamedTuple):
    """How a class's price is said: in dollars for so many."""

    per: int
    name: str


_TOKENS = Unit(1_000_000, "million tokens")
_THOUSAND = Unit(1_000, "thousand")
# `storage.prices.CLASSES`, with the unit of each; not imported, for `karta --help` to be quick.
UNITS = {
    "input": _TOKENS,
    "output": _TOKENS,
    "cache_read": _TOKENS,
    "cache_write_5m": _TOKENS,
    "cache_write_1h": _TOKENS,
    "reasoning": _TOKENS,
    "input_audio": _TOKENS,
    "input_image": _TOKENS,
    "cache_read_audio": _TOKENS,
    "cache_read_image": _TOKENS,
    "output_audio": _TOKENS,
    "output_image": _TOKENS,
    "web_search": _THOUSAND,
    "file_search": _THOUSAND,
    "audio_hour": Unit(1, "hour"),
    "request": _THOUSAND,
}
TIERS = ("standard", "batch", "flex", "priority", "fast")
_PICODOLLARS = 10**12


def register(commands: Commands) -> None:
    group = commands.add_parser("prices", help="what models cost, and what was agreed otherwise")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    added = actions.add_parser(
        "set",
        help="override the price of a model",
        description="Override the price of a model, for one organization or (without --org) for all. Classes "
        "that are not named keep the price they have. Dollars for a million tokens, a thousand searches or "
        "requests, an hour of sound.",
    )
    _add_model(added)
    added.add_argument("--tier", choices=TIERS, help="for this tier only (default: for all tiers)")
    for name, unit in UNITS.items():
        option = f"--{name.replace('_', '-')}"
        added.add_argument(option, type=price, metavar="USD", help=f"dollars for a {unit.name}", dest=name)
    added.set_defaults(run=run_set)
    listed = actions.add_parser("list", help="list what is overridden")
    listed.add_argument("--org", type=UUID, metavar="ORG", help="only what concerns this organization")
    listed.set_defaults(run=run_list)
    removed = actions.add_parser("remove", help="let an override hold no longer")
    removed.add_argument("override_id", type=int, metavar="OVERRIDE_ID")
    removed.set_defaults(run=run_remove)
    shown = actions.add_parser(
        "show",
        help="show what a model costs, and where the price comes from",
        description="Show what a model costs now, and where the price comes from. Without a database it is "
        "the price library's.",
    )
    _add_model(shown)
    shown.add_argument("--tier", choices=TIERS, default="standard", help="the tier (default: standard)")
    shown.set_defaults(run=run_show)
    for action in (added, listed, removed, shown):
        database_choice.add_arguments(action)
        action.add_argument("--json", action="store_true", help="print one JSON document")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--org", type=UUID, metavar="ORG", help="the organization's id")
    parser.add_argument("--provider", required=True, metavar="NAME", help="anthropic, openai, …")
    parser.add_argument(
        "--model", required=True, metavar="MODEL", help="the model's name, or its beginning and a star"
    )


def price(text: str) -> Decimal:
    """Dollars as they were typed. Raises ValueError, which argparse tells."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None
    if not value.is_finite() or value < 0:
        raise ValueError(text)
    return value


def to_rate(name: str, dollars: Decimal) -> int:
    """Picodollars for one. Raises `CommandError` for a price that is finer."""
    rate = dollars * _PICODOLLARS / UNITS[name].per
    if rate != rate.to_integral_value():
        option = name.replace("_", "-")
        raise CommandError(f"--{option}: a {UNITS[name].name} cannot cost so fine a part of a dollar")
    return int(rate)


def to_dollars(name: str, rate: int) -> str:
    """The price as a price page states it."""
    return f"{(Decimal(rate) * UNITS[name].per / _PICODOLLARS).normalize():f}"


def run_set(given: argparse.Namespace) -> None:
    from storage.prices import set_price_override

    _check_provider(given.provider)
    rates = {name: to_rate(name, value) for name in UNITS if (value := getattr(given, name)) is not None}
    if not rates:
        raise CommandError("name a price at least, such as --input 2.50 (dollars for a million tokens)")

    async def put(db: Database) -> PriceOverride:
        return await set_price_override(
            db,
            database_choice.actor(),
            org_id=given.org,
            provider=given.provider,
            model=given.model,
            tier=given.tier,
            rates=rates,
        )

    _print(given, database_choice.run(given, put), "holds")


def run_remove(given: argparse.Namespace) -> None:
    from storage.prices import remove_price_override

    async def remove(db: Database) -> PriceOverride:
        return await remove_price_override(db, database_choice.actor(), given.override_id)

    _print(given, database_choice.run(given, remove), "holds no longer")


def run_list(given: argparse.Namespace) -> None:
    overrides = database_choice.run(given, lambda db: _overrides(db, given.org))
    if given.json:
        print_json({"overrides": [describe(override) for override in overrides]})
    elif overrides:
        rows = [
            (
                str(override.override_id),
                "all" if override.org_id is None else str(override.org_id),
                override.provider,
                override.model,
                override.tier or "all",
                ", ".join(f"{name} ${to_dollars(name, rate)}" for name, rate in override.rates.items()),
            )
            for override in overrides
        ]
        print_table(("OVERRIDE_ID", "ORG", "PROVIDER", "MODEL", "TIER", "PRICES"), rows)
    else:
        print(
            "None: all prices are the library's. Set one: karta prices set --provider … --model … --input …"
        )


def run_show(given: argparse.Namespace) -> None:
    from gateway.price_library import Library
    from gateway.price_table import Tier
    from gateway.prices import Prices

    library_name = _check_provider(given.provider)
    prices = Prices(Library(), 0, {given.provider: library_name})
    looked = _has_database(given)
    if looked:
        prices.set_overrides(database_choice.run(given, lambda db: _overrides(db, given.org)))
    table = prices.table(given.org, given.provider, given.model, None, Tier(given.tier), time.time())
    if given.json:
        print_json(
            {
                "provider": given.provider,
                "model": given.model,
                "tier": given.tier,
                "known": table.rates.by_tokens,
                "version": table.version or None,
                "source": table.source,
                "overrides_looked_at": looked,
                "context_tokens": table.context_tokens,
                "rates": _known(table.rates),
                "bands": [{"above": above, "rates": _known(rates)} for above, rates in table.bands],
            }
        )
        return
    print(f"{given.model} at {given.provider}, {given.tier} tier: {table.source}.")
    if not looked:
        print("No database was found, so overrides were not looked at.")
    _print_rates(table)


def _print_rates(table: PriceTable) -> None:
    columns = [table.rates, *(rates for _, rates in table.bands)]
    rows = []
    for name, unit in UNITS.items():
        cells = [_known(rates).get(name) for rates in columns]
        if any(cell is not None and not (name == "request" and cell == "0") for cell in cells):
            shown = ["unknown" if cell is None else f"${cell}" for cell in cells]
            rows.append((name, *shown, f"a {unit.name}"))
    if rows:
        above = [f"ABOVE {start} INPUT TOKENS" for start, _ in table.bands]
        print_table(("CLASS", "PRICE", *above, "FOR"), rows)


def _known(rates: Rates) -> dict[str, str]:
    return {name: to_dollars(name, rate) for name in UNITS if (rate := getattr(rates, name)) >= 0}


def _has_database(given: argparse.Namespace) -> bool:
    """A database that was named must be there; one that was not need not."""
    try:
        database_choice.choose(given)
    except CommandError:
        if given.database_url is not None or given.data_dir is not None or given.org is not None:
            raise
        return False
    return True


async def _overrides(db: Database, org_id: UUID | None) -> list[PriceOverride]:
    from storage.organizations import select_organization
    from storage.prices import select_price_overrides

    if org_id is not None:
        await select_organization(db, org_id)
    return await select_price_overrides(db, org_id)


def describe(override: PriceOverride) -> dict[str, object]:
    """An override as JSON, its prices in dollars as a price page states them."""
    return {
        "override_id": override.override_id,
        "org_id": override.org_id,
        "provider": override.provider,
        "model": override.model,
        "tier": override.tier,
        "rates": _in_dollars(override.rates),
        "created_at": override.created_at,
        "removed_at": override.removed_at,
    }


def _in_dollars(rates: Mapping[str, int]) -> dict[str, str]:
    return {name: to_dollars(name, rate) for name, rate in rates.items()}


def _print(given: argparse.Namespace, override: PriceOverride, what: str) -> None:
    if given.json:
        print_json(describe(override))
    else:
        print(f"Override {override.override_id} ({override.provider} {override.model}) {what}.")


def _check_provider(name: str) -> str:
    """The library's name for a provider. Raises `CommandError` for one that is not in the table."""
    from gateway.provider import read_table

    known = read_table()
    if name not in known:
        raise CommandError(f"--provider: {name!r} is not one of {', '.join(sorted(known))}")
    return known[name].prices or name
