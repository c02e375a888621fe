"""XGBoost and LightGBM models as ONNX graphs, by onnxmltools."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from shipway.bundles.formats.graphs import MATRIX, finished, matrix_feed, matrix_width
from shipway.bundles.formats.port import CannotCompile, CompiledOnnx
from shipway.core.signature import Signature
from shipway.core.tensors import DataType

TREE_OPSET = 15
"""The newest main opset that all of onnxmltools' tree converters know."""

Convert = Callable[..., Any]


def compile_trees(
    model: Any, signature: Signature, convert: Convert, **options: Any
) -> CompiledOnnx:
    """The graph that one of onnxmltools' `convert_…` functions makes of a booster or its wrapper.

    Features go in as FP32, which is what XGBoost computes with.

    Raises:
        CannotCompile: the converter does not know the model, or features are no numbers.
    """
    from onnxmltools.convert.common.data_types import FloatTensorType

    feed = matrix_feed(signature, DataType.FP32)
    types = [(MATRIX, FloatTensorType([None, matrix_width(signature)]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            graph = convert(
                model, initial_types=types, name="model", target_opset=TREE_OPSET, **options
            )
        except Exception as exc:
            raise CannotCompile(f"onnxmltools cannot convert it: {exc}") from exc
    return finished(graph, feeds=(feed,), outputs=_outputs(graph))


def onnxmltools_function(name: str) -> Convert:
    """`onnxmltools.<name>`.

    Raises:
        CannotCompile: onnxmltools is not installed.
    """
    try:
        import onnxmltools
    except ImportError as exc:
        raise CannotCompile(
            "Package `onnxmltools` is not installed; `pip install onnxmltools` makes ONNX serving"
            " possible."
        ) from exc
    found: Convert = getattr(onnxmltools, name)
    return found


def _outputs(graph: Any) -> dict[str, str]:
    names = [item.name for item in graph.graph.output]
    if len(names) == 1:
        return {"prediction": names[0]}
    return {"label": names[0], "probabilities": names[1]}
