"""`karta bench compare`: its arguments, the run, and what is written of it."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import trio
from rich.console import Console

from bench.compare.comparison import Comparison
from bench.compare.goals import ratios
from bench.compare.progress import LiveProgress
from bench.compare.scenarios import CompareOptions, Suite
from bench.compare.session import Session
from bench.compare.suite import load_suite, suite_names
from bench.compare.table import print_comparison
from bench.keys import KEY_VARIABLE, read_keys
from bench.load.plan import Dialect
from bench.report.files import write_report
from bench.targets.base import Target
from bench.targets.registry import OURS, TARGETS, targets_named
from bench.targets.url import URLTarget

_DEFAULT_SUITE = "headline"
# A file has no edge that nine columns would have to be broken at.
_FILE_WIDTH = 200
# Options of suites that have a flag of their own.
_FLAGS = ("connections", "streams", "idle_streams")


def register(commands: Any) -> None:
    """Add it to argparse's subcommands."""
    parser = commands.add_parser(
        "compare", help="compare Karta with a bare relay, nginx and others in one session"
    )
    parser.description = (
        "Starts a simulated provider and every arm, each arm alone on a core, and puts the same load on all, "
        "in interleaved rounds."
    )
    parser.add_argument(
        "--suite",
        default=_DEFAULT_SUITE,
        metavar="NAME",
        help=f"{', '.join(suite_names())}, or a TOML file (default {_DEFAULT_SUITE})",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="default: as the suite says")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="for each measurement (default: the suite's)"
    )
    parser.add_argument("--connections", type=int, metavar="N", help="--set connections=N")
    parser.add_argument("--streams", type=int, metavar="N", help="paced streams: --set streams=N")
    parser.add_argument(
        "--idle-streams", type=int, metavar="N", help="--set idle_streams=N; 0 leaves them out"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=N", help="change an option of the suite"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the order of arms")
    parser.add_argument(
        "--arms", metavar="LIST", help=f"comma list of {', '.join(TARGETS)} (default: the suite's)"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything seen as JSON; - is stdout")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write seen.json, figures.csv and report.html into this folder",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="a few seconds in all: only whether everything answers right"
    )
    parser.add_argument(
        "--keep-awake", action="store_true", help="keep the harness's cores from sleeping (see the how-to)"
    )
    parser.add_argument("--provider", metavar="URL", help="a running `karta sim`, instead of one of its own")
    _add_url_arguments(parser)
    parser.set_defaults(run=run)


def _add_url_arguments(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("a gateway of your own as an arm")
    own.add_argument(
        "--url", action="append", default=[], metavar="NAME=URL", help="an arm of that name; may be repeated"
    )
    own.add_argument(
        "--key-file", type=Path, metavar="FILE", help=f"its keys, one a line (default: {KEY_VARIABLE})"
    )
    own.add_argument("--url-dialect", choices=("anthropic", "openai", "both"), default="both")
    own.add_argument(
        "--url-check",
        choices=("bytes", "text", "status"),
        default="text",
        help="what of an answer must be the provider's own (default text)",
    )
    own.add_argument("--url-model", metavar="NAME", help="ask for this model (default: by behaviour, sim:…)")
    own.add_argument(
        "--url-pid",
        type=int,
        action="append",
        default=[],
        metavar="PID",
        help="its process, to watch; repeatable",
    )


def url_targets(options: argparse.Namespace) -> list[Target]:
    """Return the arms that `--url` names; ValueError says what is wrong with one."""
    made: list[Target] = []
    dialects: list[Dialect] = (
        ["anthropic", "openai"] if options.url_dialect == "both" else [options.url_dialect]
    )
    for given in options.url:
        name, equals, url = given.partition("=")
        if not equals or not name or name in TARGETS:
            raise ValueError(f"--url takes NAME=URL, with a name that is no target's: {name or given!r}")
        made.append(
            URLTarget(
                name,
                url,
                keys=read_keys(options.key_file),
                dialects=dialects,
                check=options.url_check,
                model=options.url_model,
                pids=options.url_pid,
            )
        )
    return made


def changes_from(options: argparse.Namespace) -> dict[str, float]:
    """Return the suite's options that the arguments change."""
    changes: dict[str, float] = {}
    for given in options.set:
        name, _, value = given.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"--set takes NAME=NUMBER, not {given!r}") from None
        changes[name] = int(number) if number.is_integer() else number
    for flag in _FLAGS:
        if (value := getattr(options, flag)) is not None:
            changes[flag] = value
    return changes


def suite_from(options: argparse.Namespace) -> Suite:
    """Return the suite that the arguments ask for; ValueError says what is wrong with them."""
    changes = changes_from(options)
    without_idle = changes.get("idle_streams") == 0
    if without_idle:
        del changes["idle_streams"]
    suite = load_suite("smoke" if options.smoke else options.suite, changes)
    if without_idle:
        kept = [scenario for scenario in suite.scenario if not scenario.idle]
        suite = msgspec.structs.replace(suite, scenario=kept)
    return suite


def options_from(options: argparse.Namespace, suite: Suite) -> tuple[CompareOptions, list[Target]]:
    """Return what `bench compare`'s arguments ask for; ValueError says what is wrong with them."""
    own = url_targets(options)
    names = options.arms or ",".join([*(suite.arms or OURS), *(target.name for target in own)])
    targets = targets_named(names, own)
    chosen = CompareOptions(
        arms=[target.name for target in targets],
        suite="smoke" if options.smoke else options.suite,
        rounds=suite.rounds if options.rounds is None else options.rounds,
        seconds=suite.seconds if options.seconds is None else options.seconds,
        warmup_seconds=suite.warmup_seconds,
        seed=options.seed,
        smoke=options.smoke,
        keep_awake=options.keep_awake,
        provider_url=options.provider,
    )
    return chosen, targets


def run(options: argparse.Namespace) -> int:
    """Run the comparison and tell of it; returns the exit code."""
    suite = suite_from(options)
    chosen, targets = options_from(options, suite)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="karta-bench-") as directory,
        LiveProgress(Console(stderr=True)) as progress,
    ):
        session = Session(suite, chosen, Path(directory), progress)
        session.seen.command = (
            ["karta", "bench", *sys.argv[sys.argv.index("compare") :]] if "compare" in sys.argv else []
        )
        seen = trio.run(session.run, targets)
    show(seen, options.json)
    if options.out is not None:
        for path in write_report(seen, options.out):
            print(f"wrote {path}", file=sys.stderr)
    return exit_code(seen)


def show(seen: Comparison, json_to: str | None) -> None:
    """Print the tables, and write the JSON document to a file or (`-`) to stdout, the tables then to
    stderr."""
    to_stdout = json_to == "-"
    console = Console(stderr=to_stdout)
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    print_comparison(seen, console)
    if to_stdout:
        print(comparison_json(seen))
    elif json_to is not None:
        Path(json_to).write_text(comparison_json(seen) + "\n")


def exit_code(seen: Comparison) -> int:
    """Return 1 if any answer was wrong or a target that has to be there was not, else 0."""
    return 1 if seen.broken or seen.missing else 0


def comparison_json(seen: Comparison) -> str:
    """Return everything seen, with the ratios worked out, as one JSON document."""
    document = {"ratios": ratios(seen) if seen.goals else [], **msgspec.structs.asdict(seen)}
    return msgspec.json.encode(document).decode()
