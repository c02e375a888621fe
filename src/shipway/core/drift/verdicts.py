"""The verdict on each column of two samples: is it steady, did it drift, or is there too little data?"""

from __future__ import annotations

from shipway.core.drift.report import DriftReport
from shipway.core.drift.rules import DriftRules
from shipway.core.drift.summaries import Summary


def compare(
    baseline: Summary, current: Summary, *, rules: DriftRules | None = None
) -> DriftReport:
    """How the current sample differs from the baseline, column by column.

    Both must be counted between the same edges (`edges_of`) and by the same categories
    (`categories_of`). Columns that one of them lacks are left out, and named in the report.

    Raises:
        ValueError: a column's edges differ.
    """
    raise NotImplementedError
