"""Settings of payments: what is missing, what contradicts itself, and what is never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from admin.settings import AdminSettings
from storage.settings import SettingsError

WHOLE: dict[str, Any] = {
    "stripe_api_key": "sk_test_abcdefgh",
    "stripe_webhook_secret": "whsec_one, whsec_two",
    "stripe_price_pro": "price_1, price_2",
    "stripe_price_usage": "price_3",
    "stripe_meter_event": "karta_usage",
    "stripe_allowed_ips": "192.0.2.1, 198.51.100.0/24",
}


def load(**changes: Any) -> AdminSettings:
    given = {name: value for name, value in {**WHOLE, **changes}.items() if value is not None}
    return AdminSettings.load(database_url="postgresql://x@localhost/x", **given)


def test_all_of_them() -> None:
    settings = load()
    assert settings.webhook_secrets() == ("whsec_one", "whsec_two")
    assert settings.stripe_price_pro == ("price_1", "price_2")
    assert not settings.stripe_is_live
    assert load(stripe_api_key="rk_live_abcdefgh").stripe_is_live
    assert "192.0.2.1" in settings.load_allowed_addresses()
    for secret in ("sk_test_abcdefgh", "whsec_one", "whsec_two"):
        assert secret not in repr(settings)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stripe_api_key": None}, "KARTA_STRIPE_API_KEY: KARTA_STRIPE_WEBHOOK_SECRET is set"),
        ({"stripe_api_key": "pk_test_abcdefgh"}, "it begins with sk_live_"),
        ({"stripe_webhook_secret": None}, "KARTA_STRIPE_WEBHOOK_SECRET: not set"),
        ({"stripe_webhook_secret": "whsec_one, hush"}, "KARTA_STRIPE_WEBHOOK_SECRET: each begins"),
        ({"stripe_meter_event": None}, "KARTA_STRIPE_METER_EVENT"),
        ({"stripe_price_usage": None}, "KARTA_STRIPE_METER_EVENT"),
        ({"stripe_price_usage": "price_1"}, "one price is named for two things"),
        ({"stripe_price_enterprise": "price_2"}, "one price is named for two things"),
        ({"stripe_api_base": "http://stripe.example"}, "https alone"),
        ({"stripe_api_base": "https://stripe.example/v1"}, "write it as an origin"),
        ({"stripe_api_key": "sk_live_abcdefgh", "stripe_api_base": "http://localhost:1"}, "a live key"),
        ({"stripe_allowed_ips": "192.0.2.300"}, "KARTA_STRIPE_ALLOWED_IPS"),
        ({"stripe_allowed_ips_file": "/nowhere", "stripe_allowed_ips": None}, "cannot read /nowhere"),
        ({"stripe_pages": "checkout.stripe.com"}, "KARTA_STRIPE_PAGES"),
    ],
)
def test_what_does_not_fit_together(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(**changes)
    assert told in str(refused.value)
    for secret in ("sk_test_abcdefgh", "pk_test_abcdefgh", "hush"):
        assert secret not in str(refused.value)


def test_a_list_is_given_once(tmp_path: Path) -> None:
    file = tmp_path / "ips"
    file.write_text("192.0.2.1")
    with pytest.raises(SettingsError, match="keep one"):
        load(stripe_allowed_ips_file=str(file))


def test_what_is_hardly_meant(tmp_path: Path) -> None:
    file = tmp_path / "ips"
    file.write_text('{"as_of": "2020-01-01", "WEBHOOKS": ["192.0.2.1"]}')
    told = load(
        stripe_api_key="sk_live_abcdefgh",
        stripe_price_pro=None,
        stripe_allowed_ips=None,
        stripe_allowed_ips_file=str(file),
    ).payment_warnings()
    for words in ("live key in development", "PRICE_PRO", "METER_ID", "several", "days old"):
        assert any(words in one for one in told), words
    assert load(stripe_webhook_secret="whsec_one", stripe_meter_id="mtr_1").payment_warnings() == []


def test_none_of_them() -> None:
    settings = AdminSettings.load(database_url="postgresql://x@localhost/x")
    assert settings.webhook_secrets() == ()
    assert not settings.stripe_is_live
