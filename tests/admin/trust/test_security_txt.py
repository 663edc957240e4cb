from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from admin.trust.security_txt import NotSecurityTxt, read_signed, write

ORIGIN = "https://karta.example.com"
SIGNED = """\
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Contact: mailto:security@example.com
Expires: 2099-01-01T00:00:00Z
Canonical: https://karta.example.com/.well-known/security.txt
# Keep calm
-----BEGIN PGP SIGNATURE-----

iHUEARYIAB0WIQTLZsx1Yeqy/8hp58TCdBHMHvd1SAUCawem8gAKCRDCdBHMHvd1
SC6oAQCgM1atmLzZMfDJc2M7v1d1KNoB2sVo6ecPJF/X2SNScwEA9daYpzvA2AdG
p0c3MDpv4ePlOIZeo1xjpqiZCjzOaws=
=uzrL
-----END PGP SIGNATURE-----
"""
"""By GnuPG, which says it is good."""

FIELDS = {
    "Contact",
    "Expires",
    "Encryption",
    "Acknowledgments",
    "Preferred-Languages",
    "Canonical",
    "Policy",
    "Hiring",
}


def test_each_line_is_a_field_of_the_rfc() -> None:
    now = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
    text = write(
        "https://karta.example.com", ["mailto:a@example.com", "https://karta.example.com/abuse"], now
    )
    assert text.endswith("\r\n")
    names = []
    for line in text.removesuffix("\r\n").split("\r\n"):
        found = re.fullmatch(r"([A-Za-z-]+): (\S.*)", line)
        assert found is not None, line
        names.append(found[1])
    assert set(names) <= FIELDS
    assert names.count("Contact") == 2
    for once in ("Expires", "Preferred-Languages"):
        assert names.count(once) == 1
    expires = datetime.fromisoformat(dict(line.split(": ", 1) for line in text.splitlines())["Expires"])
    assert timedelta(days=150) < expires - now < timedelta(days=365)


def test_a_signed_file_says_when_it_expires() -> None:
    for text in (SIGNED, SIGNED.replace("\n", "\r\n"), SIGNED.replace("# Keep", "- # Keep")):
        assert read_signed(text.encode(), ORIGIN) == datetime(2099, 1, 1, tzinfo=UTC)
    assert read_signed(SIGNED.encode(), None) == datetime(2099, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("-----BEGIN PGP SIGNED", "Contact: x:y\n-----BEGIN PGP SIGNED", "outside of what is signed"),
        ("-----END PGP SIGNATURE-----", "-----END PGP SIGNATURE-----\nContact: x:y", "outside of what"),
        ("-----END PGP SIGNATURE-----", "", "not signed in the clear"),
        ("-----BEGIN PGP SIGNATURE-----\n\n", "-----BEGIN PGP SIGNATURE-----\n\n*", "damaged"),
        ("-----BEGIN PGP SIGNATURE-----\n\n", "-----BEGIN PGP SIGNATURE-----\n\nAAAA", "not one of OpenPGP"),
        ("Contact: mailto:security@example.com\n", "", "no Contact"),
        ("mailto:security@example.com", "http://example.com", "must be https"),
        ("Expires: 2099-01-01T00:00:00Z\n", "", "one Expires"),
        ("Expires: 2099-01-01T00:00:00Z", "Expires: 2099-01-01T00:00:00", "time zone"),
        ("Expires: 2099-01-01T00:00:00Z", "Expires: soon", "not a time"),
        ("Canonical: https://karta.", "Canonical: https://else.", "Canonical is not"),
        ("Contact: mailto", "Con tact mailto", "is not a field"),
    ],
)
def test_what_is_not_served(old: str, new: str, problem: str) -> None:
    assert old in SIGNED
    with pytest.raises(NotSecurityTxt, match=problem):
        read_signed(SIGNED.replace(old, new).encode(), ORIGIN)
