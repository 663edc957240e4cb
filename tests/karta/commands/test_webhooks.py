"""`karta webhooks` as a process. (That it sends, and what it leaves when it is killed, is in
tests/admin/webhooks.)"""

from __future__ import annotations

import signal

from storage.sealing import MasterKeys
from tests.karta.commands.test_servers import started
from tests.karta.conftest import Karta


def test_it_says_when_it_is_ready_and_stops_at_sigterm(database_url: str) -> None:
    environment = {"KARTA_DATABASE_URL": database_url, "KARTA_MASTER_KEYS": MasterKeys.generate()}
    with started("webhooks", environment=environment) as (process, told):
        assert told == {"ready": True}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_without_a_master_key_it_says_how_to_give_one(karta: Karta, database_url: str) -> None:
    code, _, err = karta("webhooks", "--database-url", database_url)
    assert (code, err.count("\n")) == (1, 1)
    assert "KARTA_MASTER_KEYS" in err
