"""The XGBoost engine, for boosters in JSON or UBJSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shipway.core.tensors import Array
from shipway.engines.answers import flat
from shipway.engines.frames import by_trained_names, frame_of, matrix_of

_TO_PROBABILITIES = frozenset({"binary:logistic", "multi:softprob"})
_TO_LABELS = frozenset({"multi:softmax", "binary:hinge"})


def load_booster(path: Path) -> Any:
    """The `xgboost.Booster` in a file, whatever the file's name says about its format."""
    import xgboost

    booster = xgboost.Booster()
    # From bytes, because XGBoost believes a file's suffix.
    booster.load_model(bytearray(path.read_bytes()))
    return booster


def objective_of(booster: Any) -> str:
    """The name of the objective that it was trained for, such as `binary:logistic`."""
    name: str = json.loads(booster.save_config())["learner"]["objective"]["name"]
    return name


def classes_in(booster: Any) -> int | None:
    """How many classes it tells apart; None when it is no classifier."""
    objective = objective_of(booster)
    if objective not in _TO_PROBABILITIES | _TO_LABELS:
        return None
    parameters = json.loads(booster.save_config())["learner"]["learner_model_param"]
    return max(2, int(parameters["num_class"]))


def categorical_in(booster: Any) -> frozenset[str]:
    """The columns that it was trained on as categories."""
    kinds = booster.feature_types or []
    names = booster.feature_names or []
    return frozenset(n for n, kind in zip(names, kinds, strict=False) if kind == "c")


def rounds_in(booster: Any) -> tuple[int, int]:
    """The rounds that answer: up to the best one for models of the scikit-learn wrapper, else all.

    XGBoost's own wrapper does the same; its mark is the attribute `scikit_learn`.
    """
    attributes = booster.attributes()
    best = attributes.get("best_iteration")
    return (0, int(best) + 1) if best is not None and "scikit_learn" in attributes else (0, 0)


class XgboostEngine:
    """A booster. Thread-safe: it predicts in place, which XGBoost allows from several threads."""

    def __init__(self, booster: Any, *, threads: int = 1) -> None:
        """`threads` are XGBoost's own."""
        booster.set_param({"nthread": threads})
        self._booster = booster
        self._names = booster.feature_names
        self._categorical = categorical_in(booster)
        self._rounds = rounds_in(booster)
        self._classes = classes_in(booster)
        self._gives_labels = objective_of(booster) in _TO_LABELS

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """`label` and `probabilities`, or `prediction`, as the objective says."""
        raw = self._booster.inplace_predict(
            self._features(inputs), iteration_range=self._rounds, validate_features=False
        )
        if self._classes is None:
            return {"prediction": flat(raw)}
        if self._gives_labels:
            return {"label": flat(raw).astype(np.int64)}
        return _classified(raw)

    def _features(self, inputs: Mapping[str, Array]) -> Any:
        inputs = by_trained_names(inputs, self._names)
        names = self._names if self._names and self._names[0] in inputs else tuple(inputs)
        if self._categorical:
            return frame_of(inputs, names, categorical=self._categorical)
        return matrix_of({name: inputs[name] for name in names}).astype(np.float32, copy=False)


def _classified(raw: Array) -> dict[str, Array]:
    probabilities = raw if raw.ndim == 2 else np.stack([1 - raw, raw], axis=1)
    # The first of two equal classes, as XGBoost's wrapper has it.
    label = np.argmax(probabilities, axis=1).astype(np.int64)
    return {"label": label, "probabilities": probabilities.astype(np.float32, copy=False)}
