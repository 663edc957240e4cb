"""The table of what was survived: one line for each fault that was driven, with its figure."""

from __future__ import annotations

import pytest

from tests.faults.arena import FULL

_LINES = pytest.StashKey[list[tuple[str, str, str]]]()


class Table:
    """`add` a fault that was survived: its number in the matrix, its name, its figure."""

    def __init__(self, lines: list[tuple[str, str, str]]) -> None:
        self._lines = lines

    def add(self, number: int, fault: str, figure: str) -> None:
        self._lines.append((f"{number:2}", fault, figure))


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Table:
    return Table(pytestconfig.stash.setdefault(_LINES, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = sorted(config.stash.get(_LINES, []))
    if not lines or not FULL:
        return
    terminalreporter.section("faults survived")
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    for number, fault, figure in lines:
        terminalreporter.write_line(f"{number}  {fault:{widths[1]}}  {figure}")
