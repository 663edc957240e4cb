"""`tox -e old-code`: the storage tests of an older commit, on the schema of this checkout.

What an upgrade without an outage needs: old programs go on while the database is already the new one's. The
older code is checked out beside this one, with this one's migrations in place of its own; so its tests make
their databases with the new schema. Tests of the migrations themselves, which know how many there are, are
left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEFT_OUT = ("tests/storage/test_migrate.py",)


def main(arguments: list[str]) -> int:
    commit = arguments[0] if arguments else _git("describe", "--tags", "--abbrev=0")
    with tempfile.TemporaryDirectory(prefix="karta-old-") as folder:
        old = Path(folder) / "old"
        _git("worktree", "add", "--detach", str(old), commit)
        try:
            new = ROOT / "storage" / "migrations"
            shutil.rmtree(old / "storage" / "migrations")
            shutil.copytree(new, old / "storage" / "migrations")
            left_out = [f"--deselect={name}" for name in LEFT_OUT]
            # The old checkout's packages, and not those that are installed.
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "tests/storage",
                *left_out,
            ]
            environment = {**os.environ, "PYTHONPATH": str(old)}
            return subprocess.run([*command, *arguments[1:]], cwd=old, env=environment).returncode
        finally:
            _git("worktree", "remove", "--force", str(old))


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
