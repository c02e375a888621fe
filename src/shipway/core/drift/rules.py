"""When a difference is called drift."""

from __future__ import annotations

import msgspec


class DriftRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a verdict asks of a difference: that it is large enough to matter, and no accident.

    `effect` is the smallest difference that matters: for numbers, how far their values moved on
    average, in spreads of the baseline (normed Wasserstein); for categories, the Jensen-Shannon
    distance. `false_alarms_per_week` is the chance that a week without any drift raises an alarm, over all
    columns and all runs together. `runs_per_week` is how often somebody looks: 168 for each hour.
    `minimum_rows` is how many independent values of a column either side needs.
    `allow_for_repeats` estimates from the buckets of time how many of the rows are independent.
    """

    effect: float = 0.1
    false_alarms_per_week: float = 0.01
    runs_per_week: float = 168.0
    minimum_rows: int = 100
    allow_for_repeats: bool = True

    @property
    def alpha(self) -> float:
        """The chance of a false alarm that one run may spend, shared evenly by the runs of a week.

        0.01 over 168 runs is 0.0000595. By Bonferroni's inequality the week's chance is at most the sum,
        however much the runs' windows overlap.
        """
        return self.false_alarms_per_week / max(1.0, self.runs_per_week)
