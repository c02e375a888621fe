"""The domain classifier: learns to tell two windows apart, and says by which columns it does.

It sees what no comparison of single columns can: a correlation that broke. The one place of monitoring that
imports scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import duckdb
import msgspec
import numpy as np

from shipway.core.drift.report import Verdict
from shipway.core.drift.separation import Fold, Separation, SeparationRules, separation
from shipway.core.profile import ColumnKind
from shipway.core.tensors import Array
from shipway.monitoring.columns import Column, code_of, typed

MOST_ROWS = 4000
BLOCKS = 20
SEED = 7


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in time's order, as numbers: NaN is missing, a category is its code."""

    values: Array
    names: tuple[str, ...]
    is_category: tuple[bool, ...]


def sampled(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[Column],
    *,
    categories: dict[str, tuple[str, ...]],
    window: tuple[datetime, datetime],
) -> Rows:
    """At most 4000 rows of the predictions of a window, from its first time up to its second."""
    there = typed(connection, columns)
    listed = [
        f"{code_of(each, categories.get(each.column.name, ()))}::DOUBLE AS c{at}"
        for at, each in enumerate(there)
    ]
    since, until = window
    found = connection.execute(
        f"SELECT * FROM (SELECT epoch_us(_at) AS at, {', '.join(listed)} FROM predictions "
        f"WHERE _at >= $since AND _at < $until) USING SAMPLE reservoir({MOST_ROWS} ROWS) REPEATABLE ({SEED})",
        {"since": since, "until": until},
    ).fetchnumpy()
    order = np.argsort(found["at"], kind="stable")
    values = [np.asarray(found[f"c{at}"], dtype=np.float64)[order] for at in range(len(there))]
    return Rows(
        values=np.column_stack(values) if values else np.empty((len(order), 0)),
        names=tuple(each.column.name for each in there),
        is_category=tuple(each.column.kind is not ColumnKind.NUMERIC for each in there),
    )


def separated(baseline: Rows, current: Rows, *, rules: SeparationRules | None = None) -> Separation:
    """Whether gradient-boosted trees tell the two apart on rows that they were not taught.

    It learns from every second block of time, and is asked about those between: neighbours repeat each
    other, and would be recognised. Not cross-validated: areas of folds whose models share rows hang
    together, and their mean varies nearly twice as much as chance of one would have it.
    """
    rules = rules or SeparationRules()
    fewest = min(len(baseline.values), len(current.values))
    needed = max(rules.minimum_rows, BLOCKS)  # a block without rows of both has no area
    if fewest < needed or not baseline.names:
        words = f"{fewest} rows; it needs {needed} of either window"
        return Separation(verdict=Verdict.TOO_LITTLE_DATA, words=words)
    values = np.vstack([baseline.values, current.values])
    values[np.isinf(values)] = np.nan
    is_current = np.repeat([False, True], [len(baseline.values), len(current.values)])
    block = np.concatenate([_blocks(len(baseline.values)), _blocks(len(current.values))])
    is_out = block % 2 == 1
    model = _taught(values[~is_out], is_current[~is_out], baseline)
    tried, truth = values[is_out], is_current[is_out]
    scores = model(tried)
    return separation(
        _folds(scores, truth, block[is_out]),
        dict(zip(baseline.names, _falls(model, tried, truth, scores), strict=True)),
        rules=rules,
    )


def _blocks(rows: int) -> Array:
    return np.arange(rows) * BLOCKS // rows


def _taught(values: Array, is_current: Array, rows: Rows) -> Callable[[Array], Array]:
    """The chance of being current that the trees give to rows, once they have seen these."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    # With threads that wait busily for each other, a loaded machine takes a hundred times as long.
    threadpool_limits(1)
    model = HistGradientBoostingClassifier(
        max_iter=40,
        max_leaf_nodes=15,
        min_samples_leaf=40,
        early_stopping=False,
        categorical_features=np.array(rows.is_category),
        random_state=SEED,
    ).fit(values, is_current)
    return lambda tried: model.predict_proba(tried)[:, 1]


def _folds(scores: Array, truth: Array, block: Array) -> list[Fold]:
    """The areas of the blocks that were held out, each of rows of the same blocks of either window."""
    return [
        Fold(
            auc=_area(scores[block == each], truth[block == each]),
            baseline_rows=int((~truth[block == each]).sum()),
            current_rows=int(truth[block == each].sum()),
        )
        for each in np.unique(block)
    ]


def _falls(
    model: Callable[[Array], Array], values: Array, truth: Array, scores: Array
) -> Iterator[float]:
    """By how much the area falls when a column is shuffled, of each column."""
    random, whole = np.random.default_rng(SEED), _area(scores, truth)
    for column in range(values.shape[1]):
        shuffled = values.copy()
        shuffled[:, column] = random.permutation(shuffled[:, column])
        yield whole - _area(model(shuffled), truth)


def _area(scores: Array, truth: Array) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores))
