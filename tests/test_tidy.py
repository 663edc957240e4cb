"""The house style, as far as a test can read it: a test for every file, sizes, names, and what may be
imported.

The limits are absolute. When one is in the way, the file wants to be two.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("karta", "bench", "gateway", "admin", "storage")
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
NAMES_FORBIDDEN = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}
# A package's docstring and an entry point have nothing to test that their neighbours' tests do not.
TWINLESS = {"__init__.py", "__main__.py"}
# Put together at run time, so that this file does not find itself.
UNFINISHED = re.compile(
    "|".join(rf"\b{first}{rest}\b" for first, rest in (("TO", "DO"), ("FIX", "ME"), ("XX", "X")))
)
ASYNCIO_ALLOWED = ("storage/bridge.py", "bench/")
TEXT_SUFFIXES = {".py", ".sql", ".toml", ".ini", ".md", ".html", ".css", ".js", ".txt", ".in", ".yml", ".cfg"}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def every_source(function: object) -> object:
    return pytest.mark.parametrize("path", sources(), ids=name)(function)  # type: ignore[arg-type]


@every_source
def test_a_file_has_its_test(path: Path) -> None:
    if path.name in TWINLESS:
        return
    twin = ROOT / "tests" / path.relative_to(ROOT).with_name(f"test_{path.name}")
    assert twin.is_file(), f"write {name(twin)}"


@every_source
def test_a_file_fits_in_a_head(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= FILE_LINES_MAX, f"{lines} lines: split it by the question each part answers"


@every_source
def test_a_function_fits_on_a_screen(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines"


@every_source
def test_a_file_says_what_it_is_for(path: Path) -> None:
    assert path.name not in NAMES_FORBIDDEN, "name it by what it does: a helper belongs to its caller"
    assert ast.get_docstring(parse(path)), "begin with a docstring: job, order, bounds, why"


@every_source
def test_asyncio_stays_where_it_belongs(path: Path) -> None:
    if name(path).startswith(ASYNCIO_ALLOWED):
        return
    foreign = {"asyncio", "asyncpg", "trio_asyncio", "uvloop"} & set(imported(path))
    assert not foreign, f"{', '.join(foreign)}: only storage/bridge.py, and bench in its own processes"


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_names_its_modules(package: str) -> None:
    """Its docstring is the map that a newcomer reads first."""
    folder = ROOT / package
    told = ast.get_docstring(parse(folder / "__init__.py")) or ""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    modules |= {path.parent.name for path in folder.glob("*/__init__.py")}
    assert sorted(modules - set(re.findall(r"\w+", told))) == []


def test_a_test_folder_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [name(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_nothing_is_left_unfinished() -> None:
    found = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in texts()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def texts() -> Iterator[Path]:
    folders = (*PACKAGES, "tests", "docs", "config")
    for path in [*ROOT.iterdir(), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]:
        if path.is_file() and path.suffix in TEXT_SUFFIXES:
            yield path
