"""The engine of a bundle: picked by what is served and by the format of the original."""

from __future__ import annotations

from pathlib import Path

from shipway.core.bundles import Content, Served
from shipway.core.errors import BundleCorrupt, EnvironmentFailed
from shipway.core.outputs import engine_signature
from shipway.engines.original import Original, original_engine
from shipway.engines.port import Engine


def load_engine(directory: Path, content: Content, *, threads: int = 1) -> Engine:
    """The engine that answers for the bundle in `directory`; may block for seconds.

    Raises:
        EnvironmentFailed: this interpreter lacks the framework, which is named.
        BundleCorrupt: ONNX is served and the manifest describes no ONNX form.
    """
    try:
        if content.served is Served.ONNX:
            return _onnx(directory, content, threads=threads)
        return original_engine(
            Original(
                path=directory / content.artifact,
                format=content.format,
                signature=content.signature,
                options=content.options,
                threads=threads,
            )
        )
    except ModuleNotFoundError as exc:
        raise EnvironmentFailed(
            f"The model's format `{content.format}` needs module `{exc.name}`, which this"
            " interpreter cannot import.",
            next_step="Add it to the model's environment lock, and package the model again.",
            module=exc.name,
        ) from exc


def _onnx(directory: Path, content: Content, *, threads: int) -> Engine:
    from shipway.engines.onnx import OnnxEngine

    if content.onnx is None:
        raise BundleCorrupt(
            f"The bundle in `{directory}` says that ONNX is served and holds no ONNX form.",
            next_step="Package the model again.",
        )
    signature = engine_signature(content.signature, content.config)
    return OnnxEngine.of_form(directory, content.onnx, signature=signature, threads=threads)
