from __future__ import annotations

from admin.mail.content import Details, Quote
from admin.mail.public_letters import LETTERS
from storage.incidents import Stage
from storage.letter_kinds import LetterKind
from storage.subscriptions import Topic
from tests.admin.mail.examples import FACTS


def test_each_topic_and_stage_has_its_words() -> None:
    for topic in Topic:
        content = LETTERS[LetterKind.SUBSCRIPTION_CONFIRM]({"topic": topic.value, "path": "/x"})
        assert content.subject.startswith("Confirm: ")
    subjects = {
        LETTERS[LetterKind.INCIDENT]({**FACTS[LetterKind.INCIDENT], "stage": stage.value}).subject
        for stage in Stage
    }
    assert len(subjects) == len(Stage)


def test_a_report_is_quoted_and_its_sender_may_be_unknown() -> None:
    kind = LetterKind.ABUSE_REPORTED
    content = LETTERS[kind]({**FACTS[kind], "email": "", "report": "one\ntwo"})
    details, quote, _ = content.blocks
    assert isinstance(details, Details)
    assert details.rows[2] == ("From", "not given")
    assert quote == Quote("one\ntwo")
