"""What is installed is pinned with hashes, lies in a folder of its own, and is never guessed at."""

import json
import re
from pathlib import Path

import pytest

from bench.targets.packages import (
    CACHE_VARIABLE,
    InstallFailed,
    Package,
    _npm_commands,
    cache_directory,
    locked,
)
from bench.targets.registry import INSTALLABLE

PACKAGE = Package(name="ferrogw", source="pypi", program="bin/ferrogw")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_everything_is_pinned_with_hashes() -> None:
    for target in INSTALLABLE.values():
        package = target.package
        assert re.fullmatch(r"[0-9.]+", package.pinned_version()), package.name
        if package.source == "pypi":
            text = (locked / f"{package.name}.txt").read_text()
            pinned = re.findall(r"^[a-z].*==.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+", text, re.MULTILINE)
            assert len(pinned) == len(re.findall(r"^[A-Za-z0-9]", text, re.MULTILINE))
        else:
            lock = json.loads((locked / package.name / "package-lock.json").read_text())
            assert all("integrity" in entry for name, entry in lock["packages"].items() if name)
            assert "--hash=sha256:" in (locked / package.name / "node.txt").read_text()


def test_the_folder_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    assert cache_directory() == cache
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_directory() == Path("/somewhere/karta/bench")


def test_only_the_pinned_version_counts() -> None:
    assert PACKAGE.installation().mend == "karta bench install ferrogw (from PyPI)"
    PACKAGE.path.parent.mkdir(parents=True)
    PACKAGE.path.touch()
    (PACKAGE.folder / "installed").write_text("0.1\n")
    assert not PACKAGE.installation().ready
    assert "older" in PACKAGE.installation().mend
    (PACKAGE.folder / "installed").write_text(PACKAGE.pinned_version())
    assert PACKAGE.installation().ready
    assert PACKAGE.installation().version == PACKAGE.pinned_version()


def test_an_installer_that_fails_is_told_and_leaves_nothing_that_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.targets.packages._pypi_commands", lambda _: [["false"]])
    with pytest.raises(InstallFailed, match="could not be installed"):
        PACKAGE.install()
    monkeypatch.setattr("bench.targets.packages._pypi_commands", lambda _: [["true"]])
    with pytest.raises(InstallFailed, match="without bin/ferrogw"):
        PACKAGE.install()
    assert not PACKAGE.installation().ready


def test_an_npm_package_brings_its_own_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    package = INSTALLABLE["portkey"].package
    package.folder.mkdir(parents=True)
    *_, fetch_node, npm = _npm_commands(package)
    assert "--require-hashes" in fetch_node
    assert npm[0] == str(package.node)
    assert Path(npm[1]).is_relative_to(package.folder)
    package.path.parent.mkdir(parents=True)
    package.path.touch()
    (package.folder / "installed").write_text(package.pinned_version())
    # A folder of before, when Node was the machine's.
    assert not INSTALLABLE["portkey"].installation().ready
    package.node.parent.mkdir(parents=True)
    package.node.touch()
    assert INSTALLABLE["portkey"].installation().version == (
        f"{package.pinned_version()}, Node.js {package.pinned_node_version()}"
    )
