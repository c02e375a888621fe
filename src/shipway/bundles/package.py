"""`package`: a trained model becomes a bundle."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from shipway.bundles.environment import is_confirmed, lock_environment, overriding
from shipway.bundles.formats.detect import detect
from shipway.bundles.formats.layout import artifact_files, artifact_path
from shipway.bundles.formats.port import (
    ArtifactFormat,
    CannotCompile,
    CompiledOnnx,
    OpenArtifact,
    Sample,
)
from shipway.bundles.lineage import lineage_of
from shipway.bundles.objects import describe, save_object
from shipway.bundles.overrides import Overrides, renamed_outputs
from shipway.bundles.parity import check_parity
from shipway.bundles.profile import profile_json, profile_of
from shipway.bundles.samples import example_rows, read_sample, sample_of
from shipway.bundles.signature import Inferred, infer_signature
from shipway.bundles.writing import BundleFiles, write_bundle
from shipway.core.bundles import (
    BundleFile,
    Content,
    EnvironmentLock,
    Format,
    Lineage,
    Manifest,
    ModelConfig,
    OnnxForm,
    ParityReport,
    Provenance,
    Served,
)
from shipway.core.errors import InvalidSpec
from shipway.core.signature import Signature
from shipway.wire.open_inference import encode_request

ONNX_PATH = "onnx/model.onnx"
_LOCK, _EXAMPLES, _PROFILE = "environment.lock", "examples.json", "profile.json"


class Packaged(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was written, and its manifest."""

    directory: Path
    manifest: Manifest


class _Parts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was found out about a model, before it is written."""

    path: Path
    artifact: OpenArtifact
    overrides: Overrides
    inferred: Inferred
    signature: Signature
    compiled: CompiledOnnx | None
    parity: ParityReport
    lock: EnvironmentLock
    lineage: Lineage


def package(
    source: object,
    *,
    out: Path,
    now: datetime,
    sample: object = None,
    overrides: Overrides | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Packaged:
    """Writes the bundle of a model to `out/<hex digest>/`. Loads the model in this process.

    `source` is the path of a saved model (file or directory), or a model in memory. `sample` is a
    path, a frame, an array, a dict or a `Sample`; without one, less can be inferred and compared.
    `on_step` gets a line for each step. The same model, sample and overrides on the same machine
    give the same digest; nothing remains in `out` of a packaging that failed.

    Raises:
        InvalidArtifact: it is no model that can be packaged, and why.
        InvalidRequest, InvalidInput: the sample cannot be read or does not fit the model.
        InvalidSpec: the overrides do not fit the model.
        EnvironmentFailed: the declared requirements cannot be resolved.
        StateUnusable: `out` cannot be written.
    """
    chosen = overrides or Overrides()
    with _on_disk(source) as path:
        label = None if isinstance(source, str | Path) else describe(source)
        parts = _examined(path, chosen, sample=sample, on_step=on_step, now=now, label=label)
        on_step("Writing the bundle")
        directory, manifest = write_bundle(
            out, _files(parts), manifest_of=lambda files: _manifest(parts, files)
        )
    return Packaged(directory=directory, manifest=manifest)


@contextmanager
def _on_disk(source: object) -> Iterator[Path]:
    if isinstance(source, str | Path):
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(prefix="shipway-model-") as directory:
        yield save_object(source, Path(directory))


def _examined(
    path: Path,
    overrides: Overrides,
    *,
    sample: object,
    on_step: Callable[[str], None],
    now: datetime,
    label: str | None,
) -> _Parts:
    on_step("Reading the model")
    kind = detect(path)
    artifact = kind.open(path, options=overrides.format_options())
    on_step("Inferring the signature")
    inferred = infer_signature(artifact, _read(sample, overrides), overrides=overrides)
    _check_threshold(artifact, inferred.signature, overrides.threshold)
    on_step("Compiling to ONNX and checking parity")
    inferred, compiled, parity = _compared(kind, artifact, inferred)
    signature = renamed_outputs(inferred.signature, overrides.output_names)
    on_step("Locking the environment")
    data = Path(overrides.training_data) if overrides.training_data else None
    return _Parts(
        path=path,
        artifact=artifact,
        overrides=overrides,
        inferred=inferred,
        signature=signature,
        compiled=compiled,
        parity=parity,
        lock=lock_environment(
            artifact.modules | _engine_modules(compiled, parity),
            overriding(artifact.requirements, overrides.requirements),
        ),
        lineage=lineage_of(
            path, created_at=now, label=label, training_data=data, run_id=artifact.run_id
        ),
    )


def _engine_modules(compiled: CompiledOnnx | None, parity: ParityReport) -> frozenset[str]:
    """What a replica needs beside the original's modules, should it be the ONNX form that it runs."""
    return frozenset({"onnxruntime"} if _serves_onnx(compiled, parity) else ())


def _serves_onnx(compiled: CompiledOnnx | None, parity: ParityReport) -> bool:
    return compiled is not None and parity.holds


def _read(sample: object, overrides: Overrides) -> Sample | None:
    if sample is None:
        return None
    if isinstance(sample, str | Path):
        return read_sample(Path(sample), drop=overrides.drop)
    return sample_of(sample, drop=overrides.drop)


def _check_threshold(artifact: OpenArtifact, signature: Signature, threshold: float | None) -> None:
    if threshold is None:
        return
    is_binary = artifact.classes is not None and len(artifact.classes) == 2
    if not is_binary or "probabilities" not in signature.output_names():
        raise InvalidSpec(
            "A `threshold` needs a classifier of two classes that gives probabilities.",
            next_step="Remove `threshold`.",
            path="$.threshold",
        )


def _compared(
    kind: ArtifactFormat, artifact: OpenArtifact, inferred: Inferred
) -> tuple[Inferred, CompiledOnnx | None, ParityReport]:
    """The ONNX form and its parity, over as many nulls as it stands.

    Trees answer nulls by rules that ONNX lacks, even when they were trained without any. Where only
    a trial, and nothing that the person gave, says that nulls come, ONNX without nulls is preferred.
    """
    compiled, parity = _compiled(kind, artifact, inferred)
    if compiled is None or parity.holds or not inferred.tried:
        return inferred, compiled, parity
    strict = inferred.refusing_tried_nulls()
    strict_compiled, strict_parity = _compiled(kind, artifact, strict)
    if strict_parity.holds:
        return strict, strict_compiled, strict_parity
    return inferred, compiled, parity


def _compiled(
    kind: ArtifactFormat, artifact: OpenArtifact, inferred: Inferred
) -> tuple[CompiledOnnx | None, ParityReport]:
    try:
        compiled = kind.to_onnx(artifact, inferred.signature, inferred.sample)
    except CannotCompile as exc:
        return None, ParityReport(holds=False, reason=str(exc))
    parity = check_parity(
        artifact, compiled, inferred.signature, inferred.sample, clock=time.perf_counter
    )
    return compiled, parity


def _files(parts: _Parts) -> BundleFiles:
    code = parts.overrides.options.get("code")
    copied = artifact_files(parts.path, code=None if code is None else Path(str(code)))
    written = {_LOCK: ("\n".join(parts.lock.requirements) + "\n").encode()}
    if parts.compiled is not None and _onnx_path(parts) == ONNX_PATH:
        written[ONNX_PATH] = parts.compiled.graph
    sample = parts.inferred.sample
    if sample is not None:
        examples, _ = encode_request(example_rows(sample))
        written |= {_EXAMPLES: examples, _PROFILE: profile_json(profile_of(sample))}
    return BundleFiles(copied=copied, written=written)


def _onnx_path(parts: _Parts) -> str:
    """Where the ONNX form is: an ONNX file is its own, and is not stored twice."""
    is_own = parts.artifact.format is Format.ONNX and parts.path.is_file()
    return artifact_path(parts.path) if is_own else ONNX_PATH


def _manifest(parts: _Parts, files: tuple[BundleFile, ...]) -> Manifest:
    content = _content(parts, files)
    return Manifest(digest=content.digest, content=content, provenance=_provenance(parts))


def _content(parts: _Parts, files: tuple[BundleFile, ...]) -> Content:
    artifact, compiled = parts.artifact, parts.compiled
    has_sample = parts.inferred.sample is not None
    onnx = None
    if compiled is not None:
        onnx = OnnxForm(path=_onnx_path(parts), feeds=compiled.feeds, outputs=compiled.outputs)
    return Content(
        format=artifact.format,
        artifact=artifact_path(parts.path),
        served=Served.ONNX if _serves_onnx(compiled, parts.parity) else Served.ORIGINAL,
        signature=parts.signature,
        environment=parts.lock,
        files=files,
        onnx=onnx,
        config=ModelConfig(
            threshold=parts.overrides.threshold, output_names=parts.overrides.output_names
        ),
        classes=artifact.classes,
        options=artifact.options,
        examples=_EXAMPLES if has_sample else None,
        profile=_PROFILE if has_sample else None,
    )


def _provenance(parts: _Parts) -> Provenance:
    notes = list(parts.inferred.notes)
    if not is_confirmed(parts.lock):
        notes.append(
            "The environment lock was read from the installed packages; uv could not confirm it."
        )
    return Provenance(
        lineage=parts.lineage,
        parity=parts.parity,
        metrics=parts.artifact.metrics | parts.overrides.metrics,
        notes=tuple(notes),
        shipway_version=_own_version(),
    )


def _own_version() -> str:
    try:
        return version("shipway")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return ""
