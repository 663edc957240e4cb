"""`karta master-key generate`."""

from __future__ import annotations

import json

from storage.sealing import MasterKeys
from tests.karta.conftest import Karta


def test_what_it_prints_can_be_used(karta: Karta) -> None:
    code, out, _ = karta("master-key", "generate")
    assert code == 0
    assert MasterKeys.parse(out).primary_version == 1
    out = karta("master-key", "generate", "--version", "7", "--json")[1]
    assert MasterKeys.parse(json.loads(out)["master_key"]).primary_version == 7


def test_each_is_new(karta: Karta) -> None:
    assert karta("master-key", "generate")[1] != karta("master-key", "generate")[1]


def test_a_version_is_a_number_from_1_up(karta: Karta) -> None:
    assert karta("master-key", "generate", "--version", "0")[0] == 2
