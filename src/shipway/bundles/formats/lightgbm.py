"""LightGBM: boosters in text files, and pickles of the scikit-learn wrapper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shipway.bundles.formats.packages import needs
from shipway.bundles.formats.pickle_names import looks_like_pickle, root_of
from shipway.bundles.formats.pickles import truncated
from shipway.bundles.formats.port import CannotCompile, CompiledOnnx, OpenArtifact, Sample
from shipway.bundles.formats.sklearn import load_estimator, open_estimator
from shipway.bundles.formats.trees_onnx import compile_trees, onnxmltools_function
from shipway.core.bundles import Format
from shipway.core.errors import NotAModel
from shipway.core.signature import Signature
from shipway.engines.lightgbm import (
    LightgbmEngine,
    categorical_of,
    classes_in,
    load_booster,
    trained_names,
)

_END = b"end of trees"


class LightgbmFormat:
    """What `save_model` writes, and pickles of `LGBMClassifier` and its like."""

    name = Format.LIGHTGBM

    def recognises(self, path: Path) -> bool:
        """Whether it is text that opens with `tree` and `version=`, or a pickle of LightGBM's."""
        if not path.is_file():
            return False
        if looks_like_pickle(path):
            root = root_of(path)
            return root is not None and root[0].partition(".")[0] == "lightgbm"
        with path.open("rb") as file:
            lines = file.read(64).split(b"\n")
        return lines[0].strip() == b"tree" and len(lines) > 1 and lines[1].startswith(b"version=")

    def open(self, path: Path, *, options: dict[str, Any]) -> OpenArtifact:
        """Loads the booster, or the wrapper around it."""
        needs(path, "lightgbm")
        if looks_like_pickle(path):
            return _open_pickle(path, options)
        return _open_booster(_loaded(path), frozenset({"lightgbm", "numpy"}))

    def to_onnx(
        self, artifact: OpenArtifact, signature: Signature, sample: Sample | None
    ) -> CompiledOnnx:
        """The booster as one graph, by onnxmltools."""
        booster = _booster_of(artifact.model)
        if booster.pandas_categorical:
            raise CannotCompile("It was trained on category columns, whose codes the graph lacks.")
        return compile_trees(
            artifact.model, signature, onnxmltools_function("convert_lightgbm"), zipmap=False
        )


def _open_pickle(path: Path, options: dict[str, Any]) -> OpenArtifact:
    import lightgbm

    model, modules = load_estimator(path, framework="lightgbm", options=options)
    if isinstance(model, lightgbm.Booster):
        return _open_booster(model, modules, options={"pickled": True})
    categorical = categorical_of(model.booster_, trained_names(model.booster_))
    return open_estimator(
        model, format=Format.LIGHTGBM, modules=modules, options=options, categorical=categorical
    )


def _open_booster(
    booster: Any, modules: frozenset[str], *, options: dict[str, Any] | None = None
) -> OpenArtifact:
    classes, names = classes_in(booster), trained_names(booster)
    return OpenArtifact(
        format=Format.LIGHTGBM,
        model=booster,
        engine=LightgbmEngine(booster),
        task="classification" if classes else "regression",
        feature_names=names,
        feature_count=booster.num_feature(),
        classes=tuple(range(classes)) if classes else None,
        modules=modules | ({"pandas"} if booster.pandas_categorical else set()),
        options=options or {},
        batchable=True,
    )


def _loaded(path: Path) -> Any:
    import lightgbm

    # LightGBM ends the process, or reads rubbish, when its text stops in the middle of a tree.
    if _END not in path.read_bytes():
        raise truncated(path)
    try:
        return load_booster(path)
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as exc:
        raise NotAModel(
            f"`{path}` looks like a LightGBM model and LightGBM {lightgbm.__version__} cannot read"
            f" it: {exc}.",
            next_step="Run `shipway package` in the environment that saved the model.",
        ) from exc


def _booster_of(model: Any) -> Any:
    return getattr(model, "booster_", model)
