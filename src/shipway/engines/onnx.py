"""The ONNX engine: the shortest way from arrays to answers, used inside gateways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from shipway.core.bundles import Feed, OnnxForm
from shipway.core.signature import Field, Signature
from shipway.core.tensors import NUMPY_OF, Array, DataType

NULL_TEXT = "\x1a"
"""What a null becomes in a string tensor, which cannot hold None (U+001A is Unicode's SUBSTITUTE)."""

_Fill = Callable[[Mapping[str, Array]], Array]
_Convert = Callable[[Array], Array]

_TYPES = {
    "tensor(bool)": DataType.BOOL,
    "tensor(uint8)": DataType.UINT8,
    "tensor(uint16)": DataType.UINT16,
    "tensor(uint32)": DataType.UINT32,
    "tensor(uint64)": DataType.UINT64,
    "tensor(int8)": DataType.INT8,
    "tensor(int16)": DataType.INT16,
    "tensor(int32)": DataType.INT32,
    "tensor(int64)": DataType.INT64,
    "tensor(float16)": DataType.FP16,
    "tensor(float)": DataType.FP32,
    "tensor(double)": DataType.FP64,
    "tensor(string)": DataType.STRING,
}


def graph_type(name: str) -> DataType | None:
    """The data type of ONNX Runtime's type name, `tensor(float)`; None when it is no plain tensor."""
    return _TYPES.get(name)


def open_session(graph: Path | bytes, *, threads: int = 1) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU that uses so many threads, one node at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # What fails is raised; the log would repeat it.
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = str(graph) if isinstance(graph, Path) else graph
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class OnnxEngine:
    """A graph in ONNX Runtime. Thread-safe: `run` may be called from several threads at once.

    Everything that does not depend on the request (names, feeds, casts, shapes) is resolved here,
    so that `run` builds one dict, calls the session and names its answers.
    """

    def __init__(
        self,
        graph: Path | bytes,
        *,
        signature: Signature,
        feeds: Sequence[Feed] = (),
        outputs: Mapping[str, str] | None = None,
        threads: int = 1,
    ) -> None:
        """Without `feeds` and `outputs`, the graph's own names are the signature's.

        Inputs whose dtype in the signature is that of the graph are passed on untouched.
        """
        session = open_session(graph, threads=threads)
        wanted = dict(outputs) if outputs else {o.name: o.name for o in session.get_outputs()}
        self._run = session.run
        self._names = tuple(wanted)
        self._graph_outputs = list(wanted.values())
        self._fills = _fills(session, feeds or _identity(session), signature)
        self._single = _untouched(self._fills)
        self._converts = _converts(session, wanted, signature)

    @classmethod
    def of_form(
        cls, directory: Path, form: OnnxForm, *, signature: Signature, threads: int = 1
    ) -> OnnxEngine:
        """The engine of a bundle's ONNX form; `directory` is the bundle's."""
        return cls(
            directory / form.path,
            signature=signature,
            feeds=form.feeds,
            outputs=form.outputs,
            threads=threads,
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every output for these inputs; raises what ONNX Runtime raises."""
        single = self._single
        if single is not None:
            values = self._run(self._graph_outputs, {single[0]: inputs[single[1]]})
        else:
            feed = {name: fill(inputs) for name, fill in self._fills.items()}
            values = self._run(self._graph_outputs, feed)
        for position, convert in self._converts:
            values[position] = convert(values[position])
        return dict(zip(self._names, values, strict=True))


class _Pass:
    """Hands one input on as it is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, inputs: Mapping[str, Array]) -> Array:
        return inputs[self.name]


def _untouched(fills: Mapping[str, _Fill]) -> tuple[str, str] | None:
    """Graph input and input name, when the graph has one input that is handed on as it is."""
    if len(fills) != 1:
        return None
    (graph_input, fill), *_ = fills.items()
    return (graph_input, fill.name) if isinstance(fill, _Pass) else None


def _identity(session: Any) -> list[Feed]:
    return [
        Feed(graph_input=item.name, dtype=_TYPES[item.type], columns=(item.name,))
        for item in session.get_inputs()
    ]


def _fills(session: Any, feeds: Sequence[Feed], signature: Signature) -> dict[str, _Fill]:
    fields = {field.name: field for field in signature.inputs}
    ranks = {item.name: len(item.shape) for item in session.get_inputs()}
    return {
        feed.graph_input: _fill(feed, [fields[c] for c in feed.columns], ranks[feed.graph_input])
        for feed in feeds
    }


def _fill(feed: Feed, fields: Sequence[Field], rank: int) -> _Fill:
    dtype = NUMPY_OF[DataType(feed.dtype)]
    if len(fields) > 1:
        return _stack(feed.columns, dtype)
    field = fields[0]
    stands = rank == len(field.shape) + 1
    if DataType(feed.dtype) is DataType.STRING and field.nullable:
        return _text(field.name, shape=(-1, 1) if stands else (-1, *field.shape[1:]))
    if stands:
        return _standing(field.name, dtype)
    return _Pass(field.name) if NUMPY_OF[field.dtype] == dtype else _cast(field.name, dtype)


def _stack(names: Sequence[str], dtype: np.dtype[Any]) -> _Fill:
    pick, width = itemgetter(*names), len(names)

    def fill(inputs: Mapping[str, Array]) -> Array:
        flat = np.concatenate(pick(inputs), dtype=dtype, casting="unsafe")
        return np.ascontiguousarray(flat.reshape(width, -1).T)

    return fill


def _standing(name: str, dtype: np.dtype[Any]) -> _Fill:
    return lambda inputs: inputs[name].astype(dtype, copy=False).reshape(-1, 1)


def _cast(name: str, dtype: np.dtype[Any]) -> _Fill:
    return lambda inputs: inputs[name].astype(dtype, copy=False)


def _text(name: str, *, shape: tuple[int, ...]) -> _Fill:
    def fill(inputs: Mapping[str, Array]) -> Array:
        array = inputs[name].reshape(shape)
        texts = array.ravel().tolist()
        if None not in texts:
            return array
        kept = [NULL_TEXT if text is None else text for text in texts]
        return np.array(kept, dtype=object).reshape(array.shape)

    return fill


def _converts(
    session: Any, wanted: Mapping[str, str], signature: Signature
) -> list[tuple[int, _Convert]]:
    fields = {field.name: field for field in signature.outputs}
    graph = {item.name: item for item in session.get_outputs()}
    found = (_convert(graph[wanted[name]], name, fields.get(name)) for name in wanted)
    return [(position, convert) for position, convert in enumerate(found) if convert is not None]


def _convert(item: Any, name: str, field: Field | None) -> _Convert | None:
    """What turns the graph's array into the signature's; None when it is that already."""
    actual = _TYPES.get(item.type)
    dtype = NUMPY_OF[field.dtype] if field is not None and actual is not field.dtype else None
    rank = len(field.shape) if field is not None else 1 if name in _FLAT else len(item.shape)
    flat = rank == 1 and len(item.shape) == 2 and item.shape[1] == 1
    if dtype is not None and flat:
        return lambda array: array.reshape(-1).astype(dtype)
    if flat:
        return lambda array: array.reshape(-1)
    if dtype is not None:
        return lambda array: array.astype(dtype)
    return None


_FLAT = frozenset({"label", "prediction"})
