from __future__ import annotations

from admin.mail.content import NAME_CHARS_MAX, line, lines, minute, name


def test_a_line_is_one_line_of_what_can_be_seen() -> None:
    assert line("a\r\nBcc: b\u2028c\u202e\x00 d\ud800") == "a Bcc: b c d"
    assert line("x" * 500, 20) == "x" * 19 + "…"
    assert line(7) == "7"


def test_lines_stay_lines() -> None:
    assert lines("a\tb\r\n\x1b[31mc\n") == "a b\n[31mc"


def test_no_name_is_a_link_or_long() -> None:
    assert name("Acme Inc.") == "Acme Inc."
    shown = name("www.evil.example a@b.example http://x")
    assert shown.replace("\u2060", "") == "www.evil.example a@b.example http://x"
    assert "evil.example" not in shown
    assert "http:/" not in shown
    assert len(name("x" * 500)) == NAME_CHARS_MAX


def test_times_are_as_the_database_or_python_writes_them() -> None:
    for written in ("2026-11-01T00:00:00+00:00", "2026-11-01T00:00:00.123456+00:00", "2026-11-01T00:00:00Z"):
        assert minute(written) == "1 Nov 2026, 00:00 UTC"
