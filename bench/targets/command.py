"""`karta bench targets` and `karta bench install TARGET`."""

import argparse
import json
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from bench.targets.registry import INSTALLABLE, TARGETS


def register(commands: Any) -> None:
    """Add both to argparse's subcommands."""
    listed = commands.add_parser("targets", help="list what can be compared, and whether it is installed")
    listed.description = "What `karta bench compare` knows, with its version and what it takes to install it."
    listed.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    listed.set_defaults(run=run_targets)
    install = commands.add_parser("install", help="install another gateway, to compare with")
    install.description = (
        "Installs a gateway, pinned with hashes, into a folder of its own below ~/.cache/karta/bench "
        "(or KARTA_BENCH_CACHE)."
    )
    install.add_argument("target", metavar="TARGET", choices=[*INSTALLABLE, "all"], help="%(choices)s")
    install.set_defaults(run=run_install)


def run_targets(options: argparse.Namespace) -> int:
    found = {name: target.installation() for name, target in TARGETS.items()}
    if options.json:
        rows = [
            {"name": name, "description": TARGETS[name].description, **msgspec.structs.asdict(state)}
            for name, state in found.items()
        ]
        print(json.dumps(rows))
        return 0
    table = Table()
    for heading in ("target", "state", "version", "what it is"):
        table.add_column(heading)
    for name, state in found.items():
        told = "[green]ready[/]" if state.ready else f"[yellow]{state.mend}[/]"
        table.add_row(name, told, state.version, TARGETS[name].description)
    Console().print(table)
    return 0


def run_install(options: argparse.Namespace) -> int:
    """Install one target, or all; raises InstallFailed."""
    names = list(INSTALLABLE) if options.target == "all" else [options.target]
    for name in names:
        package = INSTALLABLE[name].package
        print(f"installing {name} {package.pinned_version()} into {package.folder}")
        package.install()
    return 0
