"""`karta health`, and the job within a real `karta up`: a whole request by a test key, each minute."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.karta.conftest import Karta
from tests.karta.processes import Up, wait_until


def status(up: Up) -> dict[str, Any]:
    with urllib.request.urlopen(up.told["admin_url"] + "/status.json", timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_up_keeps_its_status_page(up: Up, karta: Karta) -> None:
    wait_until(lambda: len(status(up)["components"]) >= 3)
    found = {one["name"]: one["status"] for one in status(up)["components"]}
    assert found == {"admin": "up", "database": "up", "gateway": "up", "webhooks": "up"}
    assert status(up)["status"] == "up"
    # Within this minute the round is done; in the next one, it is ours or theirs.
    code, out, err = karta("health", "--json", "--data-dir", up.data_dir)
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["ran"] == bool(told["samples"])
    assert {one["state"] for one in told["samples"]} <= {"up"}


def test_there_must_be_something_to_look_at(karta: Karta, database_url: str) -> None:
    code, _, err = karta("health", "--database-url", database_url)
    assert code == 1
    assert "KARTA_PUBLIC_URL" in err


def test_one_round(karta: Karta, database_url: str) -> None:
    code, out, _ = karta("health", "--gateway-url", "http://127.0.0.1:1", "--database-url", database_url)
    assert code == 0
    assert "gateway" in out
    assert "down" in out
