"""`karta bench run` and `karta bench compare`: the command line of the load harness.

`python -m bench` is the same.  Keys come from KARTA_BENCH_KEY or a file, never from the arguments, which
every user of the machine can read.  Exit codes: 0 all answers right, 1 anything wrong, 2 usage.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import trio
from rich.console import Console

from bench.compare.figures import ratios
from bench.compare.scenarios import CompareOptions, smoke_options
from bench.compare.session import Comparison, Session
from bench.compare.table import print_comparison
from bench.load.learn import LearnFailed
from bench.load.plan import Expectation, LoadPlan, Question
from bench.load.run import LoadFailed, run_load
from bench.load.summary import Summary, summarize
from bench.load.summary_table import print_summary
from bench.process import StartFailed
from bench.targets.base import PLACEHOLDER_KEY, Target
from bench.targets.registry import TARGETS, targets_named

KEY_VARIABLE = "KARTA_BENCH_KEY"
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


def _configure_compare(parser: argparse.ArgumentParser) -> None:
    defaults = CompareOptions(arms=[])
    parser.description = (
        "Starts a simulated provider and every arm, each arm alone on a core, and puts the same load on all, "
        "in interleaved rounds."
    )
    parser.add_argument("--rounds", type=int, default=defaults.rounds, metavar="N")
    parser.add_argument(
        "--seconds", type=float, default=defaults.seconds, metavar="S", help="for each measurement"
    )
    parser.add_argument("--connections", type=int, default=defaults.connections, metavar="N")
    parser.add_argument("--streams", type=int, default=defaults.streams, metavar="N", help="paced streams")
    parser.add_argument("--idle-streams", type=int, default=defaults.idle_streams, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the order of arms")
    parser.add_argument(
        "--arms", default=",".join(TARGETS), metavar="LIST", help=f"comma list (default {','.join(TARGETS)})"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything seen as JSON; - is stdout")
    parser.add_argument(
        "--smoke", action="store_true", help="a few seconds in all: only whether everything answers right"
    )


def parser() -> argparse.ArgumentParser:
    """Return the parser of `karta bench`."""
    whole = argparse.ArgumentParser(prog="karta bench", description="Karta's load harness.")
    commands = whole.add_subparsers(dest="bench_command", required=True, metavar="COMMAND")
    _configure_run(commands.add_parser("run", help="put load on a URL and check every answer"))
    _configure_compare(
        commands.add_parser(
            "compare", help="compare Karta with a bare relay, nginx and others in one session"
        )
    )
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (default: those of this process) ask for; return the exit code.

    Arguments that cannot be parsed, and --help, end in argparse's SystemExit.
    """
    options = parser().parse_args(arguments)
    try:
        if options.bench_command == "run":
            return _run(options)
        return _compare(options)
    except (ValueError, OSError) as error:
        print(f"karta bench: {error}", file=sys.stderr)
        return _USAGE_ERROR
    except (StartFailed, LearnFailed, LoadFailed, trio.TooSlowError) as error:
        print(f"karta bench: {str(error) or 'it took far longer than planned'}", file=sys.stderr)
        return 1


def read_keys(key_file: Path | None) -> list[str]:
    """Return the keys of the file, or of KARTA_BENCH_KEY, or a placeholder for targets that check none."""
    text = key_file.read_text() if key_file is not None else os.environ.get(KEY_VARIABLE, PLACEHOLDER_KEY)
    keys = [line.strip() for line in text.splitlines() if line.strip()]
    if not keys:
        raise ValueError(f"there is no key in {key_file or KEY_VARIABLE}; put one on each line")
    return keys


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
        rate_per_second=options.rate or 0.0,
        warmup_seconds=options.warmup,
        seconds=options.seconds,
        answer_seconds_max=options.timeout,
    )


def _run(options: argparse.Namespace) -> int:
    plan = plan_from(options)

    async def run_in(directory: Path) -> Summary:
        return summarize(await run_load(plan, directory=directory, processes=options.processes))

    with tempfile.TemporaryDirectory(prefix="karta-bench-") as directory:
        summary = trio.run(run_in, Path(directory))
    if options.json:
        print(msgspec.json.encode(summary).decode())
    else:
        print_summary(summary, Console())
    return 0 if summary.ok else 1


def options_from(options: argparse.Namespace) -> CompareOptions:
    """Return what `bench compare`'s arguments ask for; ValueError says what is wrong with them."""
    arms = [target.name for target in targets_named(options.arms)]
    if options.smoke:
        return smoke_options(arms)
    return CompareOptions(
        arms=arms,
        rounds=options.rounds,
        seconds=options.seconds,
        connections=options.connections,
        streams=options.streams,
        idle_streams=options.idle_streams,
        seed=options.seed,
    )


def _compare(options: argparse.Namespace) -> int:
    chosen = options_from(options)
    targets = targets_named(options.arms)
    progress = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="karta-bench-") as directory,
        progress.status("starting") as status,
    ):
        session = Session(chosen, Path(directory), status.update)
        seen = trio.run(session.run, targets)
    show(seen, options.json)
    return exit_code(seen, targets)


def show(seen: Comparison, json_to: str | None) -> None:
    """Print the tables, and write the JSON document to a file or (`-`) to stdout, the tables then to
    stderr."""
    to_stdout = json_to == "-"
    print_comparison(seen, Console(stderr=to_stdout))
    if to_stdout:
        print(comparison_json(seen))
    elif json_to is not None:
        Path(json_to).write_text(comparison_json(seen) + "\n")


def exit_code(seen: Comparison, targets: Sequence[Target]) -> int:
    """Return 1 if any answer was wrong or a target that has to be there was not, else 0."""
    missing = [target.name for target in targets if target.name in seen.unavailable and not target.optional]
    return 1 if seen.broken or missing else 0


def comparison_json(seen: Comparison) -> str:
    """Return everything seen, with the ratios worked out, as one JSON document."""
    document = {"ratios": ratios(seen), **msgspec.structs.asdict(seen)}
    return msgspec.json.encode(document).decode()
