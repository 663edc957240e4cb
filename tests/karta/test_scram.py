"""SCRAM verifiers: against PostgreSQL itself, and against a known one."""

from __future__ import annotations

import pytest

from karta.scram import ITERATIONS, make_verifier
from storage.bridge import Database


def test_the_form_is_postgresqls() -> None:
    # The password, salt and iteration count of RFC 7677's example.
    salt = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81"
    assert make_verifier("pencil", salt) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
    assert ITERATIONS == 4096


def test_each_has_its_own_salt() -> None:
    assert make_verifier("pencil") != make_verifier("pencil")


async def test_postgresql_takes_it_as_it_is(owner_db: Database) -> None:
    verifier = make_verifier("pencil")
    await owner_db.execute(f"CREATE ROLE scram_probe PASSWORD '{verifier}'")
    kept = await owner_db.fetch_value("SELECT rolpassword FROM pg_authid WHERE rolname = 'scram_probe'")
    await owner_db.execute("DROP ROLE scram_probe")
    assert kept == verifier


@pytest.mark.parametrize("password", ["Ünïcode", "two\nlines"])
def test_a_password_that_would_need_preparation_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="generate the password"):
        make_verifier(password)
