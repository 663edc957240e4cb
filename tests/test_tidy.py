"""The house style, as far as a test can read it: a test for every file, sizes, names, and what may be
imported. Each rule is one test that tells all files it finds: a test a file cost ten seconds.

The limits are absolute. When one is in the way, the file wants to be two.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
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


@cache
def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(parse(path)))


def check(told: Callable[[Path], str | None]) -> None:
    """Fails by all that `told` says of sources it finds something wrong with."""
    found = [f"{name(path)}: {wrong}" for path in sources() if (wrong := told(path))]
    assert not found, "\n".join(found)


def test_a_file_has_its_test() -> None:
    def told(path: Path) -> str | None:
        twin = ROOT / "tests" / path.relative_to(ROOT).with_name(f"test_{path.name}")
        return None if path.name in TWINLESS or twin.is_file() else f"write {name(twin)}"

    check(told)


def test_a_file_fits_in_a_head() -> None:
    def told(path: Path) -> str | None:
        lines = len(path.read_text().splitlines())
        return (
            f"{lines} lines: split it by the question each part answers" if lines > FILE_LINES_MAX else None
        )

    check(told)


def test_a_function_fits_on_a_screen() -> None:
    def told(path: Path) -> str | None:
        long = [
            f"{node.name} has {lines} lines"
            for node in nodes(path)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
        ]
        return ", ".join(long)

    check(told)


def test_a_file_says_what_it_is_for() -> None:
    def told(path: Path) -> str | None:
        if path.name in NAMES_FORBIDDEN:
            return "name it by what it does: a helper belongs to its caller"
        return None if ast.get_docstring(parse(path)) else "begin with a docstring: job, order, bounds, why"

    check(told)


def test_asyncio_stays_where_it_belongs() -> None:
    def told(path: Path) -> str | None:
        foreign = {"asyncio", "asyncpg", "trio_asyncio", "uvloop"} & set(imported(path))
        if name(path).startswith(ASYNCIO_ALLOWED) or not foreign:
            return None
        return f"{', '.join(foreign)}: only storage/bridge.py, and bench in its own processes"

    check(told)


def imported(path: Path) -> Iterator[str]:
    for node in nodes(path):
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
