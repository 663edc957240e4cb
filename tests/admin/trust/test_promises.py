from __future__ import annotations

from admin.settings import AdminSettings
from admin.trust.promises import promises


def test_facts_are_those_of_the_settings() -> None:
    settings = AdminSettings.load(database_url="postgresql://x/y", session_hours=3, session_idle_minutes=9)
    told = " ".join(fact for promise in promises(settings) for fact in promise.facts)
    assert "sessions end after 3 hours, and after 9 minutes" in told
    assert "signing in: 30 in 5 minutes for each address" in told
    assert "reports faults to nobody" in told
    assert len({promise.area for promise in promises(settings)}) == len(promises(settings))


def test_who_is_told_of_faults_is_told() -> None:
    settings = AdminSettings.load(
        database_url="postgresql://x/y", sentry_dsn="https://key@sentry.example.com/1"
    )
    told = " ".join(fact for promise in promises(settings) for fact in promise.facts)
    assert "reports faults to sentry.example.com" in told
    assert "key@" not in told


def test_payments_are_told_where_there_are_any() -> None:
    without = AdminSettings.load(database_url="postgresql://x/y")
    assert "Billing" not in [promise.area for promise in promises(without)]
    settings = AdminSettings.load(
        database_url="postgresql://x/y", stripe_api_key="sk_test_1", stripe_webhook_secret="whsec_1"
    )
    told = promises(settings)
    assert "Billing" in [promise.area for promise in told]
    assert "sk_test_1" not in repr(told)
