"""The LightGBM engine, for boosters in LightGBM's text files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shipway.core.tensors import Array
from shipway.engines.answers import flat
from shipway.engines.frames import by_trained_names, frame_of, matrix_of

_CLASSIFIES = frozenset({"binary", "multiclass", "multiclassova"})


def load_booster(path: Path) -> Any:
    """The `lightgbm.Booster` in a text file."""
    import lightgbm

    return lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))


def header_of(text: str) -> dict[str, str]:
    """The `key=value` lines that open a model's text."""
    lines = text.partition("\nTree=")[0].splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def objective_of(booster: Any) -> str:
    """The name of the objective that it was trained for, such as `binary`."""
    return header_of(booster.model_to_string(num_iteration=1)).get("objective", "").split(" ")[0]


def classes_in(booster: Any) -> int | None:
    """How many classes it tells apart; None when it is no classifier."""
    if objective_of(booster) not in _CLASSIFIES:
        return None
    header = header_of(booster.model_to_string(num_iteration=1))
    return max(2, int(header.get("num_class", "1")))


def trained_names(booster: Any) -> tuple[str, ...] | None:
    """The columns that it was trained on; None when LightGBM made the names up."""
    names = tuple(booster.feature_name())
    return None if names == tuple(f"Column_{i}" for i in range(len(names))) else names


def categorical_of(booster: Any, names: tuple[str, ...] | None) -> frozenset[str]:
    """The columns that were of dtype category; LightGBM keeps their categories in order."""
    if not booster.pandas_categorical or names is None:
        return frozenset()
    infos = header_of(booster.model_to_string(num_iteration=1)).get("feature_infos", "").split(" ")
    # `[low:high]` describes a number, `3:1:2` the codes of a category.
    pairs = zip(names, infos, strict=False)
    return frozenset(name for name, info in pairs if ":" in info and not info.startswith("["))


class LightgbmEngine:
    """A booster. Not thread-safe: LightGBM locks while it predicts, so threads gain nothing."""

    def __init__(self, booster: Any, *, threads: int = 1) -> None:
        """`threads` are LightGBM's own."""
        self._booster = booster
        self._names = trained_names(booster)
        self._categorical = categorical_of(booster, self._names)
        self._classes = classes_in(booster)
        self._threads = threads

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """`label` and `probabilities`, or `prediction`, as the objective says."""
        raw = self._booster.predict(self._features(inputs), num_threads=self._threads)
        if self._classes is None:
            return {"prediction": flat(raw)}
        probabilities = raw if raw.ndim == 2 else np.stack([1 - raw, raw], axis=1)
        label = np.argmax(probabilities, axis=1).astype(np.int64)
        return {"label": label, "probabilities": probabilities.astype(np.float32)}

    def _features(self, inputs: Mapping[str, Array]) -> Any:
        inputs = by_trained_names(inputs, self._names)
        names = self._names if self._names and self._names[0] in inputs else tuple(inputs)
        if self._categorical:
            return frame_of(inputs, names, categorical=self._categorical)
        return matrix_of({name: inputs[name] for name in names})
