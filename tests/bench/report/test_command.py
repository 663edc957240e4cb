"""`bench diff` and `bench report`, from files to words."""

import json
from pathlib import Path

import msgspec
import pytest

from bench.command import main
from bench.report.command import differing
from bench.report.files import write_report
from tests.bench.compare.seen import comparison, summary


def write(folder: Path, rates: list[float]) -> Path:
    write_report(comparison({"unary": {"relay": [summary(rate=rate) for rate in rates]}}), folder)
    return folder


def test_a_change_is_printed_and_chance_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write(tmp_path / "a", [100, 101]), write(tmp_path / "b", [200, 202])
    assert main(["diff", str(first), str(second)]) == 0
    out = capsys.readouterr().out
    assert "requests/s" in out
    assert "may be the same" in out
    assert main(["diff", str(first), str(second), "--json"]) == 0
    found = {row["figure"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["requests/s"]["ratio"] == pytest.approx(2.0)


def test_what_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(tmp_path / "none"), str(tmp_path)]) == 2
    assert "karta bench: " in capsys.readouterr().err


def test_different_machines_are_told() -> None:
    first, second = comparison({}), comparison({})
    assert differing(first, second) == []
    second.machine = msgspec.structs.replace(second.machine, kernel="7")
    assert differing(first, second) == ["the machines differ in kernel: 6 and 7"]


def test_a_report_is_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "a", [100.0])
    assert main(["report", str(run / "seen.json"), "--out", str(tmp_path / "anew")]) == 0
    assert (tmp_path / "anew" / "report.html").read_text() == (run / "report.html").read_text()
    assert "report.html" in capsys.readouterr().out
