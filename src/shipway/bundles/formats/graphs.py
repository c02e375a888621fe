"""Finishing ONNX graphs: the same model always gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shipway.bundles.formats.port import CannotCompile, CompiledOnnx
from shipway.core.bundles import Feed
from shipway.core.errors import MissingDependency
from shipway.core.signature import Layout, Signature
from shipway.core.tensors import DataType

TARGET_OPSET = {"": 18, "ai.onnx.ml": 3}
"""Old enough for every ONNX Runtime that the core install accepts."""

MATRIX = "X"
"""The graph input that takes all features at once."""

_NEWEST_IR = 9


def finished(model: Any, *, feeds: Sequence[Feed], outputs: Mapping[str, str]) -> CompiledOnnx:
    """The graph without anything that differs between runs (names, producers, texts)."""
    model.producer_name = model.producer_version = model.domain = model.doc_string = ""
    model.model_version = 0
    model.ir_version = min(model.ir_version, _NEWEST_IR)
    del model.metadata_props[:]
    model.graph.name = "model"
    model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
    for output in model.graph.output:
        # Some converters write the 1 of their own trial run where the rows belong.
        for rows in output.type.tensor_type.shape.dim[:1]:
            rows.Clear()
    return CompiledOnnx(
        graph=model.SerializeToString(deterministic=True),
        feeds=tuple(feeds),
        outputs=dict(outputs),
    )


def numeric_columns(signature: Signature) -> tuple[str, ...]:
    """The inputs that can be stacked into one matrix.

    Raises:
        CannotCompile: an input is text, or there are several tensors.
    """
    for field in signature.inputs:
        if not field.dtype.is_numeric:
            raise CannotCompile(f"Column `{field.name}` is {field.dtype}, not a number.")
    if signature.layout is Layout.TENSORS and len(signature.inputs) > 1:
        raise CannotCompile("The model takes several tensors.")
    return signature.input_names()


def matrix_feed(signature: Signature, dtype: DataType) -> Feed:
    """All inputs, stacked in order, as one graph input."""
    return Feed(graph_input=MATRIX, dtype=dtype.value, columns=numeric_columns(signature))


def matrix_width(signature: Signature) -> int | None:
    """How many features the matrix has; None when the signature leaves it open."""
    if signature.layout is Layout.COLUMNS:
        return len(signature.inputs)
    shape = signature.inputs[0].shape
    return shape[1] if len(shape) == 2 and shape[1] > 0 else None


def without_maps(graph: bytes) -> bytes:
    """The graph with each sequence of maps (`ZipMap`, probabilities by class) as a plain matrix.

    Raises:
        MissingDependency: package `onnx`, which this needs, is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError as exc:
        raise MissingDependency(
            "The ONNX model gives a sequence of maps, which only package `onnx` can take out.",
            next_step="Run `pip install onnx`, or export with `zipmap=False`.",
            package="onnx",
        ) from exc
    model = onnx.load_from_string(graph)
    outputs = {item.name: item for item in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "ZipMap":
            _be_identity(node)
            tensor = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [None, None])
            outputs[node.output[0]].type.CopyFrom(tensor)
    cleared: bytes = model.SerializeToString(deterministic=True)
    return cleared


def _be_identity(node: Any) -> None:
    node.op_type, node.domain = "Identity", ""
    del node.attribute[:]
