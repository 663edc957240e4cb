"""Writes docs/reference from the code: `python -m tests.reference`, or `tox -e docs`.

`tests/test_reference.py` fails when the files in the repository are not what this writes. The text comes
from the parsers and settings classes themselves, not from argparse's help, whose layout differs between
Pythons.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from admin.settings import AdminSettings
from bench.capacity.coefficients import read_coefficients
from bench.capacity.tables import markdown
from gateway.loop_lag import LoopLag
from gateway.metric_page import PREFIX as METRIC
from gateway.metric_page import Family
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings
from gateway.stages import AllStages
from gateway.supervisor import Supervisor
from karta.cli import DESCRIPTION, build_parser
from karta.data_dir import default_path
from storage.audit_vocabulary import MEANINGS
from storage.settings import PREFIX, CommonSettings, ServerSettings
from storage.webhook_events import TYPES
from tests.api_reference import management_api
from tests.licences import licences

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
CAPACITY = FOLDER.parent / "explanation" / "capacity.md"
CAPACITY_BEGINS = "<!-- By `python -m tests.reference`, from bench/capacity. -->\n"
SETTINGS: tuple[tuple[str, type[CommonSettings]], ...] = (
    ("Every program", CommonSettings),
    ("Every server", ServerSettings),
    ("The gateway", GatewaySettings),
    ("The admin pages", AdminSettings),
)
MERGED = {
    "sum": "gauge",
    "min": "gauge, the least of any worker",
    "max": "gauge, the greatest of any worker",
    "each": "gauge, of each worker",
}
OTHERS = (
    ("KARTA_CONFIG", "The settings file, when it is not `karta.toml` of the working directory."),
    (
        "KARTA_HEALTH_PARTS",
        "What `karta health` looks at without being given keys: `provider-NAME` and `payments`, with commas.",
    ),
    (
        "KARTA_BENCH_CACHE",
        "Where `karta bench install` puts other gateways, instead of `~/.cache`.",
    ),
    ("KARTA_BENCH_KEY", "The keys of what `karta bench` loads, one a line, when no file has them."),
    ("KARTA_BENCH_NGINX", "The nginx of a comparison, when it is not the one on the PATH."),
    ("KARTA_SIM_KEYS", "The only keys that `karta sim` accepts, comma separated."),
    ("KARTA_SIM_KEYS_FILE", "The same in a file, one a line."),
)


def pages() -> dict[str, str]:
    """The generated pages by file name."""
    return {
        "audit-events.md": "\n".join(audit_events()),
        "command-line.md": "\n".join(command_line()),
        "events.md": "\n".join(events()),
        "licences.md": "\n".join(licences()),
        "management-api.md": "\n".join(management_api()),
        "metrics.md": "\n".join(metrics()),
        "settings.md": "\n".join(settings()),
    }


def capacity() -> str:
    """The page on capacity, with its generated tables, which are its end."""
    written = CAPACITY.read_text().partition(CAPACITY_BEGINS)[0]
    return written + CAPACITY_BEGINS + "\n" + "\n".join(markdown(read_coefficients()))


def audit_events() -> Iterator[str]:
    yield "# Audit events"
    yield ""
    yield "Everything that the audit log ever tells. Names do not change, and none is used again for another"
    yield "thing. Each row has an actor, a subject, a time of the database's own, and where it is known the"
    yield "address, the user agent and the id of the request; what was before and after is in its details,"
    yield "which hold no secrets."
    yield ""
    yield "| Event | Meaning |"
    yield "|---|---|"
    for event in sorted(MEANINGS, key=lambda event: event.value):
        yield f"| `{event.value}` | {MEANINGS[event]} |"
    yield ""


def events() -> Iterator[str]:
    yield "# Events"
    yield ""
    yield "What webhooks tell ([how to receive them](../how-to/webhooks.md)). The body of each message is"
    yield '`{"type": …, "timestamp": …, "data": {…}}`; `timestamp` is when it happened, in UTC, and `data`'
    yield "has the fields below. Fields may be added to a type; none is removed, renamed or reused."
    yield "No message holds a secret, the name of a person or a mail address."
    yield ""
    yield "Every `data` has `org_id`, but those of incidents, which concern everybody. What is also a row of"
    yield "the audit log has `audit_seq`, that row's number, and `actor`: who did it, as `kind` and `id`"
    yield "(null for what the platform does itself)."
    for name, event_type in TYPES.items():
        yield ""
        yield f"## `{name}`"
        yield ""
        yield event_type.meaning + (
            f" In the audit log it is `{event_type.audit_event}`." if event_type.audit_event else ""
        )
        fields = [*((event_type.subject,) if event_type.subject else ()), *event_type.fields]
        if fields:
            yield ""
            yield "| Field | Type | Meaning |"
            yield "|---|---|---|"
        for field in fields:
            kind = field.kind.replace("?", " or null")
            yield f"| `{field.name}` | {kind} | {field.meaning} |"
    yield ""


def command_line() -> Iterator[str]:
    yield "# The command line"
    yield ""
    yield DESCRIPTION.replace("\n", " ")
    yield ""
    yield "Errors are one line on stderr. Exit code 0: done; 1: could not be done; 2: called wrongly."
    yield ""
    yield "Secrets are read from stdin or a file, never from an argument, which every user can read."
    yield ""
    yield "A command that needs a database takes `--database-url URL` and `--data-dir DIR` (of a running"
    yield "`karta up`). Without them it uses `KARTA_DATABASE_URL` or `karta.toml`, and at last the `karta up`"
    yield "that runs on the default data directory."
    for name, parser in walk("karta", build_parser()):
        yield from describe_command(name, parser)
    yield ""


def walk(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help for choice in action._choices_actions}
            for word, inner in action.choices.items():
                inner.description = inner.description or f"{str(helps[word]).capitalize()}."
                yield from walk(f"{name} {word}", inner)
            return
    yield name, parser


def describe_command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield ""
    yield f"## `{name}`"
    yield ""
    yield " ".join(str(parser.description).split())
    left_out = {"help", "json"} | (set() if name == "karta up" else {"database_url", "data_dir"})
    told = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    actions = [action for action in told if action.dest not in left_out]
    if actions:
        yield ""
    for action in actions:
        yield f"- {spell(action)}{explain(action)}"
    if name == "karta bench":
        yield ""
        yield "Its own `--help` says more."


def spell(action: argparse.Action) -> str:
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    if action.choices is not None:
        value = "{" + ",".join(str(choice) for choice in action.choices) + "}"
    if not action.option_strings:
        return f"`{value}`"
    return f"`{action.option_strings[-1]} {value}`".replace(" `", "`")


def explain(action: argparse.Action) -> str:
    required = " (required)" if action.required and action.option_strings else ""
    text = (action.help or "").replace(str(default_path()), "~/.local/share/karta")
    return f"{required}: {text}" if text else required


def settings() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield "Each is an environment variable, or an entry of `karta.toml` in the working directory under the"
    yield 'same name in small letters without the prefix: `database_url = "…"`, and `[provider.anthropic]'
    yield 'base_url = "…"`. The environment wins. All problems are told at once when a program starts;'
    yield "`karta doctor` lists"
    yield "every setting with its value (secrets hidden) and where it came from."
    seen: set[str] = set()
    for title, cls in SETTINGS:
        yield ""
        yield f"## {title}"
        yield ""
        for field, info in cls.model_fields.items():
            if field not in seen:
                seen.add(field)
                yield describe_setting(field, info)
    yield ""
    yield "## Others"
    yield ""
    for name, text in OTHERS:
        yield f"- `{name}`: {text}"
    yield ""


def describe_setting(field: str, info: Any) -> str:
    name = f"`{PREFIX}{field.upper()}`"
    if field == "provider_variables":
        return f"- {info.description}"
    default = info.get_default(call_default_factory=True)
    if info.is_required():
        ending = " Required."
    elif default in (None, (), ""):
        ending = ""
    else:
        ending = f" Default: `{default}`."
    return f"- {name}: {info.description}{ending}"


def metrics() -> Iterator[str]:
    yield "# Metrics"
    yield ""
    yield "What `KARTA_METRICS_BIND` serves at `/metrics`, in the order of the page; a name is told with"
    yield "those around it. Counters and histograms are of all workers together, those that ended too; so are"
    yield "gauges, but for those that are said to be of each worker (with the label `worker`), or the"
    yield "greatest or the least of any. All durations are in seconds."
    yield "[How to use them](../how-to/observe.md)."
    for title, families in (("A worker's", worker_families()), ("The supervisor's", own_families())):
        yield ""
        yield f"## {title}"
        yield ""
        for family in families:
            kind = family.kind if family.kind != "gauge" else MERGED[family.merge]
            yield f"- `{METRIC}{family.name}` ({kind}): {family.help}"
    yield ""


def worker_families() -> list[Family]:
    """Their names and what they are: nobody asks for their values, so nothing need be there to have any."""
    meter = MagicMock(stages=AllStages())
    parts = (
        "acceptor",
        "authenticator",
        "cutter",
        "lane",
        "pipeline",
        "pools",
        "refill",
        "shipper",
        "snapshot",
    )
    page = Metrics(meter=meter, lag=LoopLag(), **{name: MagicMock() for name in parts})
    figures = [Family(one.name, one.kind, one.help, one.merge, {}) for one in page._figures]
    return [*figures, *page._histograms()]


def own_families() -> list[Family]:
    return Supervisor._own(MagicMock(slots=[]), 0)


def main() -> None:
    FOLDER.mkdir(exist_ok=True, parents=True)
    for file, text in pages().items():
        (FOLDER / file).write_text(text)
    CAPACITY.write_text(capacity())


if __name__ == "__main__":
    main()
