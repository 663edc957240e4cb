"""The data plane's settings: from variables to providers and limits, and every mistake told at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gateway.refusal import Dialect
from gateway.settings import GatewaySettings
from storage.sealing import MasterKeys
from storage.settings import Bind, SettingsError
from tests.support.certificates import ServerFiles

NEEDED = {"KARTA_DATABASE_URL": "postgresql://karta@127.0.0.1/karta"}


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment with what is needed and nothing else, in a folder without a karta.toml."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("KARTA_"):
            monkeypatch.delenv(name)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("variables")
def test_the_defaults_reach_the_real_providers_and_no_simulated_one() -> None:
    settings = GatewaySettings.load()
    providers = settings.providers()
    assert settings.gateway_bind == Bind("127.0.0.1", 8080)
    assert (providers["anthropic"].origin.host, providers["openai"].origin.host) == (
        "api.anthropic.com",
        "api.openai.com",
    )
    assert providers["anthropic"].platform_key is None
    assert settings.simulated() == {}


def test_a_provider_is_named_by_variables(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("KARTA_PROVIDER_OPENAI_BASE_URL", "http://127.0.0.1:9000/prefix")
    variables.setenv("KARTA_PROVIDER_OPENAI_API_KEY", "sk-secret")
    settings = GatewaySettings.load()
    openai = settings.providers()["openai"]
    assert (openai.origin.port, openai.prefix, openai.platform_key) == (9000, b"/prefix", b"sk-secret")
    assert "sk-secret" not in repr(settings)
    assert "sk-secret" not in repr(openai)


def test_the_simulated_provider_speaks_both_dialects(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("KARTA_SIMULATED_BASE_URL", "http://127.0.0.1:9001")
    variables.setenv("KARTA_SIMULATED_API_KEY", "sk-simulated")
    simulated = GatewaySettings.load().simulated()
    assert set(simulated) == {Dialect.ANTHROPIC, Dialect.OPENAI}
    assert {provider.platform_key for provider in simulated.values()} == {b"sk-simulated"}


def test_limits_follow_their_settings(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("KARTA_BODY_BYTES_MAX", "2048")
    variables.setenv("KARTA_FIRST_BYTE_SECONDS", "1.5")
    limits = GatewaySettings.load().limits()
    assert (limits.body_bytes_max, limits.first_byte_seconds) == (2048, 1.5)


def test_all_mistakes_are_told_at_once(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("KARTA_GATEWAY_BIND", "nowhere")
    variables.setenv("KARTA_BODY_BYTES_MAX", "many")
    variables.setenv("KARTA_PROVIDER_OPENAI_BASE_URL", "ftp://x")
    variables.setenv("KARTA_SIMULATED_BASE_URL", "http://127.0.0.1/v1")
    with pytest.raises(SettingsError) as caught:
        GatewaySettings.load()
    told = "\n".join(caught.value.problems)
    for name in ("KARTA_GATEWAY_BIND", "KARTA_BODY_BYTES_MAX", "KARTA_PROVIDER_OPENAI_BASE_URL"):
        assert name in told


def test_a_platform_account_is_shared_in_production_unless_it_is_said_not_to_be(
    variables: pytest.MonkeyPatch,
) -> None:
    assert not GatewaySettings.load().shared_account
    variables.setenv("KARTA_ENV", "production")
    variables.setenv("KARTA_TRUSTED_PROXIES", "10.0.0.0/8")
    variables.setenv("KARTA_MASTER_KEYS", "1:" + "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=")
    assert GatewaySettings.load().shared_account
    variables.setenv("KARTA_PLATFORM_ACCOUNT_SHARED", "false")
    assert not GatewaySettings.load().shared_account


def test_production_wants_https_to_providers(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("KARTA_ENV", "production")
    variables.setenv("KARTA_TRUSTED_PROXIES", "10.0.0.0/8")
    variables.setenv("KARTA_MASTER_KEYS", "1:" + "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=")
    variables.setenv("KARTA_PROVIDER_OPENAI_BASE_URL", "http://provider.example")
    with pytest.raises(SettingsError, match="https"):
        GatewaySettings.load()


def test_production_takes_a_certificate_for_a_proxy(variables: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = ServerFiles(tmp_path)
    variables.setenv("KARTA_ENV", "production")
    variables.setenv("KARTA_MASTER_KEYS", MasterKeys.generate())
    with pytest.raises(SettingsError, match="KARTA_TLS_CERT_FILE: production needs TLS"):
        GatewaySettings.load()
    variables.setenv("KARTA_TLS_CERT_FILE", str(files.cert_file))
    with pytest.raises(SettingsError, match="KARTA_TLS_KEY_FILE: not set"):
        GatewaySettings.load()
    variables.setenv("KARTA_TLS_KEY_FILE", str(files.key_file))
    assert GatewaySettings.load().certificates() is not None
    files.key_file.write_text("no key")
    with pytest.raises(SettingsError, match="KARTA_TLS_KEY_FILE: one of them is not PEM"):
        GatewaySettings.load()


def test_the_proxy_protocol_needs_somebody_to_speak_it(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("KARTA_PROXY_PROTOCOL", "true")
    with pytest.raises(SettingsError, match="KARTA_TRUSTED_PROXIES names nobody"):
        GatewaySettings.load()
    variables.setenv("KARTA_TRUSTED_PROXIES", "10.0.0.0/8")
    assert GatewaySettings.load().proxy_protocol


def test_who_watches_can_be_told(variables: pytest.MonkeyPatch, tmp_path: Path) -> None:
    variables.setenv("KARTA_REQUEST_LOG", str(tmp_path / "nowhere" / "log"))
    variables.setenv("KARTA_TRACES_URL", "http://127.0.0.1:4318/v1/traces")
    variables.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(SettingsError) as caught:
        GatewaySettings.load()
    assert "KARTA_REQUEST_LOG: there is no folder" in str(caught.value)
    assert "pip install 'karta[otel]'" in str(caught.value)
    variables.delitem(sys.modules, "opentelemetry.exporter.otlp.proto.http")
    variables.setenv("KARTA_REQUEST_LOG", str(tmp_path / "log"))
    assert GatewaySettings.load().traces_percent == 100
    variables.setenv("KARTA_TRACES_URL", "127.0.0.1:4318")
    with pytest.raises(SettingsError):
        GatewaySettings.load()


def test_the_time_that_keys_outlive_the_database_is_set_within_bounds(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("KARTA_KEY_STALE_SECONDS", "90")
    assert GatewaySettings.load().limits().key_stale_seconds == 90
    # Keys are read again every twenty seconds: a shorter one would refuse while the database is well.
    variables.setenv("KARTA_KEY_STALE_SECONDS", "5")
    with pytest.raises(SettingsError, match="KARTA_KEY_STALE_SECONDS"):
        GatewaySettings.load()
