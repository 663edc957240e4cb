"""The one command line: `karta …`.

Here the parser is put together, and here alone errors become one line on stderr and an exit code: 1 when a
command could not do what was asked, 2 when it was called wrongly, 130 on Ctrl-C. An exception that nobody
foresaw is a bug, so it keeps its traceback.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence

from karta.commands import (
    audit,
    bench,
    billing,
    budget,
    byok,
    doctor,
    health,
    keys,
    limits,
    master_key,
    migrate,
    org,
    prices,
    routes,
    servers,
    staff,
    up,
    usage,
    webhooks,
)
from karta.terminal import EXIT_FAILED, CommandError, Parser, print_error
from storage import error_reports
from storage.core_files import leave_no_core_file

EXIT_INTERRUPTED = 130
FIRST_PROCESS = 1
"""A container's own."""
GROUPS = (
    up,
    servers,
    webhooks,
    migrate,
    doctor,
    health,
    org,
    staff,
    keys,
    byok,
    budget,
    limits,
    routes,
    prices,
    usage,
    billing,
    audit,
    master_key,
    bench,
)
DESCRIPTION = """\
Karta: a gateway between SDK traffic and LLM providers, with its control plane.

Start everything on this machine with `karta up`; what is asked or changed from another terminal then
finds it by itself. Every command has --help. With --json it prints exactly one JSON document on stdout."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    leave_no_core_file()
    if os.getpid() == FIRST_PROCESS:
        _heed_sigterm()
    try:
        given = parse(sys.argv[1:] if arguments is None else arguments)
        given.run(given)
    except SystemExit:
        raise  # --help and --version, and commands that print their own verdict
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has gone (`karta keys list | head`): nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except BaseException as error:
        foreseen = find_foreseen(error)
        if foreseen is None:
            error_reports.report(error, handled=False)
            raise
        print_error(str(foreseen))
        return foreseen.exit_code if isinstance(foreseen, CommandError) else EXIT_FAILED
    finally:
        error_reports.finish()
    return 0


def _heed_sigterm() -> None:
    """Makes SIGTERM an interrupt where a command has no handler of its own: the kernel keeps it from a
    container's first process otherwise, so that stopping a migration would take until it is killed."""
    # Whoever started the container may have had interrupts ignored, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command and its arguments; what follows `bench` is left in `rest`, for its own parser."""
    own, rest = (arguments[:1], arguments[1:]) if arguments[:1] == [bench.NAME] else (arguments, [])
    given = build_parser().parse_args(own)
    given.rest = list(rest)
    return given


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(
        prog="karta", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    for group in GROUPS:
        group.register(commands)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **_: object) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and end")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(version("karta"))
        parser.exit()


def find_foreseen(error: BaseException) -> Exception | None:
    """The error to tell of, out of what was raised: a lone foreseen one, or the first of a group of such.

    None when anything in it was not foreseen.
    """
    if isinstance(error, CommandError):
        return error  # before the imports: a wrong call is told at once
    from storage.errors import StorageError
    from storage.settings import SettingsError

    leaves = list(_leaves(error))
    foreseen = [leaf for leaf in leaves if isinstance(leaf, CommandError | StorageError | SettingsError)]
    return foreseen[0] if foreseen and len(foreseen) == len(leaves) else None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
