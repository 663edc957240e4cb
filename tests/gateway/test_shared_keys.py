"""Who is told to verify what, and when: each key once, spread over those who want it, whoever dies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control import Entry, Go, Known, ToWorker, Wrong
from gateway.shared_keys import SharedKeys, Told

MARK = b"mark"


def entry(number: int) -> Entry:
    return Entry(bytes([number]), MARK, f"key{number}")


def go(*numbers: int) -> list[ToWorker]:
    return [Go(bytes([number]), MARK) for number in numbers]


class Workers:
    """Three workers; `told` is what each has been told and has not taken."""

    def __init__(self, threads: int = 1, entries_max: int = 100) -> None:
        self.keys = SharedKeys(threads, entries_max)
        self.told: dict[int, list[ToWorker]] = {}
        for worker in range(3):
            self.told[worker] = []
            self.keys.join(worker)

    def hand_out(self, told: Told) -> None:
        for worker, message in told:
            self.told[worker].append(message)

    def claim(self, worker: int, number: int) -> None:
        self.hand_out(self.keys.claim(worker, bytes([number]), MARK))

    def verified(self, worker: int, number: int) -> None:
        self.hand_out(self.keys.verified(worker, entry(number)))

    def failed(self, worker: int, number: int, *, wrong: bool) -> None:
        self.hand_out(self.keys.failed(worker, bytes([number]), MARK, wrong=wrong))

    def take(self, worker: int) -> list[ToWorker]:
        taken, self.told[worker] = self.told[worker], []
        return taken


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    assert workers.keys.claims == 0, "nothing is left hanging"


def test_the_first_is_told_to_go_and_the_others_learn_of_it(workers: Workers) -> None:
    for worker in range(3):
        workers.claim(worker, 1)
    assert [workers.take(worker) for worker in range(3)] == [go(1), [], []]
    workers.verified(0, 1)
    assert [workers.take(worker) for worker in range(3)] == [[], [Known([entry(1)])], [Known([entry(1)])]]


def test_what_is_known_is_answered_at_once(workers: Workers) -> None:
    workers.claim(0, 1)
    workers.verified(0, 1)
    workers.take(1)
    workers.claim(1, 1)
    assert workers.take(1) == [Known([entry(1)])]


def test_another_digest_is_another_matter(workers: Workers) -> None:
    """As after a secret was changed in place: what was verified before says nothing."""
    workers.claim(0, 1)
    workers.verified(0, 1)
    workers.take(1)
    workers.hand_out(workers.keys.claim(1, b"\1", b"other"))
    assert workers.take(1) == [Go(b"\1", b"other")]
    workers.hand_out(workers.keys.failed(1, b"\1", b"other", wrong=True))


def test_work_is_spread_over_those_who_want_it(workers: Workers) -> None:
    for worker in range(3):
        for number in range(1, 5):
            workers.claim(worker, number)
    assert [workers.take(worker) for worker in range(3)] == [go(1), go(2), go(3)]
    workers.verified(1, 2)
    assert workers.take(1) == go(4)
    for worker, number in ((0, 1), (2, 3), (1, 4)):
        workers.verified(worker, number)
    for worker in range(3):
        known = {message.entries[0].key_id for message in workers.take(worker) if isinstance(message, Known)}
        assert len(known) == (2 if worker == 1 else 3)


def test_a_worker_has_as_many_at_once_as_it_has_threads() -> None:
    workers = Workers(threads=2)
    for number in range(1, 5):
        workers.claim(0, number)
    assert workers.take(0) == go(1, 2)
    workers.verified(0, 2)
    assert workers.take(0) == go(3)


def test_a_wrong_token_is_wrong_for_all(workers: Workers) -> None:
    for worker in range(3):
        workers.claim(worker, 1)
    workers.take(0)
    workers.failed(0, 1, wrong=True)
    assert [workers.take(worker) for worker in range(3)] == [[], [Wrong(b"\1", MARK)], [Wrong(b"\1", MARK)]]
    assert len(workers.keys) == 0


@pytest.mark.parametrize("dies", [False, True], ids=["fails", "dies"])
def test_another_takes_over(dies: bool, workers: Workers) -> None:
    for worker in range(3):
        workers.claim(worker, 1)
    workers.take(0)
    if dies:
        workers.hand_out(workers.keys.leave(0))
    else:
        workers.failed(0, 1, wrong=False)
    assert [workers.take(worker) for worker in range(3)] == [[], go(1), []]
    workers.verified(1, 1)
    assert workers.take(2) == [Known([entry(1)])]
    assert len(workers.take(0)) == (not dies)


def test_whoever_leaves_wants_nothing_more(workers: Workers) -> None:
    workers.claim(0, 1)
    workers.claim(1, 1)
    workers.hand_out(workers.keys.leave(1))
    workers.take(0)
    workers.failed(0, 1, wrong=False)
    assert workers.take(1) == []


def test_a_verification_nobody_was_told_to_make_counts_too(workers: Workers) -> None:
    """Its worker has waited too long and gone without."""
    workers.claim(0, 1)
    workers.claim(1, 1)
    workers.verified(1, 1)
    assert workers.take(0) == [*go(1), Known([entry(1)])]
    workers.failed(0, 1, wrong=False)
    workers.claim(0, 2)
    assert workers.take(0) == go(2)
    workers.verified(0, 2)


def test_a_new_worker_is_told_everything(workers: Workers) -> None:
    for number in (1, 2):
        workers.claim(0, number)
        workers.verified(0, number)
    assert workers.keys.join(7) == [entry(1), entry(2)]


def test_ended_keys_are_forgotten(workers: Workers) -> None:
    for number in (1, 2):
        workers.claim(0, number)
        workers.verified(0, number)
    workers.keys.forget(["key1"])
    assert workers.keys.join(7) == [entry(2)]


def test_the_oldest_is_forgotten_first() -> None:
    workers = Workers(entries_max=2)
    for number in (1, 2, 3):
        workers.claim(0, number)
        workers.verified(0, number)
    assert workers.keys.join(7) == [entry(2), entry(3)]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "verify", "fail", "wrong", "die"]), st.integers(0, 2), st.integers(1, 4)
    ),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens_everybody_gets_an_answer(events: list[tuple[str, int, int]]) -> None:
    """And nobody verifies what another is at."""
    workers = Workers()
    waiting: dict[int, set[int]] = {0: set(), 1: set(), 2: set()}
    going: dict[int, int] = {}

    def read() -> None:
        for worker in waiting:
            for message in workers.take(worker):
                number = message.entries[0].mac[0] if isinstance(message, Known) else message.mac[0]  # type: ignore[union-attr]
                if isinstance(message, Go):
                    assert number not in going
                    going[number] = worker
                waiting[worker].discard(number)

    def finish(number: int, how: str) -> None:
        worker = going.pop(number)
        if how == "verify":
            workers.verified(worker, number)
        else:
            workers.failed(worker, number, wrong=how == "wrong")
        read()

    for what, worker, number in events:
        if what == "claim" and number not in waiting[worker] and going.get(number) != worker:
            waiting[worker].add(number)
            workers.claim(worker, number)
            read()
        elif what == "die":
            waiting[worker].clear()
            for one in [one for one, at_it in going.items() if at_it == worker]:
                del going[one]
            workers.hand_out(workers.keys.leave(worker))
            workers.keys.join(worker)
            read()
        elif number in going:
            finish(number, what)
    while going:
        finish(next(iter(going)), "verify")
    assert waiting == {0: set(), 1: set(), 2: set()}
    assert workers.keys.claims == 0
