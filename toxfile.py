"""Lets tox, when it is asked for nothing in particular, run two environments at a time in the order that
tox.ini's `depends` says, since but for `whole` they use one core most of the time. Lets it see every Python
that pyenv has installed, not only the one that is switched on; leaves out the environment of the one that
runs it, which `whole` is for; tells where the programs are that tox was installed with, by
requirements-dev.txt as the README says, and lets `whole` and `old-code` have the packages beside
them.

tox loads this file by its name.
"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from pathlib import Path
from typing import Any

from tox.plugin import impl

os.environ.setdefault("KARTA_TOX_PROGRAMS", str(Path(sys.executable).parent))
os.environ.setdefault("TOX_SKIP_ENV", f"^py3{sys.version_info.minor}$")

if len(sys.argv) == 1:
    os.environ.setdefault("TOX_PARALLEL", "2")
    os.environ.setdefault("TOX_PARALLEL_LIVE", "true")


def installed_versions(root: Path) -> list[str]:
    """The versions below a pyenv's root, the one that runs this first: it stays what `python3` means."""
    names = sorted(path.name for path in (root / "versions").glob("*") if (path / "bin" / "python3").exists())
    return sorted(names, key=lambda name: name != platform.python_version())


if "PYENV_ROOT" in os.environ:
    # Read by the discovery of interpreters, which gets it by tox.ini's pass_env.
    os.environ.setdefault("PYENV_VERSION", ":".join(installed_versions(Path(os.environ["PYENV_ROOT"]))))


@impl
def tox_on_install(tox_env: Any, arguments: Any, section: str, of_type: str) -> None:  # noqa: ARG001
    """Before pip installs anything in what runs on the same Python: it finds there what tox was installed
    with, and installs what is missing or of another version only."""
    if tox_env.name in ("whole", "old-code"):
        path = tox_env.env_site_package_dir() / "of_tox.pth"
        path.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
