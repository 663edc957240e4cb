"""What each child of `karta up` is given, and what not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from karta import lifeline
from karta.children import SIMULATED_KEY, Children, environment, karta_command
from karta.service import Launch, Program
from storage.settings import Bind

SIMULATED = "http://127.0.0.1:9"
SET = {
    "KARTA_PROVIDER_ANTHROPIC_API_KEY": "sk-ant",
    "KARTA_MASTER_KEYS": "1:x",
    "KARTA_SIM_KEYS": "a,b",
    "KARTA_POSTMARK_TOKEN": "t",
    "KARTA_STRIPE_API_KEY": "sk_live_x",
    "KARTA_SESSION_HOURS": "1",
    "KARTA_DATABASE_URL": "postgresql://somebody/else",
    "KARTA_GATEWAY_BIND": "0.0.0.0:1",
}


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    for name, value in SET.items():
        monkeypatch.setenv(name, value)
    return Children(SET, hold=3)


def gateway(children: Children, earlier: str | None = None) -> Launch:
    program = children.gateway(
        Bind("127.0.0.1", 0),
        database_url="postgresql://gateway/karta",
        simulated_url=SIMULATED,
        master_keys_file=Path("/data/master.keys"),
        spool=Path("/data/spool"),
        workers="2",
    )
    return program.launch(earlier)


def admin(children: Children) -> Program:
    return children.admin(
        Bind("127.0.0.1", 8000),
        database_url="postgresql://admin/karta",
        gateway_url="http://127.0.0.1:8080",
        simulated_url=SIMULATED,
        master_keys_file=None,
    )


def test_the_simulated_provider_knows_nothing_of_ours(children: Children) -> None:
    given = children.simulated().launch(None)
    assert {name for name in given.environment if name.startswith("KARTA_")} == {"KARTA_SIM_KEYS"}
    assert given.command[-4:] == ["--port", "0", "--json", lifeline.FLAG]


def test_the_admin_pages_know_no_providers_key(children: Children) -> None:
    given = admin(children).launch(None).environment
    assert [name for name in given if "API_KEY" in name or "SIM" in name] == ["KARTA_STRIPE_API_KEY"]
    # But where each of them is: keys that people bring are tried there.
    assert given["KARTA_PROVIDER_OPENAI_BASE_URL"] == SIMULATED
    assert "KARTA_PROVIDER_ANTHROPIC_BASE_URL" not in given
    assert given["KARTA_DATABASE_URL"] == "postgresql://admin/karta"
    assert given["KARTA_ADMIN_BIND"] == "127.0.0.1:8000"
    assert given["KARTA_PUBLIC_URL"] == "http://127.0.0.1:8080"
    assert given["KARTA_SESSION_HOURS"] == "1"


def test_the_gateway_gets_its_own_login_bind_and_spool(children: Children) -> None:
    given = gateway(children).environment
    assert not any("POSTMARK" in name or "STRIPE" in name for name in given)
    assert given["KARTA_DATABASE_URL"] == "postgresql://gateway/karta"
    assert given["KARTA_GATEWAY_BIND"] == "127.0.0.1:0"
    assert given["KARTA_SPOOL_DIR"] == "/data/spool"
    assert given["KARTA_MASTER_KEYS_FILE"] == "/data/master.keys"
    assert given["KARTA_WORKERS"] == "2"


def test_what_the_settings_file_says_is_not_overridden() -> None:
    named = Children({"KARTA_SPOOL_DIR": "/mine", "KARTA_PUBLIC_URL": "https://mine"}, hold=3)
    assert "KARTA_SPOOL_DIR" not in gateway(named).environment
    assert "KARTA_PUBLIC_URL" not in admin(named).launch(None).environment


def test_a_restart_keeps_the_port(children: Children) -> None:
    assert gateway(children, "http://127.0.0.1:4711").environment["KARTA_GATEWAY_BIND"] == "127.0.0.1:4711"
    assert "4711" in children.simulated().launch("http://127.0.0.1:4711").command


def test_a_provider_that_somebody_configured_is_left_alone(children: Children) -> None:
    given = gateway(children).environment
    assert given["KARTA_PROVIDER_ANTHROPIC_API_KEY"] == "sk-ant"
    assert "KARTA_PROVIDER_ANTHROPIC_BASE_URL" not in given
    assert given["KARTA_PROVIDER_OPENAI_BASE_URL"] == SIMULATED
    assert given["KARTA_PROVIDER_OPENAI_API_KEY"] == SIMULATED_KEY
    assert given["KARTA_SIMULATED_BASE_URL"] == SIMULATED


def test_no_secret_is_in_a_command(children: Children) -> None:
    for launch in (gateway(children), admin(children).launch(None), children.simulated().launch(None)):
        assert not any(
            secret in part for part in launch.command for secret in ("sk-ant", "1:x", "postgresql:")
        )


def test_the_gateway_may_drain_before_it_is_killed() -> None:
    program = Children({"KARTA_DRAIN_SECONDS": 120}, hold=3).gateway(
        Bind("127.0.0.1", 0),
        database_url="",
        simulated_url="",
        master_keys_file=None,
        spool=Path(),
        workers=None,
    )
    assert program.stop_seconds_max > 120


def test_a_child_is_this_very_karta() -> None:
    assert karta_command("sim")[:5] == [sys.executable, "-P", "-m", "karta", "sim"]


def test_other_variables_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/x")
    assert environment(keep=("KARTA_SIM_",))["SSL_CERT_FILE"] == "/x"
