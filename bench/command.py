"""`karta bench run | compare | diff | report | targets | install | capacity`: its command line.

`python -m bench` is the same.  Keys come from KARTA_BENCH_KEY or a file, never from the arguments, which
every user of the machine can read.  Exit codes: 0 all answers right, 1 anything wrong, 2 usage.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec
import trio
from rich.console import Console

from bench.capacity import command as capacity_command
from bench.compare import command as compare_command
from bench.keys import KEY_VARIABLE, read_keys
from bench.load.learn import LearnFailed
from bench.load.plan import Expectation, LoadPlan, Question
from bench.load.run import LoadFailed, run_load
from bench.load.summary import Summary, summarize
from bench.load.summary_table import print_summary
from bench.process import StartFailed
from bench.report import command as report_command
from bench.targets import command as targets_command
from bench.targets.packages import InstallFailed

_USAGE_ERROR = 2
# An open loop must not run out of connections before the target runs out of breath.
_CONNECTIONS_CLOSED = 32
_CONNECTIONS_OPEN = 512


def _configure_run(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"Load on any Anthropic- or OpenAI-compatible URL.  The key comes from {KEY_VARIABLE} or --key-file; "
        "several keys (one a line) are used in turn."
    )
    parser.add_argument("url", metavar="URL", help="origin, with an optional path before /v1")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="file with one key a line")
    parser.add_argument("--dialect", choices=("anthropic", "openai"), default="anthropic")
    parser.add_argument("--stream", action="store_true", help="ask for event streams")
    parser.add_argument("--model", help="model name (default: the simulated provider's)")
    parser.add_argument(
        "--behaviour", default="tokens=60", help="what the simulated provider is to do, without --model"
    )
    parser.add_argument("--prompt-bytes", type=int, default=64, metavar="N")
    parser.add_argument("--max-tokens", type=int, default=1024, metavar="N")
    parser.add_argument(
        "--connections",
        type=int,
        metavar="N",
        help=f"default {_CONNECTIONS_CLOSED}, with --rate {_CONNECTIONS_OPEN}",
    )
    parser.add_argument(
        "--rate", type=float, metavar="N", help="requests a second, whatever the answers do (open loop)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S")
    parser.add_argument(
        "--warmup", type=float, default=1.0, metavar="S", help="seconds checked but not counted"
    )
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="longest answer")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="load generators side by side")
    parser.add_argument("--expect-events", type=int, metavar="N", help="events that every stream must have")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong call is a ValueError of one line, as every other wrong value is."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see `{self.prog} --help`)")


def parser() -> Parser:
    """Return the parser of `karta bench`."""
    whole = Parser(prog="karta bench", description="Karta's load harness.")
    commands = whole.add_subparsers(title="commands", dest="bench_command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="put load on a URL and check every answer")
    _configure_run(run)
    run.set_defaults(run=_run)
    for group in (compare_command, report_command, targets_command, capacity_command):
        group.register(commands)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: those of this process) ask for; return the exit code.

    --help ends in argparse's SystemExit.
    """
    try:
        options = parser().parse_args(arguments)
        code: int = options.run(options)
        return code
    except (ValueError, OSError) as error:
        print(f"karta bench: {' '.join(str(error).split())}", file=sys.stderr)
        return _USAGE_ERROR
    except (StartFailed, LearnFailed, LoadFailed, InstallFailed, trio.TooSlowError) as error:
        print(f"karta bench: {str(error) or 'it took far longer than planned'}", file=sys.stderr)
        return 1


def plan_from(options: argparse.Namespace) -> LoadPlan:
    """Return the plan that `bench run`'s arguments describe; ValueError says what is wrong with them."""
    connections = options.connections
    if connections is None:
        connections = _CONNECTIONS_CLOSED if options.rate is None else _CONNECTIONS_OPEN
    return LoadPlan(
        base_url=options.url,
        keys=read_keys(options.key_file),
        question=Question(
            dialect=options.dialect,
            stream=options.stream,
            model=options.model,
            behaviour=options.behaviour,
            prompt_bytes=options.prompt_bytes,
            tokens_max=options.max_tokens,
        ),
        expectation=Expectation(events=options.expect_events),
        driver="closed" if options.rate is None else "open",
        connections=connections,
        processes=options.processes,
        rate_per_second=options.rate or 0.0,
        warmup_seconds=options.warmup,
        seconds=options.seconds,
        answer_seconds_max=options.timeout,
    )


def _run(options: argparse.Namespace) -> int:
    plan = plan_from(options)
    pace_ms = plan.question.pace_ms

    async def run_in(directory: Path) -> Summary:
        result = await run_load(plan, directory=directory)
        return summarize(result, pace_ms=pace_ms)

    with tempfile.TemporaryDirectory(prefix="karta-bench-") as directory:
        summary = trio.run(run_in, Path(directory))
    if options.json:
        print(msgspec.json.encode(summary).decode())
    else:
        print_summary(summary, Console())
    return 0 if summary.ok else 1
