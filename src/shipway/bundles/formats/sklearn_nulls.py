"""Missing texts on the way to ONNX, whose string tensors hold no null."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from shipway.core.tensors import Array
from shipway.engines.onnx import NULL_TEXT
from shipway.engines.sklearn import estimators_in


def with_text_nulls(model: Any) -> Any:
    """A copy of the estimator that takes `NULL_TEXT` where the original takes None or NaN.

    Imputers and encoders of texts are changed; the converters then write the mark into the graph.
    """
    changed = copy.deepcopy(model)
    for part in estimators_in(changed):
        if _imputes_text(part):
            part.missing_values = NULL_TEXT
        if hasattr(part, "categories_"):
            part.categories_ = [_marked(categories) for categories in part.categories_]
    return changed


class _Null(float):
    """A NaN whose text is `NULL_TEXT`: converters ask for both."""

    def __str__(self) -> str:
        return NULL_TEXT


def _imputes_text(part: Any) -> bool:
    statistics = getattr(part, "statistics_", None)
    return statistics is not None and np.asarray(statistics).dtype == object


def _marked(categories: Array) -> Array:
    if categories.dtype != object:
        return categories
    marked = categories.copy()
    for index, category in enumerate(categories):
        if category is None or category != category:
            marked[index] = _Null("nan")
    return marked
