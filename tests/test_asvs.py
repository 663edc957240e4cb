"""The table of the ASVS in docs/: each requirement has its row, and each file and test it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs" / "reference" / "asvs.md"
# Of each section of ASVS 5.0.0 the last requirement of levels 1 and 2; those of level 3 stand behind.
LAST = {
    "1.1": 2,
    "1.2": 9,
    "1.3": 11,
    "1.4": 3,
    "1.5": 2,
    "2.1": 3,
    "2.2": 3,
    "2.3": 4,
    "2.4": 1,
    "3.2": 2,
    "3.3": 4,
    "3.4": 6,
    "3.5": 5,
    "3.7": 2,
    "4.1": 3,
    "4.2": 1,
    "4.3": 2,
    "4.4": 4,
    "5.1": 1,
    "5.2": 3,
    "5.3": 2,
    "5.4": 3,
    "6.1": 3,
    "6.2": 12,
    "6.3": 4,
    "6.4": 4,
    "6.5": 5,
    "6.6": 3,
    "6.8": 4,
    "7.1": 3,
    "7.2": 4,
    "7.3": 2,
    "7.4": 5,
    "7.5": 2,
    "7.6": 2,
    "8.1": 2,
    "8.2": 3,
    "8.3": 1,
    "8.4": 1,
    "9.1": 3,
    "9.2": 4,
    "10.1": 2,
    "10.2": 2,
    "10.3": 4,
    "10.4": 11,
    "10.5": 5,
    "10.6": 2,
    "10.7": 3,
    "11.1": 2,
    "11.2": 3,
    "11.3": 3,
    "11.4": 4,
    "11.5": 1,
    "11.6": 1,
    "12.1": 3,
    "12.2": 2,
    "12.3": 4,
    "13.1": 1,
    "13.2": 5,
    "13.3": 2,
    "13.4": 5,
    "14.1": 2,
    "14.2": 4,
    "14.3": 3,
    "15.1": 3,
    "15.2": 3,
    "15.3": 7,
    "16.1": 1,
    "16.2": 5,
    "16.3": 4,
    "16.4": 3,
    "16.5": 3,
    "17.1": 1,
    "17.2": 4,
    "17.3": 2,
}
REQUIREMENTS = [f"{section}.{number}" for section, last in LAST.items() for number in range(1, last + 1)]
ROW = re.compile(r"^\| (\d+\.[\d.*]+) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
STATES = ("**Met**", "**Part**: ", "**Gap**: ", "*none*", "the operator's")
PLACE = re.compile(r"`((?:admin|bench|config|docs|gateway|karta|storage|tests)/[^`:]+)(?:::(\w+))?`")


def rows() -> dict[str, str]:
    """What is said of each requirement, or of all that begin so."""
    return dict(ROW.findall(TABLE.read_text()))


@cache
def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_requirement_has_one_row() -> None:
    told = rows()
    for requirement in REQUIREMENTS:
        fitting = [
            name
            for name in told
            if name == requirement or (name.endswith("*") and requirement.startswith(name[:-1]))
        ]
        assert len(fitting) == 1, (requirement, fitting)
    assert {name for name in told if not name.endswith("*")} <= set(REQUIREMENTS)
    assert len(told) == len(ROW.findall(TABLE.read_text()))


def test_every_row_says_how_it_stands() -> None:
    for requirement, said in rows().items():
        assert said.startswith(STATES), (requirement, said)


def test_what_is_named_exists() -> None:
    named = PLACE.findall(TABLE.read_text())
    assert len(named) > 150
    for path, test in named:
        assert (ROOT / path).is_file(), path
        assert not test or test in functions_of(ROOT / path), (path, test)
