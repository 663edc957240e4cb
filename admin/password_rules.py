"""Which passwords are taken: long enough, and not what somebody would guess.

Strength is zxcvbn's estimate: the common passwords, names, dates and keyboard patterns it knows. No rule
about kinds of characters: those make passwords worse. What it has to say goes to the person as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from admin.accounts.password_check import PasswordCheck
from storage.passwords import PASSWORD_CHARS_MAX

PASSWORD_CHARS_MIN = 10
SCORE_MIN = 3
"""Of 4: safely unguessable where a digest was stolen and is slow to try."""
JUDGED_CHARS_MAX = 72
"""zxcvbn's time grows with the square of the length; one this long is judged by its beginning."""
OWN_WORDS = ("karta", "gateway", "admin")


async def find_problem(checks: PasswordCheck, password: str, context: Iterable[str]) -> str | None:
    """What is wrong with a new password, for the person who chose it; None when nothing is.

    `context` is what others know of them, such as their address. Raises `TooManyChecks`.
    """
    if len(password) < PASSWORD_CHARS_MIN:
        return f"Use at least {PASSWORD_CHARS_MIN} characters. A few uncommon words do well."
    if len(password) > PASSWORD_CHARS_MAX:
        return f"Use at most {PASSWORD_CHARS_MAX} characters."
    return await checks.run(_judge, password, tuple(_words(context)))


def _words(context: Iterable[str]) -> Iterable[str]:
    yield from OWN_WORDS
    for text in context:
        yield text
        yield from text.replace("@", " ").replace(".", " ").split()


def _judge(password: str, words: tuple[str, ...]) -> str | None:
    # Its word lists take a while to load and some megabytes: only where a password is chosen.
    from zxcvbn import zxcvbn

    found = zxcvbn(password[:JUDGED_CHARS_MAX], user_inputs=list(words))
    if found["score"] >= SCORE_MIN:
        return None
    said = [found["feedback"]["warning"], *found["feedback"]["suggestions"]]
    advice = " ".join(f"{sentence.rstrip('.')}." for sentence in said if sentence)
    return f"That is too easy to guess. {advice}".rstrip()
