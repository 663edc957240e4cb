from __future__ import annotations

import pytest

from karta.health_probes import Endpoint
from karta.health_targets import load_targets
from karta.terminal import CommandError


def test_targets_are_what_users_go_by() -> None:
    targets = load_targets(
        {
            "KARTA_PUBLIC_URL": "https://gw.example.com/",
            "KARTA_ENV": "production",
            "KARTA_PROVIDER_OPENAI_API_KEY": "sk-x",
            "KARTA_PROVIDER_ANTHROPIC_BASE_URL": "https://a.example.com/prefix",
            "KARTA_PROVIDER_ANTHROPIC_API_KEY": "sk-y",
        }
    )
    assert (targets.gateway_url, targets.admin_url) == ("https://gw.example.com", None)
    assert targets.sends_mail
    assert targets.providers == {
        "anthropic": Endpoint("https://a.example.com/prefix/v1/models"),
        "openai": Endpoint("https://api.openai.com/v1/models"),
    }


def test_without_a_key_of_ours_a_provider_is_not_looked_at() -> None:
    assert load_targets({}).providers == {}
    assert not load_targets({}).sends_mail
    assert load_targets({"KARTA_POSTMARK_TOKEN": "x"}).sends_mail


def test_what_is_named_is_looked_at_without_a_key() -> None:
    targets = load_targets(
        {
            "KARTA_ENV": "production",
            "KARTA_PROVIDER_AZURE_OPENAI_BASE_URL": "https://own.example.com",
            "KARTA_HEALTH_PARTS": "provider-openai, provider-azure-openai,payments",
        }
    )
    assert targets.providers == {
        "azure-openai": Endpoint("https://own.example.com/v1/models"),
        "openai": Endpoint("https://api.openai.com/v1/models"),
    }
    assert targets.takes_payments
    assert not load_targets({"KARTA_HEALTH_PARTS": ["provider-openai"]}).takes_payments


@pytest.mark.parametrize("parts", ["openai", "provider-nobody", "payments,provider-"])
def test_what_there_is_not_cannot_be_looked_at(parts: str) -> None:
    with pytest.raises(CommandError, match="KARTA_HEALTH_PARTS"):
        load_targets({"KARTA_HEALTH_PARTS": parts})


def test_what_is_no_provider() -> None:
    with pytest.raises(CommandError, match="KARTA_PROVIDER_OPENAI_BASE_URL"):
        load_targets({"KARTA_PROVIDER_OPENAI_BASE_URL": "nowhere"})
