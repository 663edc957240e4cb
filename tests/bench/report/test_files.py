"""A folder has all three, and is read back."""

from pathlib import Path

import pytest

from bench.report.files import read_comparison, write_report
from tests.bench.compare.seen import comparison, summary


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    seen = comparison({"unary": {"relay": [summary(rate=5)]}})
    written = write_report(seen, tmp_path / "run")
    assert [path.name for path in written] == ["seen.json", "figures.csv", "report.html"]
    assert all(path.stat().st_size for path in written)
    assert read_comparison(tmp_path / "run") == read_comparison(written[0]) == seen


def test_what_is_no_comparison_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"answer": 42}')
    with pytest.raises(ValueError, match="was not written by"):
        read_comparison(path)
