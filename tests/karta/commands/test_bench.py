"""`karta bench …` hands everything on."""

from __future__ import annotations

import pytest

from karta.cli import parse
from tests.karta.conftest import Karta


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["compare", "--smoke"], []])
def test_everything_after_it_is_its_own(arguments: list[str]) -> None:
    assert parse(["bench", *arguments]).rest == arguments


def test_its_own_help_is_shown(karta: Karta) -> None:
    code, out, _ = karta("bench", "run", "--help")
    assert code == 0
    assert "usage: karta bench run" in out


def test_its_exit_code_is_ours(karta: Karta) -> None:
    assert karta("bench", "run", "not a url")[0] != 0
