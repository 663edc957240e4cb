"""Where the pages try a key: at the gateway's own providers, in the way each of them wants."""

from __future__ import annotations

import pytest
import trio

from admin.provider_check import Verdict, check
from gateway.provider import ProviderError
from karta.provider_endpoints import is_wanted, load_endpoints
from tests.karta.commands.test_servers import started


def test_each_provider_is_asked_in_its_own_way() -> None:
    variables = {"KARTA_PROVIDER_AZURE_OPENAI_BASE_URL": "https://acme.openai.azure.com/openai"}
    endpoints = load_endpoints(variables, development=False)
    assert endpoints["anthropic"].url == "https://api.anthropic.com/v1/models"
    assert endpoints["anthropic"].header == "x-api-key"
    assert endpoints["anthropic"].headers == {"anthropic-version": "2023-06-01"}
    assert endpoints["openai"][:3] == ("https://api.openai.com/v1/models", "Authorization", "Bearer ")
    assert endpoints["azure_openai"].header == "api-key"
    assert endpoints["gemini"].url == "https://generativelanguage.googleapis.com/v1beta/openai/models"
    # Anybody may ask this one for its models: a key of it is tried elsewhere.
    assert endpoints["openrouter"].url == "https://openrouter.ai/api/v1/key"
    assert "vllm" not in endpoints


def test_keys_of_the_platform_are_not_read() -> None:
    assert not is_wanted("KARTA_PROVIDER_OPENAI_API_KEY")
    endpoints = load_endpoints({"KARTA_PROVIDER_OPENAI_API_KEY": "sk-platform"}, development=False)
    assert "sk-platform" not in repr(endpoints)


def test_what_the_gateway_would_refuse_is_refused() -> None:
    with pytest.raises(ProviderError):
        load_endpoints({"KARTA_PROVIDER_OPENAI_BASE_URL": "http://elsewhere.example"}, development=False)


def test_the_simulated_provider_knows_its_keys_from_others() -> None:
    environment = {"KARTA_SIM_KEYS": "sk-good-0123456789"}
    with started("sim", environment=environment) as (_, told):
        variables = {f"KARTA_PROVIDER_{name}_BASE_URL": told["base_url"] for name in ("ANTHROPIC", "OPENAI")}
        endpoints = load_endpoints(variables, development=False)
        for name in ("anthropic", "openai"):
            for key, verdict in ((b"sk-good-0123456789", "accepted"), (b"sk-bad-0123456789", "refused")):
                assert trio.run(check, endpoints[name], key) is Verdict(verdict), (name, key)
