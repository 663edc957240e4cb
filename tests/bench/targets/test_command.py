"""`bench targets` tells what is there; `bench install` installs what is asked for."""

import json
from pathlib import Path

import pytest

from bench.command import main
from bench.targets.packages import CACHE_VARIABLE, Package


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))


def test_targets_are_listed_with_their_state(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["relay"]["ready"] is True
    assert rows["litellm"]["ready"] is False
    assert rows["litellm"]["mend"].startswith("karta bench install litellm")
    assert main(["targets"]) == 0
    assert "ferrogw" in capsys.readouterr().out


def test_install_installs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    installed: list[str] = []
    monkeypatch.setattr(Package, "install", lambda self: installed.append(self.name))
    assert main(["install", "ferrogw"]) == 0
    assert main(["install", "all"]) == 0
    assert installed == ["ferrogw", "ferrogw", "respan-gateway", "portkey", "litellm"]
    assert "installing ferrogw 1.5.10 into" in capsys.readouterr().out


def test_a_failed_install_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.targets.packages._pypi_commands", lambda _: [["false"]])
    assert main(["install", "ferrogw"]) == 1
    assert capsys.readouterr().err.count("karta bench: ") == 1
