"""What `karta doctor` finds out."""

from __future__ import annotations

import argparse
from pathlib import Path
from resource import RLIM_INFINITY
from typing import get_args

import pytest

from bench.keys import KEY_VARIABLE
from bench.targets.nginx import PROGRAM_VARIABLE
from bench.targets.packages import CACHE_VARIABLE
from gateway import lane
from karta import diagnosis
from karta.diagnosis import Check, Diagnosis, State, diagnose, list_settings
from storage.sealing import MasterKeys
from storage.settings import read_variables
from tests.support.ports import free_port


def given(url: str | None = None) -> argparse.Namespace:
    return argparse.Namespace(database_url=url, data_dir=None)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC", "OPENAI"):
        monkeypatch.setenv(f"KARTA_PROVIDER_{name}_BASE_URL", f"http://127.0.0.1:{free_port()}")


def of(diagnosis: Diagnosis, name: str) -> list[tuple[State, str]]:
    return [(check.state, check.detail) for check in diagnosis.checks if check.name == name]


async def test_a_sound_one_has_no_failed_check(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARTA_MASTER_KEYS", MasterKeys.generate())
    diagnosis = await diagnose(given(database_url))
    assert not diagnosis.failed
    assert of(diagnosis, "database")[0][1].startswith("PostgreSQL 18")
    assert of(diagnosis, "schema") == [("ok", "is this release's")]
    assert [state for state, _ in of(diagnosis, "roles")] == ["ok", "ok"]
    assert of(diagnosis, "master key") == [("ok", "version 1 seals (known: 1)")]
    assert {check.state for check in diagnosis.checks} <= set(get_args(State))
    looked_for = [check.name for check in diagnosis.checks if check.name.startswith("provider ")]
    assert looked_for == ["provider anthropic", "provider openai"]


async def test_whether_mail_is_sent_is_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert of(await diagnose(given(database_url)), "mail")[0][0] == "ok"
    monkeypatch.setenv("KARTA_MASTER_KEYS", MasterKeys.generate())
    monkeypatch.setenv("KARTA_ENV", "production")
    monkeypatch.setenv("KARTA_TRUSTED_PROXIES", "10.0.0.0/8")
    monkeypatch.setenv("KARTA_ADMIN_URL", "https://admin.example.com")
    assert of(await diagnose(given(database_url)), "mail")[0][0] == "warning"
    monkeypatch.setenv("KARTA_POSTMARK_TOKEN", "a-token-of-a-server")
    monkeypatch.setenv("KARTA_MAIL_FROM", "Karta <karta@example.com>")
    found = await diagnose(given(database_url))
    assert of(found, "mail") == [("ok", "Postmark sends it, from Karta <karta@example.com>")]
    assert "a-token-of-a-server" not in str(found.document())


async def test_a_provider_that_is_set_is_looked_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("KARTA_PROVIDER_VLLM_BASE_URL", url)
    diagnosis = await diagnose(given(database_url))
    told = f"{url} cannot be reached from here, without a platform key"
    assert of(diagnosis, "provider vllm") == [("warning", told)]


async def test_networks_opened_to_webhooks_are_told_of_loudly(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert of(await diagnose(given(database_url)), "webhooks") == []
    monkeypatch.setenv("KARTA_WEBHOOKS_ALLOWED_NETWORKS", "10.0.0.0/8")
    [(state, told)] = of(await diagnose(given(database_url)), "webhooks")
    assert state == "warning"
    assert "10.0.0.0/8" in told
    assert "KARTA_WEBHOOKS_ALLOWED_NETWORKS" in told


async def test_without_a_database_it_still_tells_the_rest() -> None:
    diagnosis = await diagnose(given())
    assert diagnosis.failed
    assert diagnosis.settings
    assert "karta up" in of(diagnosis, "database")[0][1]


async def test_one_that_is_away_is_told(database_url: str) -> None:
    port = free_port()
    diagnosis = await diagnose(given(f"postgresql://karta:hunter2@127.0.0.1:{port}/karta"))
    [(state, told)] = of(diagnosis, "database")
    assert state == "failed"
    assert told.endswith(f": postgresql://karta:…@127.0.0.1:{port}/karta, chosen by --database-url")


async def test_what_is_no_url_is_told_by_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARTA_DATABASE_URL", "localhost:5432")
    told = of(await diagnose(given()), "database")
    assert told == [("failed", "KARTA_DATABASE_URL: write it as postgresql://user:password@host:port/name")]


async def test_a_missing_schema_is_told(postgres_server: object, empty_database_name: str) -> None:
    diagnosis = await diagnose(given(postgres_server.url(empty_database_name)))  # type: ignore[attr-defined]
    assert "karta migrate" in of(diagnosis, "database")[-1][1]
    assert diagnosis.failed


async def test_every_problem_is_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARTA_ENV", "production")
    monkeypatch.setenv("KARTA_ADMIN_BIND", "8000")
    monkeypatch.setenv("KARTA_PROVIDER_OPENAI_BASE_URL", "http://api.openai.com")
    told = " ".join(detail for _, detail in of(await diagnose(given(database_url)), "settings"))
    for name in (
        "KARTA_MASTER_KEYS",
        "KARTA_TRUSTED_PROXIES",
        "KARTA_ADMIN_BIND",
        "KARTA_PROVIDER_OPENAI_BASE_URL",
    ):
        assert name in told


async def test_payments_are_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [
        check.detail for check in (await diagnose(given(database_url))).checks if check.name == "payments"
    ]
    assert before == ["Stripe is not set up: staff give plans"]
    monkeypatch.setenv("KARTA_STRIPE_API_KEY", "sk_test_abcdefgh")
    assert "KARTA_STRIPE_WEBHOOK_SECRET: not set" in str((await diagnose(given(database_url))).checks)
    monkeypatch.setenv("KARTA_STRIPE_WEBHOOK_SECRET", "whsec_abcdefgh")
    found = await diagnose(given(database_url))
    told = {check.detail: check.state for check in found.checks if check.name == "payments"}
    assert told.pop("by Stripe, in test mode, at https://api.stripe.com") == "ok"
    assert set(told.values()) == {"warning"}
    assert "abcdefgh" not in str(found.document())


async def test_a_misspelt_variable_is_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARTA_TRUSTED_PROXY", "10.0.0.1")
    diagnosis = await diagnose(given(database_url))
    assert (
        "warning",
        "nothing reads KARTA_TRUSTED_PROXY (from environment); did you mean KARTA_TRUSTED_PROXIES?",
    ) in of(diagnosis, "settings")
    assert not diagnosis.failed


async def test_a_master_key_that_others_can_read_is_told(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(MasterKeys.generate())
    (tmp_path / "keys").chmod(0o644)
    monkeypatch.setenv("KARTA_MASTER_KEYS_FILE", str(tmp_path / "keys"))
    assert of(await diagnose(given(database_url)), "master key")[0][0] == "failed"


def test_settings_are_listed_with_origin_and_without_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "karta.toml").write_text('session_hours = 3\nmaster_keys = "hunter2"\n')
    monkeypatch.setenv("KARTA_DATABASE_URL", "postgresql://karta:hunter2@db:6432/karta")
    monkeypatch.setenv("KARTA_PROVIDER_ANTHROPIC_API_KEY", "hunter2")
    settings = {setting.name: setting for setting in list_settings(read_variables())}
    assert "hunter2" not in str(settings)
    assert settings["KARTA_DATABASE_URL"].value == "postgresql://karta:…@db:6432/karta"
    assert settings["KARTA_DATABASE_URL"].origin == "environment"
    assert (settings["KARTA_SESSION_HOURS"].value, settings["KARTA_SESSION_HOURS"].origin) == (
        "3",
        "karta.toml",
    )
    assert settings["KARTA_ADMIN_BIND"].origin == "default"
    assert settings["KARTA_MASTER_KEYS"].value == "(hidden)"
    # As one would write them oneself.
    assert settings["KARTA_WEBHOOKS_DELIVER"].value == "true"
    assert settings["KARTA_STRIPE_PAGES"].value == "https://checkout.stripe.com,https://billing.stripe.com"
    assert settings["KARTA_PROVIDER_ANTHROPIC_API_KEY"].value == "(hidden)"
    assert all(setting.description for setting in settings.values())


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("OPENAI_APIKEY", "hunter2", "(hidden)"),
        ("OPENAI_KEY", "hunter2", "(hidden)"),
        ("OPEN_AI_BASE_URL", "hunter2", "(hidden)"),
        ("OPENAI_BASE_URL", "hunter2", "(hidden)"),
        ("OPENAI_BASE_URL", "https://karta:hunter2@proxy", "(hidden)"),
        ("OPENAI_BASE_URL", "https://proxy?key=hunter2", "(hidden)"),
        ("OPENAI_BASE_URL", "https://proxy/openai", "https://proxy/openai"),
        ("AZURE_OPENAI_CA_FILE", "/etc/ca.pem", "/etc/ca.pem"),
        ("OPENAI_STREAM_USAGE", "false", "false"),
    ],
)
def test_of_a_provider_only_what_is_no_secret_is_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: str
) -> None:
    monkeypatch.setenv(f"KARTA_PROVIDER_{name}", value)
    settings = {setting.name: setting.value for setting in list_settings(read_variables())}
    assert settings[f"KARTA_PROVIDER_{name}"] == shown


@pytest.mark.parametrize("variable", [KEY_VARIABLE, CACHE_VARIABLE, PROGRAM_VARIABLE])
async def test_what_the_load_harness_reads_is_known(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "x")
    assert all(variable not in detail for _, detail in of(await diagnose(given()), "settings"))


def test_the_document_says_whether_all_is_well() -> None:
    assert Diagnosis([], [Check("x", "warning", "")]).document()["ok"] is True
    assert Diagnosis([], [Check("x", "failed", "")]).document()["ok"] is False


async def test_the_hot_path_is_told() -> None:
    ((state, detail),) = of(await diagnose(given()), "hot path")
    assert state == "ok"
    assert detail.startswith("interpreted" if str(lane.__file__).endswith(".py") else "compiled")


@pytest.mark.parametrize(
    ("limit", "state", "told"),
    [(20_000, "ok", "9968 streams"), (1_024, "warning", "LimitNOFILE"), (RLIM_INFINITY, "ok", "as many")],
)
async def test_too_few_descriptors_are_told(
    limit: int, state: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "descriptors_max", lambda: limit)
    ((found, detail),) = of(await diagnose(given()), "open files")
    assert (found, told in detail) == (state, True)
