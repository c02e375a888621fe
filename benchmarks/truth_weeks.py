"""How many weeks raise a false alarm of prediction drift, or of performance.

    python benchmarks/truth_weeks.py [--replays 200] [--write]

Weeks of 168 hourly looks at default rules, at a day of 480 rows each, against the seven days before. Outputs and errors come
of one distribution throughout, so all alarms are false. `--write` puts the table into docs/explanation/drift.md. Exits with 1
where more than 5 % of the weeks alarm. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import Pool

import numpy as np

from drift_streams import MOST_FALSE, PER_HOUR, WEEK, WINDOW, write
from quality_weeks import RULES, cells
from shipway.core.drift.report import Verdict
from shipway.core.drift.summaries import ColumnSummary, Summary, categories_of, edges_of, summary_of
from shipway.core.drift.verdicts import compare
from shipway.core.evidence import Moments
from shipway.core.profile import ColumnKind, Profile, column_profile
from shipway.monitoring.concept import Block, Quantity, Watch, changes, compared
from shipway.monitoring.profiles import BUCKETS
from shipway.monitoring.tallies import CategoryTally, NumberTally
from shipway.monitoring.truths import LEAST_ERROR, worsened

BEFORE = 7 * 24 * PER_HOUR
LENGTH = WINDOW * PER_HOUR
ROWS = BEFORE + LENGTH + (WEEK - 1) * PER_HOUR
NAMES = np.array(["setosa", "versicolor", "virginica"], dtype=object)
EPOCH, MINUTES = datetime(1970, 1, 1, tzinfo=UTC), timedelta(minutes=60 / PER_HOUR)
WATCH = Watch(alpha=RULES.alpha / 2, min_samples=RULES.minimum_rows, least_effect=LEAST_ERROR)
"""As `monitoring.truths` makes it of the default rules."""

Columns = dict[str, np.ndarray]


class Options(argparse.Namespace):
    replays: int
    write: bool


def classified(random: np.random.Generator) -> Columns:
    """A label and three probabilities, some of which are nearly 0 or 1."""
    chances = random.dirichlet((0.5, 0.4, 0.2), ROWS)
    columns = {f"chance {at}": chances[:, at] for at in range(3)}
    return {"label": NAMES[chances.argmax(axis=1)], **columns}


def scored(random: np.random.Generator) -> Columns:
    """One number with a long tail."""
    return {"amount": random.lognormal(3.0, 1.0, ROWS)}


def looks() -> list[tuple[slice, slice]]:
    """The rows of each look of a week: those before, and the window."""
    ends = range(BEFORE + LENGTH, ROWS + 1, PER_HOUR)
    return [(slice(end - LENGTH - BEFORE, end - LENGTH), slice(end - LENGTH, end)) for end in ends]


def prediction_drift(draw: Callable[[np.random.Generator], Columns], number: int) -> bool:
    """Whether any look of the week says that the outputs drifted."""
    columns = draw(np.random.default_rng([1, number]))
    for before, now in looks():
        profiles = {name: column_profile(values[before]) for name, values in columns.items()}
        known = summary_of(Profile(rows=BEFORE, columns=profiles))
        usual, found = (
            summary({name: values[rows] for name, values in columns.items()}, known)
            for rows in (before, now)
        )
        if compare(usual, found, rules=RULES).verdict is Verdict.DRIFTED:
            return True
    return False


def summary(columns: Columns, known: Summary) -> Summary:
    """The summary of rows in order of time, counted in the cells of another one."""
    rows = len(next(iter(columns.values())))
    buckets = np.arange(rows) * BUCKETS // rows
    edges, names = edges_of(known), categories_of(known)
    found: dict[str, ColumnSummary] = {}
    for name, values in columns.items():
        if name in names:
            tally = CategoryTally(names[name], kind=ColumnKind.CATEGORICAL, buckets=BUCKETS)
            places = {each: at + 1 for at, each in enumerate(names[name])}
            tally.add(buckets, np.array([places.get(each, 0) for each in values]))
            found[name] = tally.summary()
        else:
            numbers = NumberTally(edges[name], is_single=False, buckets=BUCKETS)
            numbers.add(buckets, values)
            found[name] = numbers.summary()
    return Summary(rows=rows, columns=found)


def wrong(share: float, random: np.random.Generator) -> np.ndarray:
    """Errors of labels, of which that share is wrong."""
    return (random.random(ROWS) < share).astype(float)


def off(spread: float, random: np.random.Generator) -> np.ndarray:
    """How far numbers are off: log-normal, with a longer tail the larger the spread."""
    return random.lognormal(0.0, spread, ROWS)


def performance(
    what: Quantity, draw: Callable[[np.random.Generator], np.ndarray], number: int
) -> bool:
    """Whether any look of the week says that errors became more."""
    errors = draw(np.random.default_rng([2, number]))
    blocks = [
        Block(round(at * MINUTES / timedelta(microseconds=1)), Moments(n=1, total=e, squares=e * e))
        for at, e in enumerate(errors.tolist())
    ]
    for before, now in looks():
        since = EPOCH + now.start * MINUTES
        recent = compared(what, moments(errors[before]), moments(errors[now]), since=since)
        stream = blocks[before.start : now.stop]
        if worsened(recent, changes(what, stream, WATCH), WATCH) is not None:
            return True
    return False


def moments(errors: np.ndarray) -> Moments:
    return Moments(n=len(errors), total=float(errors.sum()), squares=float((errors**2).sum()))


RATE, ERROR = Quantity.ERROR_RATE, Quantity.ABSOLUTE_ERROR
KINDS: dict[tuple[str, str], Callable[[int], bool]] = {
    ("prediction drift", "a label and three probabilities"): partial(prediction_drift, classified),
    ("prediction drift", "one number, log-normal"): partial(prediction_drift, scored),
    ("performance", "2 % of the labels wrong"): partial(performance, RATE, partial(wrong, 0.02)),
    ("performance", "10 %"): partial(performance, RATE, partial(wrong, 0.1)),
    ("performance", "40 %"): partial(performance, RATE, partial(wrong, 0.4)),
    ("performance", "errors log-normal, spread 0.5"): partial(
        performance, ERROR, partial(off, 0.5)
    ),
    ("performance", "spread 1.5"): partial(performance, ERROR, partial(off, 1.5)),
}


def table(replays: int) -> tuple[list[str], bool]:
    lines = [
        "| monitor | of what | weeks | looks | weeks with a false alarm | 95 % interval |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    is_good = True
    with Pool() as pool:
        for (monitor, what), has_alarm in KINDS.items():
            alarms = sum(pool.imap_unordered(has_alarm, range(replays)))
            lines.append(f"| {monitor} | {what} | {cells(alarms, replays)} |")
            is_good &= alarms / replays <= MOST_FALSE
            print(lines[-1], flush=True)
    return lines, is_good


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="write the table into the docs")
    options = parser.parse_args(namespace=Options())
    lines, are_few = table(options.replays)
    if options.write:
        write("truth-weeks", lines)
    return 0 if are_few else 1


if __name__ == "__main__":
    sys.exit(main())
