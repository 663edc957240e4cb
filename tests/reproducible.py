"""`tox -e reproducible`: the wheel and the sdist come out the same, byte for byte, wherever they are built.

Built twice, of copies in different folders, with different clocks and umasks, at the time of the last commit
(`SOURCE_DATE_EPOCH`). The compiled wheel is not among them: it has the compiler's own.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> int:
    epoch = _git("log", "-1", "--format=%ct")
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory(prefix="elsewhere-") as second:
        found = [
            _build(Path(first) / "a", epoch, 0o022, "UTC"),
            _build(Path(second) / "b" / "c", epoch, 0o077, "Asia/Tokyo"),
        ]
    for name in sorted(found[0] | found[1]):
        same = found[0].get(name) == found[1].get(name)
        print(f"{'same' if same else 'DIFFERENT'}  {found[0].get(name)}  {name}")
    return 0 if found[0] == found[1] else 1


def _build(folder: Path, epoch: str, umask: int, zone: str) -> dict[str, str]:
    """The digests of what comes out, by file name."""
    folder.mkdir(parents=True)
    subprocess.run(
        ["git", "worktree", "add", "--detach", str(folder / "source")],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    try:
        command = [
            sys.executable,
            "-m",
            "build",
            "--no-isolation",
            "--outdir",
            str(folder / "dist"),
            str(folder / "source"),
        ]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "TZ": zone}
        subprocess.run(command, check=True, env=environment, umask=umask, stdout=subprocess.DEVNULL)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(folder / "source")], cwd=ROOT, check=True)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "dist").iterdir()}


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
