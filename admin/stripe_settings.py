"""The settings of payments by Stripe, all of them optional: without a key there are no payments."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from admin.allowed_addresses import STALE_DAYS, AllowedAddresses, NotAddresses
from storage.settings import Network, ServerSettings, is_loopback, split_list

API_BASE = "https://api.stripe.com"
KEY_PREFIXES = ("sk_live_", "sk_test_", "rk_live_", "rk_test_")
PAGES = ("https://checkout.stripe.com", "https://billing.stripe.com")
Texts = Annotated[tuple[str, ...], BeforeValidator(split_list)]


class StripeSettings(ServerSettings):
    """What `karta admin` reads about Stripe."""

    stripe_api_key: SecretStr | None = Field(
        default=None,
        description="Stripe's secret key, or better a restricted one (`rk_…`). Unset, there are no payments: "
        "everything else works, and staff give plans.",
    )
    stripe_webhook_secret: SecretStr | None = Field(
        default=None,
        description="The signing secret of the webhook endpoint at Stripe (`whsec_…`). While it is rotated, "
        "both, comma separated.",
    )
    stripe_api_base: str = Field(
        default=API_BASE, description="Where Stripe's API is. For tests: a stand-in on this machine."
    )
    stripe_price_pro: Texts = Field(
        default=(),
        description="The ids of the prices that sell the Pro plan, by seat, comma separated. The first is "
        "sold; who pays another of them has the plan as well.",
        examples=["price_1PgafmB7WZ01zgkW6dKueIc5"],
    )
    stripe_price_enterprise: Texts = Field(
        default=(), description="The same for the Enterprise plan, which the pages do not sell."
    )
    stripe_price_usage: str | None = Field(
        default=None,
        description="The id of the metered price by which usage beyond prepaid credit is billed. Unset, "
        "usage is prepaid only.",
    )
    stripe_meter_event: str | None = Field(
        default=None,
        description="The event name of the meter behind that price, which sums up millionths of a dollar.",
        examples=["karta_usage"],
    )
    stripe_meter_id: str | None = Field(
        default=None, description="The meter's id (`mtr_…`), by which `karta billing reconcile` reads it."
    )
    stripe_allowed_ips: Annotated[tuple[Network, ...], BeforeValidator(split_list)] = Field(
        default=(),
        description="Addresses or networks that Stripe's events come from, comma separated, instead of the "
        "release's list. Enforced in production.",
    )
    stripe_allowed_ips_file: Path | None = Field(
        default=None,
        description="The same as a file, as Stripe publishes it (`ips_webhooks.json` or `.txt`). It is read "
        "again when it changes.",
    )
    stripe_pages: Texts = Field(
        default=PAGES,
        description="The origins of Stripe's pages that people are sent to: its own, or a custom domain.",
    )

    @property
    def stripe_is_live(self) -> bool:
        """Real money moves."""
        key = self.stripe_api_key.get_secret_value() if self.stripe_api_key else ""
        return key.partition("_")[2].startswith("live_")

    def webhook_secrets(self) -> tuple[str, ...]:
        """The present one, and one that is being rotated in or out."""
        text = self.stripe_webhook_secret.get_secret_value() if self.stripe_webhook_secret else ""
        return tuple(part.strip() for part in text.split(",") if part.strip())

    def load_allowed_addresses(self) -> AllowedAddresses:
        """Raises `NotAddresses`."""
        return AllowedAddresses(self.stripe_allowed_ips, self.stripe_allowed_ips_file)

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.stripe_api_key is not None:
            problems += self._problems_of_key(self.stripe_api_key.get_secret_value())
        elif self.stripe_webhook_secret is not None:
            problems.append(
                "KARTA_STRIPE_API_KEY: KARTA_STRIPE_WEBHOOK_SECRET is set, and is of no use without"
            )
        for secret in self.webhook_secrets():
            if not secret.startswith("whsec_"):
                problems.append("KARTA_STRIPE_WEBHOOK_SECRET: each begins with whsec_")
                break
        if (self.stripe_price_usage is None) != (self.stripe_meter_event is None):
            problems.append(
                "KARTA_STRIPE_METER_EVENT: set it and KARTA_STRIPE_PRICE_USAGE both, or neither: one reports "
                "usage, the other bills it"
            )
        sold = set(self.stripe_price_pro) & set(self.stripe_price_enterprise)
        if sold or self.stripe_price_usage in {*self.stripe_price_pro, *self.stripe_price_enterprise}:
            problems.append("KARTA_STRIPE_PRICE_PRO: one price is named for two things")
        try:
            self.load_allowed_addresses()
        except NotAddresses as error:
            problems.append(f"KARTA_STRIPE_ALLOWED_IPS_FILE: {error}")
        if self.stripe_allowed_ips and self.stripe_allowed_ips_file:
            problems.append(
                "KARTA_STRIPE_ALLOWED_IPS: KARTA_STRIPE_ALLOWED_IPS_FILE is set as well; keep one"
            )
        return problems

    def payment_warnings(self) -> list[str]:
        """What is sound and yet hardly meant, where payments are set up: for `karta doctor`."""
        if self.stripe_api_key is None:
            return []
        told = []
        if self.env == "production" and not self.stripe_is_live:
            told.append("KARTA_STRIPE_API_KEY: a test key in production: nobody really pays")
        if self.env == "development" and self.stripe_is_live:
            told.append("KARTA_STRIPE_API_KEY: a live key in development: real money moves")
        if not self.stripe_price_pro:
            told.append("KARTA_STRIPE_PRICE_PRO: not set, so that nobody can buy the Pro plan")
        if self.stripe_meter_event is not None and self.stripe_meter_id is None:
            told.append(
                "KARTA_STRIPE_METER_ID: not set, so that `karta billing reconcile` cannot ask the meter"
            )
        if len(self.webhook_secrets()) > 1:
            told.append("KARTA_STRIPE_WEBHOOK_SECRET: there are several; drop the old one when it is rotated")
        days = self.load_allowed_addresses().days_old(datetime.now(UTC).date())
        if days is not None and days > STALE_DAYS:
            told.append(
                f"KARTA_STRIPE_ALLOWED_IPS_FILE: the list of addresses is {days} days old; see "
                "https://docs.stripe.com/ips"
            )
        return told

    def _problems_of_key(self, key: str) -> list[str]:
        problems = []
        if not key.startswith(KEY_PREFIXES):
            problems.append("KARTA_STRIPE_API_KEY: it begins with sk_live_, sk_test_, rk_live_ or rk_test_")
        if self.stripe_webhook_secret is None:
            problems.append(
                "KARTA_STRIPE_WEBHOOK_SECRET: not set, so nothing that Stripe tells is believed; it is shown "
                "where the endpoint is made at Stripe"
            )
        parts = urlsplit(self.stripe_api_base)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            problems.append("KARTA_STRIPE_API_BASE: the key may go by https alone, except to this machine")
        if self.stripe_is_live and self.stripe_api_base != API_BASE:
            problems.append("KARTA_STRIPE_API_BASE: a live key is for Stripe alone; unset it")
        return problems

    @field_validator("stripe_api_base")
    @classmethod
    def _check_base(cls, value: str) -> str:
        return _check_origin(value)

    @field_validator("stripe_pages")
    @classmethod
    def _check_pages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_check_origin(one) for one in value)


def _check_origin(value: str) -> str:
    parts = urlsplit(value.rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
        raise ValueError("write it as an origin, for example https://api.stripe.com")
    return f"{parts.scheme}://{parts.netloc.lower()}"
