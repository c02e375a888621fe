"""The domain classifier: learns to tell two windows apart, and says by which columns it does.

It sees what no comparison of single columns can: a correlation that broke. The one place of monitoring that
imports scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
FOLDS = 5
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

    Rows are held out by blocks of time: neighbours repeat each other, and would be recognised.
    """
    rules = rules or SeparationRules()
    fewest = min(len(baseline.values), len(current.values))
    if fewest < rules.minimum_rows or not baseline.names:
        words = f"{fewest} rows; it needs {rules.minimum_rows} of either window"
        return Separation(verdict=Verdict.TOO_LITTLE_DATA, words=words)
    values = np.vstack([baseline.values, current.values])
    values[np.isinf(values)] = np.nan
    is_current = np.repeat([False, True], [len(baseline.values), len(current.values)])
    fold = np.concatenate([_folds(len(baseline.values)), _folds(len(current.values))])
    folds, falls = [], []
    for one, fall in _held_out(values, is_current, fold, baseline):
        folds.append(one)
        falls.append(fall)
    importance = dict(zip(baseline.names, np.mean(falls, axis=0).tolist(), strict=True))
    return separation(folds, importance, rules=rules)


def _folds(rows: int) -> Array:
    """The fold of each row: blocks of time take turns."""
    return (np.arange(rows) * BLOCKS // rows) % FOLDS


def _held_out(
    values: Array, is_current: Array, fold: Array, rows: Rows
) -> Iterator[tuple[Fold, Array]]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from threadpoolctl import threadpool_limits

    # With threads that wait busily for each other, a loaded machine takes a hundred times as long.
    threadpool_limits(1)
    random = np.random.default_rng(SEED)
    for number in range(FOLDS):
        out = fold == number
        model = HistGradientBoostingClassifier(
            max_iter=40,
            max_leaf_nodes=15,
            min_samples_leaf=40,
            early_stopping=False,
            categorical_features=np.array(rows.is_category),
            random_state=SEED,
        ).fit(values[~out], is_current[~out])
        truth, tried = is_current[out], values[out]
        auc = float(roc_auc_score(truth, model.predict_proba(tried)[:, 1]))
        falls = np.zeros(values.shape[1])
        for column in range(values.shape[1]):
            shuffled = tried.copy()
            shuffled[:, column] = random.permutation(shuffled[:, column])
            falls[column] = auc - roc_auc_score(truth, model.predict_proba(shuffled)[:, 1])
        one = Fold(auc=auc, baseline_rows=int((~truth).sum()), current_rows=int(truth.sum()))
        yield one, falls
