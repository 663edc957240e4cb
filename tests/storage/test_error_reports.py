"""Faults arrive at a Sentry with their tags, and nothing of a planted corpus does."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from storage import error_reports
from storage.settings import CommonSettings, SettingsError
from tests.support.planted_secrets import everything, found_in
from tests.support.sentry_sink import Sink, arrived_whole, sentry_sink

DATABASE = "postgresql://nobody@127.0.0.1/none"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with sentry_sink() as sink:
        error_reports.begin(_settings(sink.dsn), "gateway")
        try:
            yield sink
        finally:
            error_reports.finish()


def _settings(dsn: str | None, **more: Any) -> CommonSettings:
    return CommonSettings.load(database_url=DATABASE, sentry_dsn=dsn, **more)


def _raised(plant: str) -> Exception:
    """An error with `plant` in its message, notes, causes, groups, variables and attributes."""
    prompt = {"messages": [plant]}
    token = plant.encode()

    def inner() -> None:
        row = (plant, plant)
        try:
            raise KeyError(row)
        except KeyError as error:
            error.add_note(plant)
            raise ExceptionGroup(plant, [ValueError(plant, token), OSError(2, plant, plant)]) from error

    try:
        try:
            inner()
        except ExceptionGroup as group:
            raise RuntimeError(f"{plant} {prompt}") from group
    except RuntimeError as error:
        return error


def test_an_ordinary_error_arrives_with_its_tags(sink: Sink) -> None:
    tags = {"organization": "o1", "role": "owner", "place": "karta.test", "status": None}
    error_reports.report(_raised("x"), tags, user="k1")
    error_reports.finish()
    arrived_whole(sink)
    (event,) = sink.events
    assert event["tags"] == {
        "organization": "o1",
        "role": "owner",
        "place": "karta.test",
        "program": "gateway",
        "errno": "2",
    }
    assert event["user"] == {"id": "k1"}
    assert event["environment"] == "development"
    assert event["release"].startswith("karta@")
    kinds = [value["type"] for value in event["exception"]["values"]]
    assert kinds == ["KeyError", "ExceptionGroup", "RuntimeError"]
    frame = event["exception"]["values"][-1]["stacktrace"]["frames"][-1]
    assert (frame["function"], frame["module"]) == ("_raised", "tests.storage.test_error_reports")


def test_each_of_a_group_arrives(sink: Sink) -> None:
    cause = _raised("x").__cause__
    assert cause is not None
    error_reports.report(cause)
    error_reports.finish()
    kinds = [value["type"] for value in sink.events[0]["exception"]["values"]]
    assert sorted(kinds) == ["ExceptionGroup", "FileNotFoundError", "KeyError", "ValueError"]


def test_nothing_planted_arrives(sink: Sink) -> None:
    plant = everything()
    ends: list[None] = []

    def fail() -> None:
        # What an SDK with its integrations would have gathered by now.
        logging.getLogger("karta.test").error("about %s", plant)
        import sentry_sdk

        sentry_sdk.add_breadcrumb(message=plant, data={"sql": plant})
        sentry_sdk.set_tag("organization", plant)
        sentry_sdk.set_context("state", {"x": plant})
        sentry_sdk.set_extra("x", plant)
        error = _raised(plant)
        error_reports.report(error, {"organization": "o1", "endpoint": "/v1/messages"}, user="k1")
        error_reports.report(error.__cause__ or error, user=plant)
        planted = {"organization": plant, "role": plant, "unknown": plant}
        error_reports.report(error, planted, user=plant, handled=False)
        trace = {"op": plant, "data": {plant: plant}}
        error_reports.send_transaction(
            {"transaction": plant, "contexts": {"trace": trace}, "spans": [{plant: 1}]}
        )
        ends.append(None)

    thread = threading.Thread(target=fail, name=plant)
    thread.start()
    thread.join()
    error_reports.finish()
    assert ends
    assert [len(sink.events), len(sink.transactions)] == [3, 1]
    for body in sink.bodies:
        assert found_in(body.decode()) == []
    assert sink.events[0]["tags"]["organization"] == "o1"
    assert sink.events[2]["level"] == "fatal"


def test_without_a_dsn_the_sdk_is_not_even_imported() -> None:
    program = (
        "import sys; from storage import error_reports as reports\n"
        "from storage.settings import CommonSettings\n"
        f"reports.begin(CommonSettings.load(database_url={DATABASE!r}), 'x'); reports.report(ValueError())\n"
        "reports.finish(); assert 'sentry_sdk' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PATH": ""})


def test_the_sdk_changes_nothing_of_the_process(sink: Sink) -> None:
    import sentry_sdk

    hooks = (sys.excepthook, threading.excepthook, threading.Thread.run, logging.Logger.callHandlers)
    assert not sentry_sdk.get_client().is_active(), "ours is not the process's own"
    assert [hook.__module__ for hook in hooks if "sentry" in (hook.__module__ or "")] == []
    reporter = error_reports._reporter
    assert reporter is not None
    assert reporter.client.integrations == {}


def test_a_storm_of_faults_is_bounded(sink: Sink) -> None:
    for _ in range(3 * error_reports.REPORTS_MAX):
        error_reports.report(ValueError())
    error_reports.finish()
    assert len(sink.events) == error_reports.REPORTS_MAX


def test_a_sentry_that_is_away_holds_up_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error_reports.begin(_settings(f"http://key@127.0.0.1:{port}/1"), "gateway")
        error_reports.report(ValueError())
        began = time.monotonic()
        error_reports.finish()
        assert time.monotonic() - began < 10 * error_reports.FINISH_SECONDS_MAX


def test_scrubbing_that_fails_sends_nothing(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = error_reports._reporter
    assert reporter is not None

    def broken(event: object, hint: object) -> object:
        raise RuntimeError

    monkeypatch.setitem(reporter.client.options, "before_send", broken)
    error_reports.report(ValueError("planted"))
    error_reports.finish()
    assert sink.bodies == []


@pytest.mark.parametrize(
    ("dsn", "word"),
    [
        ("https://sentry.example.com/1", "public-key@host"),
        ("https://key@sentry.example.com/", "public-key@host"),
        ("http://key@sentry.example.com/1", "https"),
        ("nonsense", "public-key@host"),
    ],
)
def test_a_dsn_that_cannot_be_one_is_told(dsn: str, word: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _settings(dsn)
    (problem,) = caught.value.problems
    assert problem.startswith("KARTA_SENTRY_DSN: ")
    assert word in problem


def test_the_environment_can_be_named(sink: Sink) -> None:
    error_reports.finish()
    error_reports.begin(_settings(sink.dsn, sentry_environment="staging"), "admin")
    error_reports.report(ValueError())
    error_reports.finish()
    assert json.loads(json.dumps(sink.events[0]))["environment"] == "staging"
