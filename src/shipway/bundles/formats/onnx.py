"""ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shipway.bundles.formats.graphs import without_maps
from shipway.bundles.formats.packages import needs
from shipway.bundles.formats.pickles import truncated
from shipway.bundles.formats.port import CompiledOnnx, OpenArtifact, Sample
from shipway.bundles.formats.protobuf import ends_early, looks_like_onnx
from shipway.core.bundles import Feed, Format
from shipway.core.errors import InvalidArtifact, NotAModel
from shipway.core.signature import Field, Layout, Signature
from shipway.engines.onnx import OnnxEngine, graph_type, open_session


class OnnxFormat:
    """What any exporter to ONNX writes, in one file."""

    name = Format.ONNX

    def recognises(self, path: Path) -> bool:
        """Whether it is a protobuf message with the fields of an ONNX model."""
        return path.is_file() and looks_like_onnx(path)

    def open(self, path: Path, *, options: dict[str, Any]) -> OpenArtifact:
        """Loads it into ONNX Runtime; the graph is the signature."""
        needs(path, "onnxruntime")
        if ends_early(path):
            raise truncated(path)
        graph = path.read_bytes()
        session = _session(path, graph)
        if any(graph_type(item.type) is None for item in session.get_outputs()):
            graph = without_maps(graph)
            session = _session(path, graph)
        signature = _signature(path, session)
        return OpenArtifact(
            format=self.name,
            model=graph,
            engine=OnnxEngine(graph, signature=signature),
            signature=signature,
            modules=frozenset({"onnxruntime", "numpy"}),
            batchable=_batchable(session),
        )

    def to_onnx(
        self, artifact: OpenArtifact, signature: Signature, sample: Sample | None
    ) -> CompiledOnnx:
        """The artifact itself; a sequence of maps at its end has become a matrix."""
        own = artifact.signature or signature
        feeds = (
            Feed(graph_input=f.name, dtype=f.dtype.value, columns=(f.name,)) for f in own.inputs
        )
        outputs = {name: name for name in own.output_names()}
        return CompiledOnnx(graph=artifact.model, feeds=tuple(feeds), outputs=outputs)


def _session(path: Path, graph: bytes) -> Any:
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    try:
        return open_session(graph)
    except (errors.InvalidProtobuf, errors.InvalidGraph) as exc:
        raise NotAModel(
            f"`{path}` looks like an ONNX model and is damaged: {_reason(exc)}",
            next_step="Export it again, and check it with `onnx.checker.check_model`.",
        ) from exc
    except (errors.Fail, errors.NotImplemented, errors.InvalidArgument, errors.NoSuchFile) as exc:
        raise InvalidArtifact(
            f"ONNX Runtime cannot load `{path}`: {_reason(exc)}",
            next_step="Export it with an older opset, and with its weights in the same file.",
        ) from exc


def _reason(exc: Exception) -> str:
    return str(exc).strip().splitlines()[0][:300]


def _signature(path: Path, session: Any) -> Signature:
    return Signature(
        layout=Layout.TENSORS,
        inputs=tuple(_field(path, item) for item in session.get_inputs()),
        outputs=tuple(_field(path, item) for item in session.get_outputs()),
        batchable=_batchable(session) is not False,
    )


def _field(path: Path, item: Any) -> Field:
    dtype = graph_type(item.type)
    if dtype is None:
        raise InvalidArtifact(
            f"`{item.name}` of `{path}` is a `{item.type}`, which is no plain tensor.",
            next_step="Export the model with tensors only.",
        )
    shape = tuple(size if isinstance(size, int) else -1 for size in item.shape)
    return Field(name=item.name, dtype=dtype, shape=shape)


def _batchable(session: Any) -> bool | None:
    """True when all first dimensions have one name; False when one is fixed; else None."""
    firsts = [item.shape[:1] for item in (*session.get_inputs(), *session.get_outputs())]
    if any(not first or isinstance(first[0], int) for first in firsts):
        return False
    names = {first[0] for first in firsts}
    return True if len(names) == 1 and None not in names else None
