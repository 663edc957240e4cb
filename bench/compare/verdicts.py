"""What a run's figures say of a target's honesty, where no single answer was wrong.  Pure.

Every answer is checked as it comes (`bench.load.answer`). Two things only show in sums: answers that nobody
asked the provider for, and events of a paced stream that come together, because somebody had held them up.
The latter is judged against the direct runs of the same rounds, since a busy machine merges events, too. Not
accused is a target whose core is busy all the time: it cannot keep up, which its other figures tell; nor one
that waited for its core because other programs had it.
"""

from statistics import median

from bench.compare.comparison import Comparison
from bench.compare.scenarios import Beside
from bench.load.answer import Failure
from bench.load.summary import Summary

# So much more of the events than in the direct run may come together with the one before.
merged_share_max = 0.2
# What too much load looks like: no wrong answer, but none in time.
overload = {Failure.BACKLOG.value, Failure.TIMEOUT.value}
_SATURATED_SHARE = 0.9
_STARVED_SHARE_MAX = 0.1
_CEILING_ARM = "direct"


def unasked(answers: int, requests_seen: int) -> list[str]:
    """Say so if there were more answers than the provider was asked for."""
    if requests_seen >= answers:
        return []
    missing = answers - requests_seen
    return [f"{missing} {Failure.UNASKED}: {answers} answers, and {requests_seen} at the provider"]


def only_late(beside: Beside, summary: Summary) -> bool:
    """Say whether wrong keys were made to wait, and nothing else: a target may do that."""
    return beside.kind == "wrong keys" and overload.issuperset(summary.failures)


def merged(seen: Comparison) -> list[str]:
    """Say of each arm that held up events of paced streams how many came together."""
    found = []
    for scenario in seen.scenarios:
        if not scenario.paced_seconds or scenario.idle:
            continue
        by_arm = seen.rounds.get(scenario.name, {})
        for arm, summaries in by_arm.items():
            pairs = [
                (summary.merged_events_share, ceiling.merged_events_share)
                for summary, ceiling in zip(summaries, by_arm.get(_CEILING_ARM, []), strict=False)
                if summary and ceiling and _had_its_core(summary)
            ]
            if pairs and median(own - direct for own, direct in pairs) > merged_share_max:
                own, direct = (median(share) for share in zip(*pairs, strict=True))
                found.append(
                    f"{arm}, {scenario.title or scenario.name}: {Failure.MERGED}: {own:.0%} of the events "
                    f"came together with the one before, {direct:.0%} without a target"
                )
    return found


def _had_its_core(summary: Summary) -> bool:
    busy, starved = summary.target_cpu_share or 0.0, summary.target_starved_share or 0.0
    return busy < _SATURATED_SHARE and starved <= _STARVED_SHARE_MAX
