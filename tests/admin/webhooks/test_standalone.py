"""The worker by itself: what the settings make of it."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from admin.settings import AdminSettings
from admin.webhooks.safe_address import Rules, UnsafeURL, parse
from admin.webhooks.standalone import main, make_dialer
from storage.errors import SealError
from storage.settings import SettingsError

URL = "postgresql://karta@127.0.0.1:1/karta"


def test_nothing_private_is_open_unless_somebody_says_so() -> None:
    assert make_dialer(AdminSettings.load(database_url=URL), "http://localhost:8000").rules == Rules()
    settings = AdminSettings.load(database_url=URL, webhooks_allowed_networks="10.0.0.0/8, fd00::/8")
    rules = make_dialer(settings, "http://localhost:8000").rules
    assert rules.allowed_networks == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def test_our_own_servers_are_no_receivers() -> None:
    settings = AdminSettings.load(
        database_url=URL,
        admin_url="https://admin.karta.example.com",
        public_url="https://gw.karta.example.com",
    )
    rules = make_dialer(settings, settings.admin_url or "").rules
    for host in ("admin.karta.example.com", "gw.karta.example.com"):
        with pytest.raises(UnsafeURL, match="Karta itself"):
            parse(f"https://{host}/x", rules)


def test_authorities_of_a_file_are_trusted(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(SettingsError, match="no such file"):
        AdminSettings.load(database_url=URL, webhooks_ca_file=file)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(file))
    dialer = make_dialer(AdminSettings.load(database_url=URL, webhooks_ca_file=file), "http://localhost:8000")
    assert dialer.ssl_context is not None
    told = [found["subject"] for found in dialer.ssl_context.get_ca_certs()]
    assert any("trustme" in str(one) for one in told)


def test_without_a_master_key_it_says_so() -> None:
    with pytest.raises(SealError, match="KARTA_MASTER_KEYS"):
        main(AdminSettings.load(database_url=URL), on_ready=lambda: None)


_PROGRAM = """
import resource
from admin.settings import AdminSettings
from admin.webhooks.standalone import main
from storage.errors import StorageError
from storage.sealing import MasterKeys
settings = AdminSettings.load(
    database_url="postgresql://karta@127.0.0.1:1/karta", master_keys=MasterKeys.generate()
)
try:
    main(settings, on_ready=lambda: None)
except* StorageError:
    print(*resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_it_leaves_no_core_file() -> None:
    told = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, check=True, text=True)
    assert told.stdout.split() == ["0", "0"]
