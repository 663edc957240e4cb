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
"""

import math
from collections.abc import Sequence
from statistics import fmean, variance

import msgspec

from bench.compare.comparison import Comparison
from bench.compare.figures import Figure, figures_of

# Student's t for 95 % (two-sided), by degrees of freedom from 1 on; beyond, the last is kept, which is safe.
_T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)

# Of a logarithm that is known to a slot of this width.
_ROUNDING_VARIANCE = (1 / 128) ** 2 / 12


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """How a figure of an arm changed: `ratio` is second / first, between `low` and `high` with 95 %."""

    scenario: str
    arm: str
    figure: str
    first: float
    second: float
    ratio: float
    low: float
    high: float
    more_is_better: bool

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out that nothing changed."""
        return self.low > 1 or self.high < 1

    @property
    def better(self) -> bool | None:
        """None if that is not sure."""
        return (self.ratio > 1) is self.more_is_better if self.sure else None


def ratio_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float] | None:
    """Return (ratio, low, high) of the geometric means; None without two values above 0 on each side."""
    if min(len(first), len(second)) < 2 or min(*first, *second) <= 0:
        return None
    logs = [[math.log(value) for value in side] for side in (first, second)]
    shift = fmean(logs[1]) - fmean(logs[0])
    errors = [max(variance(side), _ROUNDING_VARIANCE) / len(side) for side in logs]
    error = sum(errors)
    # Welch and Satterthwaite's degrees of freedom; rounded down, which makes the interval wider.
    freedom = error**2 / sum(e**2 / (len(side) - 1) for e, side in zip(errors, logs, strict=True))
    reach = _T_95[min(max(int(freedom), 1), len(_T_95)) - 1] * math.sqrt(error)
    return math.exp(shift), math.exp(shift - reach), math.exp(shift + reach)


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
    found = []
    names = {scenario.name for scenario in second.scenarios}
    for scenario in first.scenarios:
        for arm in first.options.arms:
            if scenario.name not in names or arm == relative_to:
                continue
            for figure in figures_of(scenario):
                sides = [_values(seen, scenario.name, arm, figure, relative_to) for seen in (first, second)]
                interval = ratio_interval(*sides) if all(sides) else None
                if interval is not None:
                    found.append(
                        Change(
                            scenario=scenario.name,
                            arm=arm,
                            figure=figure.label,
                            first=math.exp(fmean(map(math.log, sides[0]))),
                            second=math.exp(fmean(map(math.log, sides[1]))),
                            ratio=interval[0],
                            low=interval[1],
                            high=interval[2],
                            more_is_better=figure.more_is_better,
                        )
                    )
    return found
