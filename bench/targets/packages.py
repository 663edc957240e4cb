"""Install other people's gateways, each into a folder of its own: a virtual environment or an npm prefix.

What is installed is pinned with hashes in `locked/`, so that two runs compare the same programs, and nothing
of it can meet Karta's own packages.  The folder is KARTA_BENCH_CACHE, else `karta/bench` in the user's cache
directory; `karta bench install` fills it, and removing it is all there is to uninstalling.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec

from bench.targets.base import Installation

CACHE_VARIABLE = "KARTA_BENCH_CACHE"
locked = Path(__file__).parent / "locked"
_VERSION_LINE = re.compile(r"^([A-Za-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)", re.MULTILINE)


class InstallFailed(Exception):
    """A package could not be installed; the message says what to do."""


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """One package of another project: where it comes from, and its program below its folder."""

    name: str
    source: Literal["pypi", "npm"]
    program: str

    @property
    def folder(self) -> Path:
        return cache_directory() / self.name

    @property
    def path(self) -> Path:
        return self.folder / self.program

    def pinned_version(self) -> str:
        """Return the version that `locked/` names."""
        if self.source == "npm":
            document = json.loads((locked / self.name / "package.json").read_text())
            return str(next(iter(document["dependencies"].values())))
        found = _VERSION_LINE.findall((locked / f"{self.name}.txt").read_text())
        return next(str(version) for name, version in found if name == self.name)

    def installation(self) -> Installation:
        """Say whether the pinned version is installed."""
        mend = f"karta bench install {self.name}"
        marker = self.folder / "installed"
        version = marker.read_text().strip() if marker.exists() and self.path.exists() else ""
        if not version:
            return Installation(ready=False, mend=f"{mend} (from {_SOURCES[self.source]})")
        if version != self.pinned_version():
            return Installation(ready=False, version=version, mend=f"{mend} (this is an older one)")
        return Installation(ready=True, version=version)

    def install(self) -> None:
        """Install the pinned version anew; raises InstallFailed.  What the installer says goes to stderr."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        commands = _npm_commands(self) if self.source == "npm" else _pypi_commands(self)
        for command in commands:
            try:
                subprocess.run(command, check=True, stdout=sys.stderr, cwd=self.folder)  # noqa: S603 (ours)
            except (OSError, subprocess.CalledProcessError) as error:
                raise InstallFailed(f"{self.name} could not be installed: {error}") from error
        if not self.path.exists():
            raise InstallFailed(f"{self.name} was installed without {self.program}; is its version right?")
        (self.folder / "installed").write_text(self.pinned_version() + "\n")


_SOURCES = {"pypi": "PyPI", "npm": "npm"}


def cache_directory() -> Path:
    """Return where installed targets are kept."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "karta" / "bench"


def _pypi_commands(package: Package) -> list[list[str]]:
    pip = str(package.folder / "bin" / "pip")
    options = ["--quiet", "--require-hashes", "--only-binary", ":all:"]
    return [
        [sys.executable, "-m", "venv", str(package.folder)],
        [pip, "install", *options, "-r", str(locked / f"{package.name}.txt")],
    ]


def _npm_commands(package: Package) -> list[list[str]]:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise InstallFailed(f"{package.name} needs Node.js and npm (Debian: apt install nodejs npm)")
    for file in ("package.json", "package-lock.json"):
        shutil.copy(locked / package.name / file, package.folder / file)
    return [[npm, "ci", "--silent", "--no-audit", "--no-fund", "--omit=dev", "--ignore-scripts"]]
