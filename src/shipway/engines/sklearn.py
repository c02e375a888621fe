"""The scikit-learn engine, for everything that follows scikit-learn's estimator interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shipway.core.tensors import Array
from shipway.engines.answers import flat, plain
from shipway.engines.frames import by_trained_names, frame_of, matrix_of

Kind = Literal["classification", "regression", "clustering", "transformation", "other"]


def load_pickled(path: Path) -> Any:
    """The object in a pickle or joblib file, compressed or not. Runs the code it names."""
    import joblib

    return joblib.load(path)


def kind_of(model: Any) -> Kind:
    """What the estimator does; outlier detectors count as clustering (they give a `label`)."""
    import sklearn.base as base

    if not (hasattr(model, "__sklearn_tags__") or hasattr(model, "_estimator_type")):
        return "other" if hasattr(model, "predict") else "transformation"
    if base.is_classifier(model):
        return "classification"
    if base.is_regressor(model):
        return "regression"
    if base.is_outlier_detector(model) or _is_clusterer(model):
        return "clustering"
    if hasattr(model, "predict"):
        return "other"
    return "transformation"


def _is_clusterer(model: Any) -> bool:
    import sklearn.base as base

    modern: Callable[[Any], bool] | None = getattr(base, "is_clusterer", None)
    if modern is not None:
        return modern(model)
    return getattr(model, "_estimator_type", None) == "clusterer"


def trained_names(model: Any) -> tuple[str, ...] | None:
    """The columns of the frame that the estimator was fitted on; None for a bare matrix."""
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return None
    found = tuple(str(name) for name in names)
    # LightGBM invents `Column_0` … for a matrix.
    invented = tuple(f"Column_{i}" for i in range(len(found)))
    return None if found == invented else found


def estimators_in(model: Any) -> Iterable[Any]:
    """The estimator and all those inside it: steps, transformers, base estimators."""
    yield model
    inner: list[Any] = []
    for name in ("steps", "transformers_", "transformer_list"):
        inner += [item[1] for item in getattr(model, name, None) or ()]
    for name in ("best_estimator_", "estimator_", "estimator", "regressor_"):
        inner.append(getattr(model, name, None))
    for child in inner:
        if hasattr(child, "get_params"):
            yield from estimators_in(child)


def null_of(model: Any) -> object:
    """What stood for a missing text when the estimator was fitted: None or NaN (the usual one)."""
    for part in estimators_in(model):
        if getattr(part, "missing_values", np.nan) is None:
            return None
        for categories in getattr(part, "categories_", ()):
            if any(category is None for category in categories):
                return None
    return np.nan


class SklearnEngine:
    """A fitted estimator. As thread-safe as the estimator's own `predict`, which most are."""

    def __init__(self, model: Any, *, categorical: frozenset[str] = frozenset()) -> None:
        """`categorical` are the columns that it was trained on as dtype category."""
        self._model = model
        self._names = trained_names(model)
        self._categorical = categorical
        self._null = null_of(model)
        self._answer = self._answerer(kind_of(model))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The answers that `docs/architecture.md` names for this kind of estimator."""
        return self._answer(self._features(inputs))

    def _features(self, inputs: Mapping[str, Array]) -> Any:
        names = self._names
        if names is None and any(a.dtype == object and a.ndim == 1 for a in inputs.values()):
            if len(inputs) == 1:
                # Text vectorisers take the texts themselves, not a frame that holds them.
                return next(iter(inputs.values()))
            names = tuple(inputs)
        if names is None:
            return matrix_of(inputs)
        inputs = by_trained_names(inputs, names)
        return frame_of(inputs, names, categorical=self._categorical, null=self._null)

    def _answerer(self, kind: Kind) -> Callable[[Any], dict[str, Array]]:
        model = self._model
        if kind == "classification":
            return self._classify if hasattr(model, "predict_proba") else self._label
        if kind == "clustering":
            return self._label
        if kind == "transformation":
            return lambda features: {"features": _dense(model.transform(features))}
        return lambda features: {"prediction": flat(model.predict(features))}

    def _label(self, features: Any) -> dict[str, Array]:
        return {"label": flat(self._model.predict(features))}

    def _classify(self, features: Any) -> dict[str, Array]:
        label = self._label(features)
        probabilities = self._model.predict_proba(features)
        # A classifier of several targets gives a list of matrices, which is no tensor.
        if isinstance(probabilities, list):
            return label
        return label | {"probabilities": plain(probabilities).astype(np.float32)}


def _dense(value: Any) -> Array:
    return plain(value.toarray() if hasattr(value, "toarray") else value)
