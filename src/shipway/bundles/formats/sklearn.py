"""scikit-learn estimators and pipelines, in pickle or joblib files."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shipway.bundles.formats.packages import needs
from shipway.bundles.formats.pickle_names import looks_like_pickle, root_of
from shipway.bundles.formats.pickles import checked_names, unpickled
from shipway.bundles.formats.port import CompiledOnnx, OpenArtifact, Sample
from shipway.bundles.formats.sklearn_onnx import compile_estimator
from shipway.core.bundles import Format
from shipway.core.errors import InvalidArtifact, NotAModel
from shipway.core.signature import Signature
from shipway.engines.sklearn import SklearnEngine, kind_of, load_pickled, trained_names

_WRAPPERS = frozenset({"xgboost", "lightgbm"})


class SklearnFormat:
    """Pickles of anything with `predict` or `transform`, except the wrappers of other formats."""

    name = Format.SKLEARN

    def recognises(self, path: Path) -> bool:
        """Whether it is a pickle whose outermost object is not of XGBoost or LightGBM."""
        if not (path.is_file() and looks_like_pickle(path)):
            return False
        root = root_of(path)
        return root is None or root[0].partition(".")[0] not in _WRAPPERS

    def open(self, path: Path, *, options: dict[str, Any]) -> OpenArtifact:
        """Loads it, once it is known that everything it names can be imported."""
        model, modules = load_estimator(path, framework="sklearn", options=options)
        return open_estimator(model, format=self.name, modules=modules, options=options)

    def to_onnx(
        self, artifact: OpenArtifact, signature: Signature, sample: Sample | None
    ) -> CompiledOnnx:
        """The whole estimator as one graph, by skl2onnx."""
        return compile_estimator(artifact, signature, sample)


def load_estimator(
    path: Path, *, framework: str, options: dict[str, Any]
) -> tuple[Any, frozenset[str]]:
    """The pickled object, and the top-level modules that it needs.

    `options["code"]` is a directory of the person's own modules; it stays importable.
    """
    needs(path, framework)
    allow_code(options)
    found = checked_names(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = unpickled(path, load_pickled)
    _refuse_other_version(path, caught)
    if not (hasattr(model, "predict") or hasattr(model, "transform")):
        raise NotAModel(
            f"`{path}` holds a `{type(model).__name__}`, which has neither `predict` nor"
            " `transform`.",
            next_step="Save the fitted estimator itself.",
        )
    return model, found.modules | {framework, "joblib", "numpy"}


def allow_code(options: dict[str, Any]) -> None:
    """Makes the directory of `options["code"]` importable, once."""
    code = options.get("code")
    if code is not None:
        directory = str(Path(code).resolve())
        if directory not in sys.path:
            sys.path.insert(0, directory)


def open_estimator(
    model: Any,
    *,
    format: Format,  # noqa: A002 - the field's own name
    modules: frozenset[str],
    options: dict[str, Any],
    categorical: frozenset[str] = frozenset(),
) -> OpenArtifact:
    """What scikit-learn's conventions tell about a fitted estimator."""
    names = trained_names(model)
    count = getattr(model, "n_features_in_", None)
    kept: dict[str, Any] = {} if format is Format.SKLEARN else {"pickled": True}
    if "code" in options:
        kept["code"] = "code"
    return OpenArtifact(
        format=format,
        model=model,
        engine=SklearnEngine(model, categorical=categorical),
        task=kind_of(model),
        feature_names=names,
        feature_count=int(count) if count is not None else None,
        classes=classes_of(model),
        modules=modules | ({"pandas"} if names else set()),
        options=kept | ({"categorical": sorted(categorical)} if categorical else {}),
        batchable=True,
    )


def classes_of(model: Any) -> tuple[str | int | float | bool, ...] | None:
    """The labels of a classifier as plain values; None for others and for several targets."""
    classes = getattr(model, "classes_", None)
    if classes is None or isinstance(classes, list) or kind_of(model) != "classification":
        return None
    as_plain: Callable[[], list[Any]] = getattr(classes, "tolist", lambda: list(classes))
    return tuple(as_plain())


def _refuse_other_version(path: Path, caught: list[warnings.WarningMessage]) -> None:
    for item in caught:
        saved = getattr(item.message, "original_sklearn_version", None)
        if saved is not None:
            current = getattr(item.message, "current_sklearn_version", "?")
            raise InvalidArtifact(
                f"`{path}` was saved with scikit-learn {saved}, and this environment has {current};"
                " such a model may fail or give wrong answers.",
                next_step="Run `shipway package` in the environment that trained it"
                f" (`pip install scikit-learn=={saved}`).",
                saved=saved,
                current=current,
            )
