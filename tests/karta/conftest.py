"""Fixtures of the command line: no setting of the machine that runs the tests may reach them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from karta.cli import main
from tests.karta.processes import Up


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("KARTA_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    # No settings file of the folder, and no data directory of the user.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def karta(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A `karta up` of its own for a module of tests, on its first run."""
    with Up(tmp_path_factory.mktemp("up") / "data") as running:
        running.wait_ready()
        yield running


Karta = Callable[..., tuple[int, str, str]]
Document = dict[str, Any]
