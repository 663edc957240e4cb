from __future__ import annotations

from admin.mail.account_letters import LETTERS
from admin.mail.content import Details, Link
from storage.letter_kinds import TOPICS
from tests.admin.mail.examples import FACTS


def test_each_says_what_happened_and_leads_to_one_place_at_most() -> None:
    for kind, write in LETTERS.items():
        content = write(FACTS[kind])
        assert 10 < len(content.subject) < 70
        assert sum(isinstance(block, Link) for block in content.blocks) <= 1
        assert content.end is None
        assert kind not in TOPICS


def test_a_new_sign_in_tells_from_where_and_when() -> None:
    (kind,) = (kind for kind in LETTERS if kind.value == "new_sign_in")
    (details,) = (block for block in LETTERS[kind](FACTS[kind]).blocks if isinstance(block, Details))
    assert dict(details.rows)["Address"] == "192.0.2.7"
    assert dict(details.rows)["When"] == "26 Nov 2026, 02:30 UTC"
