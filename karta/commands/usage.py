"""`karta usage report | retention | rebuild`: what was used, how long it is kept, and its sums made anew."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from karta import database_choice
from karta.commands.budget import dollars, show_dollars
from karta.terminal import UsageError, print_json, print_table

if TYPE_CHECKING:
    from karta.terminal import Commands
    from storage.bridge import Database
    from storage.usage_report import UsageTotal

FIGURES = (
    *("requests", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens"),
    *("cache_write_1h_tokens", "reasoning_tokens", "input_audio_tokens", "output_audio_tokens"),
    *("server_tool_calls", "incomplete", "unpriced"),
)
DAYS_MAX = 10_000


def register(commands: Commands) -> None:
    group = commands.add_parser("usage", help="what was used: report; retention, rebuild")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    report = actions.add_parser(
        "report",
        help="sum up an organization's requests",
        description="Sum up an organization's requests, by day, key, model or provider. Token figures "
        "exclude each other, except that reasoning and audio are parts of input and output. `unpriced` "
        "requests have no known price and are not in the cost.",
    )
    report.add_argument("--org", type=UUID, required=True, metavar="ORG", help="the organization's id")
    report.add_argument("--by", choices=("day", "key", "model", "provider"), help="one row for each")
    report.add_argument(
        "--since", type=moment, metavar="TIME", help="from then on: 2026-01-31, or with a time"
    )
    report.add_argument("--until", type=moment, metavar="TIME", help="up to then, not included")
    form = report.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print comma-separated values")
    form.add_argument(
        "--json", action="store_true", help="print {requests, input_tokens, output_tokens, cost_usd, rows}"
    )
    report.set_defaults(run=run_report)
    retention = actions.add_parser(
        "retention",
        help="drop old months of requests",
        description="Drop the months of requests that ended more than so many days ago. Hourly sums stay. "
        "Logs in as the owner of the schema.",
    )
    retention.add_argument("--days", type=days, required=True, metavar="N", help="how many days are kept")
    retention.set_defaults(run=run_retention)
    rebuild = actions.add_parser(
        "rebuild",
        help="make an organization's hourly sums anew from its requests",
        description="Make an organization's hourly sums anew from the requests that are kept. Logs in as the "
        "owner of the schema.",
    )
    rebuild.add_argument("--org", type=UUID, required=True, metavar="ORG", help="the organization's id")
    rebuild.add_argument("--since", type=moment, required=True, metavar="TIME", help="from this hour on")
    rebuild.add_argument("--until", type=moment, required=True, metavar="TIME", help="up to this hour")
    rebuild.set_defaults(run=run_rebuild)
    for action in (retention, rebuild):
        action.add_argument("--json", action="store_true", help="print one JSON document")
    for action in (report, retention, rebuild):
        database_choice.add_arguments(action)


def moment(text: str) -> datetime:
    """argparse's type for a time; UTC where it does not say."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 2026-01-31 or 2026-01-31T12:00Z"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def days(text: str) -> int:
    """argparse's type for a number of days."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= DAYS_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days (1 to {DAYS_MAX})")
    return int(text)


def run_report(given: argparse.Namespace) -> None:
    from storage.organizations import select_organization
    from storage.usage_report import Grouping, select_totals

    async def select(db: Database) -> tuple[UsageTotal, list[UsageTotal]]:
        await select_organization(db, given.org)
        span = {"since": given.since, "until": given.until}
        [whole] = await select_totals(db, given.org, **span)
        rows: list[UsageTotal] = []
        while given.by:
            after = rows[-1].group if rows else None
            page = await select_totals(db, given.org, by=Grouping(given.by), after=after, **span)
            if not page:
                break
            rows += page
        return whole, rows

    whole, rows = database_choice.run(given, select)
    if given.json:
        print_json(_describe(whole) | {"rows": [{given.by: row.group} | _describe(row) for row in rows]})
    elif given.csv:
        _print_csv(given.by, rows if given.by else [whole])
    else:
        _print_table(given.by, [*rows, whole])


def run_retention(given: argparse.Namespace) -> None:
    from storage.retention import drop_usage

    actor = database_choice.actor()
    dropped = database_choice.run_as_owner(given, lambda db: drop_usage(db, actor, given.days))
    if given.json:
        print_json({"dropped": dropped})
    else:
        print(f"Dropped {', '.join(dropped)}." if dropped else "Nothing is that old.")


def run_rebuild(given: argparse.Namespace) -> None:
    from storage.retention import rebuild_hourly

    if given.since >= given.until:
        raise UsageError("--since must be before --until (see `karta usage rebuild --help`)")
    actor = database_choice.actor()
    made = database_choice.run_as_owner(
        given, lambda db: rebuild_hourly(db, actor, given.org, given.since, given.until)
    )
    if given.json:
        print_json({"rows": made})
    else:
        print(f"Made {made} hourly sums.")


def _describe(total: UsageTotal) -> dict[str, object]:
    return {name: getattr(total, name) for name in FIGURES} | {
        "cost_usd": dollars(total.cost_picodollars),
        "cost_picodollars": total.cost_picodollars,
    }


def _print_csv(by: str | None, totals: Sequence[UsageTotal]) -> None:
    from storage.csv_cells import safe

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*([by] if by else []), *FIGURES, "cost_usd"])
    for total in totals:
        figures = [getattr(total, name) for name in FIGURES]
        cost = show_dollars(total.cost_picodollars).lstrip("$").replace(",", "")
        writer.writerow([*([safe(total.group or "")] if by else []), *figures, cost])
    sys.stdout.flush()


def _print_table(by: str | None, totals: Sequence[UsageTotal]) -> None:
    cached = ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    rows = [
        (
            "(total)" if total.group is None else total.group or "(none)",
            f"{total.requests:,}",
            f"{total.input_tokens:,}",
            f"{total.output_tokens:,}",
            f"{sum(getattr(total, name) for name in cached):,}",
            show_dollars(total.cost_picodollars),
            f"{total.unpriced:,}",
        )
        for total in totals
    ]
    print_table(((by or "").upper(), "REQUESTS", "INPUT", "OUTPUT", "CACHED", "COST", "UNPRICED"), rows)
