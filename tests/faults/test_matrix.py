"""The table of faults in docs/: each row of the matrix is there, and each test it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "reference" / "faults.md").read_text()


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, functions)}


def test_every_row_has_its_tests() -> None:
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", TABLE, re.MULTILINE)} == set(range(1, 26))
    named = re.findall(r"`(tests/[a-z_/]+\.py)(?:::(\w+))?`", TABLE)
    assert len(named) >= 25
    for path, name in named:
        assert (ROOT / path).is_file(), path
        assert not name or name in functions_of(path), f"{path}::{name}"


def test_every_fault_that_is_driven_is_in_the_table() -> None:
    support = ("test_fault_proxy", "test_history", "test_matrix")
    for file in (ROOT / "tests" / "faults").glob("test_*.py"):
        path = str(file.relative_to(ROOT))
        for name in functions_of(path) if file.stem not in support else ():
            assert not name.startswith("test_") or f"`{path}::{name}`" in TABLE, name
