"""`karta bench capacity`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.command import main


def test_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capacity", "--set", "orgs=100000"]) == 0
    text = capsys.readouterr().out
    assert "breaks first: a host's start" in text
    assert "of them hold." in text


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capacity", "--set", "streams=100", "--set", "tls=false", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["target"]["streams"] == 100
    assert told["target"]["tls"] is False
    assert (told["holds"], told["cells_needed"]) == (True, 1)
    assert {"name", "amount", "most", "unit", "lever", "used"} == told["bounds"][0].keys()


def test_figures_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[request_cpu_us]\nvalue = 1e9\nunit = "µs"\nwhat = "w"\nsource = "s"\n')
    arguments = [
        "capacity",
        "--set",
        "requests_per_second=1",
        "--set",
        "streams=0",
        "--coefficients",
        str(path),
    ]
    assert main([*arguments, "--json"]) == 0
    [workers] = [one for one in json.loads(capsys.readouterr().out)["needs"] if one["name"] == "workers"]
    assert workers["amount"] > 1000


@pytest.mark.parametrize("wrong", ["streams", "stream=1", "streams=many", "streams=-1", 'tls="yes"'])
def test_what_is_no_target(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capacity", "--set", wrong]) == 2
    assert capsys.readouterr().err.startswith("karta bench: ")
