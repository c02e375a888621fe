"""Making features and thresholds of trees meet in a graph as they do in the original.

A feature that lies on a threshold goes left or right by its last bit.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from shipway.core.tensors import Array
from shipway.engines.sklearn import estimators_in


def rounds_features(model: Any) -> bool:
    """Whether a pipeline computes features in FP64 and hands them to trees that round them to FP32.

    A feature that lies on a threshold, as the whole numbers between two splits do, then goes left or
    right by its last bit, so the graph has to compute in FP64 and round where the original does.
    """
    steps = getattr(model, "steps", None)
    return steps is not None and len(steps) > 1 and _is_of_trees(steps[-1][1])


def with_rounding(model: Any) -> Any:
    """The pipeline, with a step before its trees that rounds features to FP32; others unchanged."""
    if not rounds_features(model):
        return model
    from skl2onnx.sklapi import CastTransformer

    changed = copy.copy(model)
    rounding = ("shipway_round", CastTransformer(dtype=np.float32))
    changed.steps = [*model.steps[:-1], rounding, model.steps[-1]]
    return changed


def with_thresholds_below(model: Any) -> Any:
    """The model, with the FP64 thresholds of histogram boosting rounded down to FP32.

    An FP32 feature is at most the threshold exactly when it is at most the rounded one; rounding to
    nearest, as the converter does, may put the threshold below a feature that lies on it.
    """
    if not any(hasattr(part, "_predictors") for part in estimators_in(model)):
        return model
    changed = copy.deepcopy(model)
    for part in estimators_in(changed):
        for predictor in (p for stage in getattr(part, "_predictors", ()) for p in stage):
            predictor.nodes["num_threshold"] = _below(predictor.nodes["num_threshold"])
    return changed


def _below(values: Array) -> Array:
    single = values.astype(np.float32)
    lower = np.nextafter(single, np.float32(-np.inf))
    return np.where(single.astype(np.float64) > values, lower, single).astype(np.float64)


def _is_of_trees(model: Any) -> bool:
    if type(model).__module__.partition(".")[0] == "xgboost":
        return True
    # HistGradientBoosting compares in FP64.
    ensemble = getattr(model, "estimators_", None) is not None and hasattr(model, "max_depth")
    return hasattr(model, "tree_") or ensemble
