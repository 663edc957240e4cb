"""What payments need now and then, besides events: seats that follow the members, usage for the meter,
another look at what may have changed unheard, and the end of rows nobody needs.

Every process does it. Work is claimed row by row in the database, so who comes second finds none; and each
change at Stripe has a key by which it is made once.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import trio

from admin.allowed_addresses import STALE_DAYS, AllowedAddresses
from admin.payments import Payments, PaymentsError, PaymentsRefused
from storage.bridge import Database
from storage.meter_reports import (
    ORGANIZATIONS_MAX,
    add_report,
    claim_report,
    finish_report,
    put_off_report,
    select_metered,
)
from storage.rounds import Rounds
from storage.stripe_checkouts import clear_checkouts, look_again
from storage.stripe_events import clear_events
from storage.stripe_subscriptions import SeatDrift, claim_seat_drifts

EVERY_SECONDS = 30.0
HOURLY_SECONDS = 600.0
"""How often is looked for an hour's usage, and for what to look at again."""
_log = logging.getLogger("karta.admin")


class PaymentUpkeep:
    def __init__(
        self, db: Database, payments: Payments, addresses: AllowedAddresses, *, metered: bool
    ) -> None:
        self._db = db
        self._payments = payments
        self._addresses = addresses
        self._metered = metered

    async def run(self) -> None:
        """For ever; cancel it to stop."""
        rounds = Rounds(_log, "the upkeep of payments was cut short")
        next_hourly = trio.current_time()
        while True:
            await trio.sleep(EVERY_SECONDS)
            with rounds.one():
                await self.follow_members()
                if trio.current_time() >= next_hourly:
                    next_hourly = trio.current_time() + HOURLY_SECONDS
                    await self.look()
                    await self.add_reports()
                await self.send_reports()

    async def follow_members(self) -> int:
        """Asks Stripe for as many seats as there are members; returns how many subscriptions were changed.
        What comes of it is told by events."""
        changed = 0
        for drift in await claim_seat_drifts(self._db):
            try:
                await self._set_seats(drift)
                changed += 1
            except PaymentsError as error:
                _log.warning("the seats of %s stay as they are: %s", drift.subscription_id, error)
        return changed

    async def _set_seats(self, drift: SeatDrift) -> None:
        if drift.wanted == 0:
            await self._payments.end_subscription(drift.subscription_id, at_period_end=None)
            return
        # From and to: the same step once more is the same, and the way back is another.
        key = f"karta-seats-{drift.subscription_id}-{drift.reading}-{drift.wanted}"
        await self._payments.set_seats(drift.subscription_id, drift.seat_item_id, drift.wanted, key)

    async def look(self) -> None:
        """Reads again what may have changed unheard, lets old rows go, and looks at the list of addresses."""
        await look_again(self._db)
        while await clear_events(self._db):
            pass
        while await clear_checkouts(self._db):
            pass
        if self._addresses.refresh():
            _log.warning(
                "the list of Stripe's addresses was read anew: %s", self._addresses.problem or "it is sound"
            )
        days = self._addresses.days_old(datetime.now(UTC).date())
        if days is not None and days > STALE_DAYS:
            _log.warning(
                "the list of Stripe's addresses is %d days old: see https://docs.stripe.com/ips", days
            )

    async def add_reports(self) -> int:
        """Puts down the last hour's usage of all metered organizations; returns how many have some."""
        if not self._metered:
            return 0
        added, after = 0, None
        while True:
            page = await select_metered(self._db, after)
            for org_id, customer_id in page:
                added += bool(await add_report(self._db, org_id, customer_id))
            if len(page) < ORGANIZATIONS_MAX:
                return added
            after = page[-1][0]

    async def send_reports(self) -> int:
        """Sends what waits; returns how many Stripe took."""
        sent = 0
        while self._metered:
            report = await claim_report(self._db)
            if report is None:
                break
            try:
                await self._payments.report_usage(
                    report.identifier, report.customer_id, report.value, report.hour
                )
            except PaymentsRefused as error:
                _log.error("usage of %s was refused by the meter: %s", report.org_id, error)
                await put_off_report(self._db, report, str(error), refused=True)
            except PaymentsError as error:
                await put_off_report(self._db, report, str(error))
                break
            else:
                await finish_report(self._db, report)
                sent += 1
        return sent
