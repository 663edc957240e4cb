"""What is written to those who asked to be told of something, and to those who look after reports."""

from __future__ import annotations

from admin.mail.content import Content, Details, Link, Paragraph, Quote, line, lines
from storage.letter_kinds import LetterKind
from storage.outbox import Facts

TOPIC_PATHS = {"sub_processors": "/subprocessors", "incidents": "/status"}
"""The pages whose changes are told, and below which a subscription to them is."""
_TOPICS = {
    "sub_processors": ("Karta's sub-processors change", "the list of sub-processors changes"),
    "incidents": ("Karta has an incident", "there is an incident or maintenance on the status page"),
}
_STAGES = {
    "investigating": "Incident",
    "identified": "Incident, cause found",
    "monitoring": "Incident, being watched",
    "resolved": "Resolved",
    "planned": "Maintenance",
    "cancelled": "Maintenance cancelled",
}
_ASKED = "You get this because you asked for it."


def subscription_confirm(facts: Facts) -> Content:
    short, long = _TOPICS[str(facts["topic"])]
    return Content(
        subject=f"Confirm: tell me when {short}",
        blocks=(
            Paragraph(f"Follow this link to be told by mail when {long}:"),
            Link(str(facts["path"]), "Tell me"),
            Paragraph("It works for seven days. If it was not you who asked, do nothing."),
        ),
        why="You get this because somebody gave this address to Karta.",
    )


def sub_processors_changed(facts: Facts) -> Content:
    changes = facts["changes"]
    assert isinstance(changes, list)
    return Content(
        subject="Karta's sub-processors have changed",
        blocks=(
            Paragraph("The list of sub-processors has changed. Its newest entries:"),
            Quote(lines("\n".join(changes))),
            Link("/subprocessors", "Look at the whole list"),
        ),
        why=_ASKED,
        end=_end("sub_processors", facts),
    )


def incident(facts: Facts) -> Content:
    stage = _STAGES[str(facts["stage"])]
    return Content(
        subject=line(f"{stage}: {line(facts['title'])}"),
        blocks=(
            Paragraph(line(f"{stage}: {line(facts['title'], 300)}", 400)),
            Quote(lines(facts["message"])),
            Link(f"/status/incidents/{facts['incident_id']}", "Follow it on the status page"),
        ),
        why=_ASKED,
        end=_end("incidents", facts),
    )


def abuse_reported(facts: Facts) -> Content:
    """What a stranger wrote is quoted, each line of it."""
    rows = [("Reference", line(facts["reference"])), ("Category", line(facts["category"]))]
    rows.append(("From", line(facts["email"]) or "not given"))
    return Content(
        subject=f"Abuse report {line(facts['reference'], 30)}",
        blocks=(
            Details(tuple(rows)),
            Quote(lines(facts["report"])),
            Link("/staff/reports", "Look at the reports"),
        ),
        why="You get this because reports of abuse are sent to this address.",
    )


LETTERS = {
    LetterKind.SUBSCRIPTION_CONFIRM: subscription_confirm,
    LetterKind.SUB_PROCESSORS_CHANGED: sub_processors_changed,
    LetterKind.INCIDENT: incident,
    LetterKind.ABUSE_REPORTED: abuse_reported,
}


def _end(topic: str, facts: Facts) -> Link:
    path = f"{TOPIC_PATHS[topic]}/subscription/{facts['subscription_id']}/end"
    return Link(path, "Be told no more")
