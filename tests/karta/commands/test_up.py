"""What `karta up` takes; what it does is in tests/karta/test_up.py."""

from __future__ import annotations

import argparse

import pytest

from karta.commands.up import port, worker_count
from tests.karta.conftest import Karta


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("8080", 8080), ("65535", 65535)])
def test_a_port(text: str, number: int) -> None:
    assert port(text) == number


@pytest.mark.parametrize("text", ["", "-1", "65536", "http", "٨٠"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        port(text)


def test_workers() -> None:
    assert [worker_count(text) for text in ("1", "256", "auto")] == ["1", "256", "auto"]
    for text in ("0", "257", "many", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            worker_count(text)


def test_the_promised_flags_are_there(karta: Karta) -> None:
    text = karta("up", "--help")[1]
    for flag in ("--data-dir", "--gateway-port", "--admin-port", "--workers", "--database-url", "--json"):
        assert flag in text


def test_a_url_that_is_none_is_one_clear_line(karta: Karta) -> None:
    code, out, err = karta("up", "--database-url", "sqlite://")
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_a_bind_that_is_none_names_its_variable(karta: Karta, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KARTA_ADMIN_BIND", "8000")
    code, _, err = karta("up")
    assert code == 1
    assert err.startswith("karta: KARTA_ADMIN_BIND: write it as host:port")
