"""A round that fails is logged, and what is a fault is told once until a round is whole again."""

from __future__ import annotations

import logging

import pytest

from storage import error_reports
from storage.errors import DatabaseBusy, DatabaseUnavailable, Denied, StorageError
from storage.rounds import Rounds

log = logging.getLogger("karta.some_job")


def test_faults_are_told_once_until_a_round_is_whole(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away, busy, odd, denied = (
        DatabaseUnavailable("away"),
        DatabaseBusy("busy"),
        StorageError("odd"),
        Denied("no"),
    )
    deadlock = DatabaseBusy("deadlock")
    deadlock.sqlstate = "40P01"
    told: list[BaseException] = []
    places: set[object] = set()

    def report(error: BaseException, tags: dict[str, str]) -> None:
        told.append(error)
        places.add(tags["place"])

    monkeypatch.setattr(error_reports, "report", report)
    rounds = Rounds(log, "the job was cut short")
    failed = (away, busy, busy, deadlock, odd, denied, odd, away, None, busy, away, odd)
    with caplog.at_level(logging.WARNING):
        for error in failed:
            with rounds.one():
                if error is not None:
                    raise error
    assert told == [busy, deadlock, odd, denied, busy, odd]
    assert places == {log.name}
    assert caplog.messages == [f"the job was cut short: {error}" for error in failed if error is not None]


def test_what_is_no_fault_of_storage_goes_on_its_way() -> None:
    with pytest.raises(ZeroDivisionError), Rounds(log, "the job was cut short").one():
        raise ZeroDivisionError
