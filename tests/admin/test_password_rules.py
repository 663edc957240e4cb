from __future__ import annotations

import pytest
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from admin.accounts.password_check import PasswordCheck, TooManyChecks
from admin.password_rules import PASSWORD_CHARS_MIN, _judge, find_problem
from storage.passwords import PASSWORD_CHARS_MAX


@pytest.mark.parametrize(
    "password",
    [
        *("", "short", "x" * PASSWORD_CHARS_MIN, "password1234", "1234567890", "qwertyuiop", "aaaaaaaaaaaa"),
        *("ada.lovelace", "example.com1", "Karta12345", "x" * (PASSWORD_CHARS_MAX + 1)),
    ],
)
async def test_what_others_would_guess(password: str) -> None:
    assert await find_problem(PasswordCheck(), password, ("ada.lovelace@example.com",)) is not None


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "uncommon nouns",
        "vT9$kq2Lw!",
        "пароль из редких слов",
        "correct horse battery staple " * 30,
    ],
)
async def test_what_they_would_not(password: str) -> None:
    assert await find_problem(PasswordCheck(), password, ("ada@example.com",)) is None


async def test_it_says_what_to_do() -> None:
    said = await find_problem(PasswordCheck(), "password1234", ())
    assert said is not None
    assert said.startswith("That is too easy to guess.")
    assert said.endswith(".")
    assert ".." not in said


async def test_its_work_is_bounded_like_all_of_it() -> None:
    with pytest.raises(TooManyChecks):
        await find_problem(PasswordCheck(threads_max=1, waiting_max=-1), "correct horse battery", ())


def test_none_of_the_most_used_breached_ones() -> None:
    long_enough = [one for one in FREQUENCY_LISTS["passwords"] if len(one) >= PASSWORD_CHARS_MIN]
    assert len(long_enough) > 1000
    # In order of use: every tenth will do.
    assert [one for one in long_enough[::10] if _judge(one, ()) is None] == []
