"""scikit-learn estimators and pipelines as ONNX graphs, by skl2onnx."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from shipway.bundles.formats.graphs import (
    MATRIX,
    TARGET_OPSET,
    finished,
    matrix_feed,
    matrix_width,
)
from shipway.bundles.formats.port import CannotCompile, CompiledOnnx, OpenArtifact, Sample
from shipway.bundles.formats.sklearn_converters import converters, register_boosters
from shipway.bundles.formats.sklearn_nulls import with_text_nulls
from shipway.bundles.formats.sklearn_rounding import (
    rounds_features,
    with_rounding,
    with_thresholds_below,
)
from shipway.bundles.parity import agrees
from shipway.core.bundles import Feed
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.engines.sklearn import estimators_in


def compile_estimator(
    artifact: OpenArtifact, signature: Signature, sample: Sample | None
) -> CompiledOnnx:
    """The graph in the precision that agrees with the estimator, FP32 where that is enough.

    Raises:
        CannotCompile: no converter knows a part of it, or the converters are not installed.
    """
    first, second = DataType.FP32, DataType.FP64
    if rounds_features(artifact.model):
        first, second = second, first
    preferred = _compiled(artifact, signature, first)
    if agrees(artifact, preferred, signature, sample):
        return preferred
    try:
        other = _compiled(artifact, signature, second)
    except CannotCompile:
        return preferred
    return other if agrees(artifact, other, signature, sample) else preferred


def _compiled(artifact: OpenArtifact, signature: Signature, real: DataType) -> CompiledOnnx:
    model = artifact.model
    if any(f.nullable and f.dtype is DataType.STRING for f in signature.inputs):
        model = with_text_nulls(model)
    model = with_rounding(model) if real is DataType.FP64 else with_thresholds_below(model)
    feeds = _feeds(artifact.model, signature, real)
    graph = _converted(model, signature, feeds)
    return finished(graph, feeds=feeds, outputs=_outputs(artifact, graph))


def _feeds(model: Any, signature: Signature, real: DataType) -> tuple[Feed, ...]:
    if signature.layout is Layout.COLUMNS and _takes_columns(model, signature):
        return tuple(_column_feed(field, real) for field in signature.inputs)
    return (matrix_feed(signature, real),)


def _takes_columns(model: Any, signature: Signature) -> bool:
    """Whether columns are picked by name, or some are not numbers."""
    if any(not field.dtype.is_numeric for field in signature.inputs):
        return True
    return any(hasattr(part, "transformers_") for part in estimators_in(model))


def _column_feed(field: Field, real: DataType) -> Feed:
    # Integers go as reals: converters refuse imputers and scalers of integers.
    dtype = real if field.dtype.is_float or field.dtype.is_integer else field.dtype
    return Feed(graph_input=field.name, dtype=dtype.value, columns=(field.name,))


def _converted(model: Any, signature: Signature, feeds: tuple[Feed, ...]) -> Any:
    try:
        from skl2onnx import convert_sklearn
    except ImportError as exc:
        raise CannotCompile(
            "Package `skl2onnx` is not installed; `pip install skl2onnx` makes ONNX serving possible."
        ) from exc
    types = [(feed.graph_input, _tensor_type(feed, signature)) for feed in feeds]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            register_boosters(model)
            return convert_sklearn(
                model,
                name="model",
                initial_types=types,
                target_opset=TARGET_OPSET,
                options={id(part): options for part, options in _options(model)},
                custom_conversion_functions=converters(),
            )
        except Exception as exc:
            raise CannotCompile(
                f"skl2onnx cannot convert it: {type(exc).__name__}: {_first_line(exc)}"
            ) from exc


def _options(model: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Probabilities as one matrix, and not as a sequence of maps."""
    from sklearn.base import is_classifier

    for part in estimators_in(model):
        if is_classifier(part) and hasattr(part, "predict_proba"):
            yield part, {"zipmap": False}
        elif is_classifier(part):
            yield part, {"nocl": False}


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [""])[0][:300]


def _tensor_type(feed: Feed, signature: Signature) -> Any:
    from skl2onnx.common import data_types

    kinds = {
        DataType.FP32: data_types.FloatTensorType,
        DataType.FP64: data_types.DoubleTensorType,
        DataType.INT64: data_types.Int64TensorType,
        DataType.BOOL: data_types.BooleanTensorType,
        DataType.STRING: data_types.StringTensorType,
    }
    kind = kinds.get(DataType(feed.dtype))
    if kind is None:
        raise CannotCompile(f"Column `{feed.graph_input}` has dtype {feed.dtype}.")
    width = matrix_width(signature) if feed.graph_input == MATRIX else 1
    return kind([None, width])


def _outputs(artifact: OpenArtifact, graph: Any) -> dict[str, str]:
    names = [item.name for item in graph.graph.output]
    match artifact.task:
        case "classification":
            wanted = (
                ["label", "probabilities"]
                if hasattr(artifact.model, "predict_proba")
                else ["label"]
            )
        case "clustering":
            wanted = ["label"]
        case "transformation":
            wanted = ["features"]
        case _:
            wanted = ["prediction"]
    if len(names) < len(wanted):
        raise CannotCompile(f"The graph gives {names}, and {wanted} are needed.")
    return dict(zip(wanted, names, strict=False))
