"""Giving tree models in FP64 graphs the FP32 features that they were trained on."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np


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


def _is_of_trees(model: Any) -> bool:
    if type(model).__module__.partition(".")[0] == "xgboost":
        return True
    # HistGradientBoosting compares in FP64.
    ensemble = getattr(model, "estimators_", None) is not None and hasattr(model, "max_depth")
    return hasattr(model, "tree_") or ensemble
