"""`bench diff` and `bench report`, from files to words."""

import json
from pathlib import Path

import msgspec
import pytest

from bench.command import main
from bench.report.command import differing
from bench.report.files import write_report
from tests.bench.compare.seen import MACHINE, comparison, summary

IDLE = msgspec.structs.replace(MACHINE, load_before=0.0)


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


def test_each_is_named_and_said_to_be_better_or_worse_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write(tmp_path / "a", [100, 101, 99]), write(tmp_path / "b", [200, 202, 198])
    assert main(["diff", str(first), str(second)]) == 0
    better = capsys.readouterr().out
    assert "A: Made up" in better
    assert "better" in better
    assert " 2.000 " in better
    assert main(["diff", str(second), str(first)]) == 0
    assert "worse" in capsys.readouterr().out


def test_one_round_is_said_to_be_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write(tmp_path / "a", [100]), write(tmp_path / "b", [200])
    assert main(["diff", str(first), str(second), "--all"]) == 0
    out = capsys.readouterr().out
    assert "one round" in out
    assert "measured once" in out


def test_nothing_in_common_and_no_such_arm_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "a", [100, 101])
    write_report(comparison({"other": {"naive": [summary(rate=1.0)]}}), tmp_path / "b")
    assert main(["diff", str(run), str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert "no figure in common" in out
    assert "Only A has the scenarios unary." in out
    assert "Only B has the arms naive." in out
    assert main(["diff", str(run), str(run), "--relative-to", "karta"]) == 2
    assert "A has no arm karta; it has relay" in capsys.readouterr().err


def test_what_else_is_different_is_told() -> None:
    first, second = (comparison({"unary": {}}, machine=IDLE) for _ in range(2))
    second.options = msgspec.structs.replace(second.options, seconds=9)
    second.scenarios = [msgspec.structs.replace(second.scenarios[0], connections=64)]
    first.versions, second.versions = {"karta": "1"}, {"karta": "2"}
    second.broken = ["karta, unary: 1 body"]
    assert differing(first, second) == [
        "The runs differ in seconds: 3 and 9.",
        "karta is 1 in A and 2 in B.",
        "unary is not the same in both: connections 32 and 64.",
        "B saw 1 wrong run(s), which have no figures; its report tells.",
    ]


def test_different_machines_are_told() -> None:
    first, second = comparison({}, machine=IDLE), comparison({}, machine=IDLE)
    assert differing(first, second) == []
    second.machine = msgspec.structs.replace(IDLE, kernel="7")
    assert differing(first, second) == ["The machines differ in kernel: 6 and 7."]


def test_a_report_is_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write(tmp_path / "a", [100.0])
    assert main(["report", str(run / "seen.json"), "--out", str(tmp_path / "anew")]) == 0
    assert (tmp_path / "anew" / "report.html").read_text() == (run / "report.html").read_text()
    assert "report.html" in capsys.readouterr().out
