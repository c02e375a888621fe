"""XGBoost: boosters in JSON or UBJSON files, and pickles of the scikit-learn wrapper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from shipway.bundles.formats.packages import needs
from shipway.bundles.formats.pickle_names import looks_like_pickle, root_of
from shipway.bundles.formats.pickles import truncated
from shipway.bundles.formats.port import CannotCompile, CompiledOnnx, OpenArtifact, Sample
from shipway.bundles.formats.sklearn import load_estimator, open_estimator
from shipway.bundles.formats.trees_onnx import compile_trees, onnxmltools_function
from shipway.bundles.formats.ubjson import is_whole
from shipway.core.bundles import Format
from shipway.core.errors import InvalidArtifact, NotAModel
from shipway.core.signature import Signature
from shipway.engines.xgboost import (
    XgboostEngine,
    categorical_in,
    classes_in,
    load_booster,
    rounds_in,
)

_HEAD_BYTES = 4096


class XgboostFormat:
    """What `save_model` writes, and pickles of `XGBClassifier` and its like."""

    name = Format.XGBOOST

    def recognises(self, path: Path) -> bool:
        """Whether it is JSON or UBJSON with a `learner`, or a pickle of XGBoost's."""
        if not path.is_file():
            return False
        if looks_like_pickle(path):
            root = root_of(path)
            return root is not None and root[0].partition(".")[0] == "xgboost"
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        return head[:1] == b"{" and b"learner" in head

    def open(self, path: Path, *, options: dict[str, Any]) -> OpenArtifact:
        """Loads the booster, or the wrapper around it."""
        needs(path, "xgboost")
        if looks_like_pickle(path):
            return _open_pickle(path, options)
        return _open_booster(_loaded(path), frozenset({"xgboost", "numpy"}))

    def to_onnx(
        self, artifact: OpenArtifact, signature: Signature, sample: Sample | None
    ) -> CompiledOnnx:
        """The booster as one graph, by onnxmltools."""
        booster = _booster_of(artifact.model)
        if categorical_in(booster):
            raise CannotCompile("It was trained on category columns, whose codes the graph lacks.")
        begin, end = rounds_in(booster)
        plain = booster[begin:end] if end else booster.copy()
        # The converter wants the names `f0`, `f1` …
        plain.feature_names = plain.feature_types = None
        return compile_trees(plain, signature, onnxmltools_function("convert_xgboost"))


def _open_pickle(path: Path, options: dict[str, Any]) -> OpenArtifact:
    import xgboost

    model, modules = load_estimator(path, framework="xgboost", options=options)
    if isinstance(model, xgboost.Booster):
        return _open_booster(model, modules, options={"pickled": True})
    categorical = _checked_categories(path, categorical_in(model.get_booster()))
    return open_estimator(
        model, format=Format.XGBOOST, modules=modules, options=options, categorical=categorical
    )


def _open_booster(
    booster: Any, modules: frozenset[str], *, options: dict[str, Any] | None = None
) -> OpenArtifact:
    classes = classes_in(booster)
    categorical = categorical_in(booster)
    return OpenArtifact(
        format=Format.XGBOOST,
        model=booster,
        engine=XgboostEngine(booster),
        task="classification" if classes else "regression",
        feature_names=tuple(booster.feature_names) if booster.feature_names else None,
        feature_count=booster.num_features(),
        classes=tuple(range(classes)) if classes else None,
        modules=modules | ({"pandas"} if categorical else set()),
        options=options or {},
        batchable=True,
    )


def _loaded(path: Path) -> Any:
    import xgboost

    # XGBoost reads past the end of a shortened file, and takes the process with it.
    if not _is_whole(path.read_bytes()):
        raise truncated(path)
    try:
        booster = load_booster(path)
    except xgboost.core.XGBoostError as exc:
        raise NotAModel(
            f"`{path}` looks like an XGBoost model and XGBoost {xgboost.__version__} cannot read"
            f" it: {str(exc).strip().splitlines()[-1]}",
            next_step="Run `shipway package` in the environment that saved the model.",
        ) from exc
    _checked_categories(path, categorical_in(booster))
    return booster


def _is_whole(content: bytes) -> bool:
    if content[1:2] not in (b'"', b" ", b"\n", b"\r", b"\t"):
        return is_whole(content)
    try:
        msgspec.json.decode(content, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True


def _checked_categories(path: Path, categorical: frozenset[str]) -> frozenset[str]:
    import xgboost

    version = tuple(int(part) for part in xgboost.__version__.split(".")[:2])
    if categorical and version < (3, 1):
        raise InvalidArtifact(
            f"`{path}` was trained on category columns ({', '.join(sorted(categorical))}), whose"
            f" categories XGBoost {xgboost.__version__} does not keep in the model.",
            next_step="Train it with XGBoost 3.1 or newer, or encode the categories in a pipeline.",
        )
    return categorical


def _booster_of(model: Any) -> Any:
    return model.get_booster() if hasattr(model, "get_booster") else model
