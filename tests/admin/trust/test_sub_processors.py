"""The file is sound, or Karta does not start."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from admin.settings import AdminSettings
from admin.trust.sub_processors import FILE_BYTES_MAX, NotSubProcessors, SubProcessorsFile, load
from storage.settings import SettingsError

GOOD = """
sub_processors:
  - {vendor: V, purpose: P, data: D, contact: C, location: L, url: "https://v.example", since: 2026-01-02}
history:
  - {date: 2026-02-01, change: Second.}
  - {date: 2026-01-02, change: First.}
"""


def test_the_releases_own_is_sound() -> None:
    found = load()
    assert found.sub_processors
    assert len(found.digest) == 32


def test_words_count_and_comments_do_not(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text(GOOD)
    one = load(path)
    path.write_text("# a comment\n" + GOOD)
    assert load(path).digest == one.digest
    path.write_text(GOOD.replace("vendor: V", "vendor: W"))
    assert load(path).digest != one.digest


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Expected `object`"),
        ("{", "x.yml"),
        (GOOD.replace("vendor: V, ", ""), "missing required field `vendor`"),
        (GOOD.replace("vendor: V", "vendor: V, more: x"), "unknown field `more`"),
        (GOOD.replace("https://v", "http://v"), "regex"),
        (GOOD.replace("2026-01-02}\nhistory", "soon}\nhistory"), "since"),
        (GOOD.replace("2026-02-01", "2025-02-01"), "the newest first"),
        (GOOD.replace("vendor: V", "vendor: &a V"), "without YAML's anchors"),
        (GOOD.replace("vendor: V", "vendor: !!python/name:os.system V"), "without YAML's anchors"),
        ("x" * (FILE_BYTES_MAX + 1), "larger than"),
    ],
)
def test_what_is_wrong_is_named_at_the_start(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text(text)
    with pytest.raises(NotSubProcessors, match=problem):
        load(path)
    with pytest.raises(SettingsError, match="KARTA_SUB_PROCESSORS_FILE"):
        AdminSettings.load(database_url="postgresql://x/y", sub_processors_file=path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotSubProcessors, match="cannot be read"):
        load(tmp_path / "none.yml")


def test_a_slip_leaves_the_list_before_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.yml"
    path.write_text(GOOD)
    file = SubProcessorsFile(path)
    first = file.read()
    path.write_text("&")
    with caplog.at_level(logging.ERROR):
        assert (file.read(), file.read()) == (first, first)
    path.unlink()
    assert file.read() == first
    path.write_text(GOOD.replace("Second.", "Another."))
    assert file.read().history[0].change == "Another."
    told = [record.getMessage() for record in caplog.records]
    assert ["anchors" in line for line in told] == [True, False], "each slip once"
