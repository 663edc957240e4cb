"""`tox -e old-code`: the storage tests of an older commit, on the schema of this checkout.

The commit is the one that is named, else the last tag, else the one before the newest migration came.

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
MIGRATIONS = "storage/migrations"
LEFT_OUT = ("tests/storage/test_migrate.py",)


def main(arguments: list[str]) -> int:
    commit = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    options = arguments[1:] if commit else arguments
    commit = commit or _before_this()
    if not commit:
        # A download, or a clone of the last commit alone.
        print("old-code: there is no older commit here to try")
        return 0
    print(f"old-code: the storage tests of {_git('log', '-1', '--format=%h %s', commit)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="karta-old-") as folder:
        old = Path(folder) / "old"
        _git("worktree", "add", "--detach", str(old), commit)
        try:
            shutil.rmtree(old / MIGRATIONS)
            shutil.copytree(ROOT / MIGRATIONS, old / MIGRATIONS)
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
            # CI: Hypothesis makes up the same examples each time then.
            environment = {**os.environ, "PYTHONPATH": str(old), "CI": "true"}
            return subprocess.run([*command, *options], cwd=old, env=environment).returncode
        finally:
            _git("worktree", "remove", "--force", str(old))


def _before_this() -> str:
    """The last release, or, while there is none, the last commit that did not know the newest migration."""
    newest = max(path.name for path in (ROOT / MIGRATIONS).glob("*.sql"))
    try:
        if tag := _git("tag", "--list", "--sort=-creatordate").partition("\n")[0]:
            return tag
        added = _git("log", "--diff-filter=A", "--format=%h", "--", f"{MIGRATIONS}/{newest}").split()
        return _git("rev-parse", "--verify", "--quiet", f"{added[-1]}^") if added else ""
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
