"""PyTorch: TorchScript files and archives of `torch.export`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from shipway.bundles.formats.archives import Archive, archive_in, is_complete
from shipway.bundles.formats.packages import needs
from shipway.bundles.formats.pickles import truncated
from shipway.bundles.formats.port import CannotCompile, CompiledOnnx, OpenArtifact, Sample
from shipway.core.bundles import Format
from shipway.core.errors import NotAModel
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.engines.torch import TorchEngine, exported_inputs, load_exported, load_script

_MODULES = frozenset({"torch", "numpy"})


class TorchscriptFormat:
    """What `torch.jit.save` writes."""

    name = Format.TORCHSCRIPT

    def recognises(self, path: Path) -> bool:
        """Whether it is a zip archive with TorchScript code."""
        return archive_in(path) is Archive.SCRIPT

    def open(self, path: Path, *, options: dict[str, Any]) -> OpenArtifact:
        """Loads the module; its signature is only known from a sample."""
        module = _loaded(path, load_script)
        return OpenArtifact(
            format=self.name, model=module, engine=TorchEngine.of_script(module), modules=_MODULES
        )

    def to_onnx(
        self, artifact: OpenArtifact, signature: Signature, sample: Sample | None
    ) -> CompiledOnnx:
        """There is none: converting TorchScript needs a trace that may change the model."""
        raise CannotCompile("TorchScript models are served as they are.")


class TorchExportFormat:
    """What `torch.export.save` writes."""

    name = Format.TORCH_EXPORT

    def recognises(self, path: Path) -> bool:
        """Whether it is a zip archive with an exported program."""
        return archive_in(path) is Archive.EXPORTED

    def open(self, path: Path, *, options: dict[str, Any]) -> OpenArtifact:
        """Loads the program, whose graph tells its signature."""
        program = _loaded(path, load_exported)
        signature = _signature(program)
        return OpenArtifact(
            format=self.name,
            model=program,
            engine=TorchEngine.of_program(program),
            signature=signature,
            modules=_MODULES,
            batchable=None if signature is None else signature.batchable,
        )

    def to_onnx(
        self, artifact: OpenArtifact, signature: Signature, sample: Sample | None
    ) -> CompiledOnnx:
        """There is none: torch's exporter is a package of its own, and not in the core."""
        raise CannotCompile("Programs of `torch.export` are served as they are.")


def _loaded(path: Path, load: Callable[[Path], Any]) -> Any:
    needs(path, "torch")
    if not is_complete(path):
        raise truncated(path)
    try:
        return load(path)
    except (RuntimeError, ValueError, KeyError, AssertionError, EOFError, OSError) as exc:
        import torch

        raise NotAModel(
            f"`{path}` is a PyTorch archive that torch {torch.__version__} cannot load:"
            f" {_last_line(exc)}",
            next_step="Run `shipway package` in the environment that saved the model.",
        ) from exc


def _last_line(exc: Exception) -> str:
    lines = [line for line in str(exc).splitlines() if line.strip()] or [type(exc).__name__]
    return lines[0][:300]


def _signature(program: Any) -> Signature | None:
    """What the graph says about its tensors; None when an input is no tensor."""
    nodes = {node.name: node for node in program.graph.nodes}
    inputs = [_field(n, nodes[n].meta.get("val")) for n in exported_inputs(program)]
    values = [_value(nodes, name) for name in program.graph_signature.user_outputs]
    outputs = [_field(f"output_{index}", value) for index, value in enumerate(values)]
    if program.call_spec.out_spec.type is dict:
        outputs = _renamed(outputs, program.call_spec.out_spec.context)
    known = [field for field in (*inputs, *outputs) if field is not None]
    if len(known) != len(inputs) + len(outputs):
        return None
    return Signature(
        layout=Layout.TENSORS,
        inputs=tuple(known[: len(inputs)]),
        outputs=tuple(known[len(inputs) :]),
        batchable=all(field.shape[:1] == (-1,) for field in known),
    )


def _value(nodes: dict[str, Any], name: Any) -> Any:
    return nodes[name].meta.get("val") if isinstance(name, str) and name in nodes else None


def _renamed(fields: Iterable[Field | None], names: Iterable[Any]) -> list[Field | None]:
    import msgspec

    return [
        None if field is None else msgspec.structs.replace(field, name=str(name))
        for field, name in zip(fields, names, strict=True)
    ]


def _field(name: str, value: Any) -> Field | None:
    if value is None or not hasattr(value, "dtype"):
        return None
    kind = _TYPES.get(str(value.dtype))
    shape = tuple(size if type(size) is int else -1 for size in value.shape)
    return None if kind is None else Field(name=name, dtype=kind, shape=shape)


_TYPES = {
    "torch.bool": DataType.BOOL,
    "torch.uint8": DataType.UINT8,
    "torch.int8": DataType.INT8,
    "torch.int16": DataType.INT16,
    "torch.int32": DataType.INT32,
    "torch.int64": DataType.INT64,
    "torch.float16": DataType.FP16,
    "torch.float32": DataType.FP32,
    "torch.float64": DataType.FP64,
}
