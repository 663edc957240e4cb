"""Two comparisons against each other: by how much each figure changed, and how sure that is.  Pure.

For each figure the ratio of the second run to the first is told with a 95 % confidence interval: Welch's t
interval on the logarithms of the rounds' values. Rounds are what is independent (the requests within one are
not), and there are few of them, so that an interval from resampling them would be too narrow: of three values
a bootstrap has ten different samples. Logarithms, because such figures vary by factors. It needs two rounds
on each side; with two or three it is honest and wide. That a machine had another mood on another day it
cannot know: `relative_to` sets every value against another arm's of the same round first, which takes most of
that out.

A histogram knows a duration to a slot of 1/128 of it, so rounds may agree by coincidence: their variance
counts as that of the rounding at least, or two equal rounds on each side would make any change a sure one.

Nothing is a multiple of nothing: a figure that is 0 in some round has no ratio. Of it the difference of the
means is told, with Welch's interval on the values themselves; the variance of a count is its mean at least,
as that of rare events is. With one round on a side, the values are told and no interval.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, variance
from typing import Any

import msgspec

from bench.compare.comparison import Comparison
from bench.compare.figures import Figure, figures_of

# Student's t for 95 % (two-sided), by degrees of freedom from 1 on; beyond, the last is kept, which is safe.
_T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)

_KIBIBYTE = 1024
# Of a logarithm that is known to a slot of this width.
_ROUNDING_VARIANCE = (1 / 128) ** 2 / 12


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """How a figure of an arm changed.

    `ratio` is second / first, between `low` and `high` with 95 %; None where a 0 is among the values, and
    then it is `difference` (second - first) that is between `low` and `high`. These are None if one side has
    a single round.
    """

    scenario: str
    arm: str
    figure: str
    first: float
    second: float
    ratio: float | None
    difference: float
    low: float | None
    high: float | None
    more_is_better: bool

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out that nothing changed."""
        if self.low is None or self.high is None:
            return False
        same = 0 if self.ratio is None else 1
        return self.low > same or self.high < same

    @property
    def better(self) -> bool | None:
        """None if that is not sure."""
        return (self.difference > 0) is self.more_is_better if self.sure else None


def _reach(sides: Sequence[Sequence[float]], variances_min: Sequence[float]) -> float | None:
    """Return how far Welch's interval reaches from the difference of the sides' means; None for a single
    value."""
    if min(map(len, sides)) < 2:
        return None
    errors = [
        max(variance(side), least) / len(side) for side, least in zip(sides, variances_min, strict=True)
    ]
    error = sum(errors)
    if not error:
        return 0.0
    # Welch and Satterthwaite's degrees of freedom; rounded down, which makes the interval wider.
    freedom = error**2 / sum(e**2 / (len(side) - 1) for e, side in zip(errors, sides, strict=True))
    return _T_95[min(max(int(freedom), 1), len(_T_95)) - 1] * math.sqrt(error)


def ratio_interval(
    first: Sequence[float], second: Sequence[float]
) -> tuple[float, float | None, float | None]:
    """Return (ratio, low, high) of the geometric means of values above 0."""
    logs = [[math.log(value) for value in side] for side in (first, second)]
    shift = fmean(logs[1]) - fmean(logs[0])
    reach = _reach(logs, [_ROUNDING_VARIANCE] * 2)
    if reach is None:
        return math.exp(shift), None, None
    return math.exp(shift), math.exp(shift - reach), math.exp(shift + reach)


def difference_interval(
    first: Sequence[float], second: Sequence[float], *, counted: bool = False
) -> tuple[float, float | None, float | None]:
    """Return (second - first, low, high) of the means; `counted` for numbers of rare events."""
    means = [fmean(side) for side in (first, second)]
    shift = means[1] - means[0]
    reach = _reach((first, second), means if counted else [mean**2 * _ROUNDING_VARIANCE for mean in means])
    return (shift, None, None) if reach is None else (shift, shift - reach, shift + reach)


def change_of(
    first: Sequence[float], second: Sequence[float], *, counted: bool = False, **about: Any
) -> Change:
    """Return the change from the values of some rounds to those of others, each at least one."""
    if min(*first, *second) > 0:
        ratio, low, high = ratio_interval(first, second)
        own, other = (math.exp(fmean(map(math.log, side))) for side in (first, second))
        return Change(
            first=own, second=other, ratio=ratio, difference=other - own, low=low, high=high, **about
        )
    difference, low, high = difference_interval(first, second, counted=counted)
    return Change(
        first=fmean(first),
        second=fmean(second),
        ratio=None,
        difference=difference,
        low=low,
        high=high,
        **about,
    )


def _values(seen: Comparison, scenario: str, arm: str, figure: Figure, base: str | None) -> list[float]:
    """Return the rounds' values, each divided by that of the arm `base` in the same round."""
    by_arm = seen.rounds.get(scenario, {})
    own = by_arm.get(arm, [])
    if base is None:
        found = [figure.metric(summary) for summary in own if summary]
    else:
        pairs = zip(own, by_arm.get(base, []), strict=False)
        found = [
            figure.metric(one) / under
            for one, other in pairs
            if one and other and (under := figure.metric(other))
        ]
    return [value for value in found if math.isfinite(value)]


def changes(first: Comparison, second: Comparison, *, relative_to: str | None = None) -> list[Change]:
    """Return the change of every figure that both have."""
    names = {scenario.name for scenario in second.scenarios}
    found = []
    for scenario in first.scenarios:
        for arm in first.options.arms:
            if scenario.name not in names or arm == relative_to:
                continue
            for figure in figures_of(scenario):
                sides = [_values(seen, scenario.name, arm, figure, relative_to) for seen in (first, second)]
                if all(sides):
                    found.append(
                        change_of(
                            *sides,
                            counted=figure.counted and relative_to is None,
                            scenario=scenario.name,
                            arm=arm,
                            figure=figure.label,
                            more_is_better=figure.more_is_better,
                        )
                    )
    return found if relative_to is not None else [*found, *_idle_changes(first, second)]


def _idle_changes(first: Comparison, second: Comparison) -> Iterator[Change]:
    """What an open stream takes, which is measured once a run."""
    for name, by_arm in first.idle.items():
        for arm, held in by_arm.items():
            other = second.idle.get(name, {}).get(arm)
            if other is not None:
                yield change_of(
                    *([one.bytes_per_stream / _KIBIBYTE] for one in (held, other)),
                    scenario=name,
                    arm=arm,
                    figure="KiB a stream",
                    more_is_better=False,
                )
