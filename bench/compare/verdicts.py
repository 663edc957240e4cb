"""What a run's figures say of a target's honesty, where no single answer was wrong.  Pure.

Every answer is checked as it comes (`bench.load.answer`). Two things only show in sums: answers that nobody
asked the provider for, and events of a paced stream that come together, because somebody had held them up.
The latter is judged against the direct run of the same round, since a busy machine merges events, too; and a
target whose core is busy all the time is not accused: it cannot keep up, which its other figures tell.
"""

from bench.compare.comparison import Comparison
from bench.load.answer import Failure

# So much more of the events than in the direct run may come together with the one before.
merged_share_max = 0.25
_SATURATED_SHARE = 0.9
_CEILING_ARM = "direct"


def unasked(answers: int, requests_seen: int) -> list[str]:
    """Say so if there were more answers than the provider was asked for."""
    if requests_seen >= answers:
        return []
    missing = answers - requests_seen
    return [f"{missing} {Failure.UNASKED}: {answers} answers, and {requests_seen} at the provider"]


def merged(seen: Comparison) -> list[str]:
    """Say of each arm that held up events of paced streams how many came together."""
    found = []
    for scenario in seen.scenarios:
        if not scenario.paced_seconds or scenario.idle:
            continue
        by_arm = seen.rounds.get(scenario.name, {})
        for arm, summaries in by_arm.items():
            pairs = zip(summaries, by_arm.get(_CEILING_ARM, []), strict=False)
            for number, (summary, ceiling) in enumerate(pairs, 1):
                if summary is None or ceiling is None or (summary.target_cpu_share or 0) >= _SATURATED_SHARE:
                    continue
                more = summary.merged_events_share - ceiling.merged_events_share
                if more > merged_share_max:
                    found.append(
                        f"{arm}, {scenario.title or scenario.name}, round {number}: {Failure.MERGED}: "
                        f"{summary.merged_events_share:.0%} of the events came together with the one before, "
                        f"{ceiling.merged_events_share:.0%} without a target"
                    )
    return found
