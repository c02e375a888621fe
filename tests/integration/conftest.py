"""A saved model on its way through its format, shared by the tests of formats and engines."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shipway.bundles.formats.detect import detect
from shipway.bundles.formats.layout import artifact_files, artifact_path
from shipway.bundles.formats.port import CannotCompile, CompiledOnnx, OpenArtifact, Sample
from shipway.bundles.parity import check_parity
from shipway.bundles.samples import sample_of
from shipway.bundles.signature import infer_signature
from shipway.core.bundles import Content, EnvironmentLock, ParityReport, Served
from shipway.core.signature import Signature
from shipway.engines.load import load_engine
from shipway.engines.onnx import OnnxEngine


@dataclass
class Prepared:
    """What became of a saved model. `reason` says why there is no ONNX form."""

    path: Path
    artifact: OpenArtifact
    signature: Signature
    sample: Sample | None
    compiled: CompiledOnnx | None
    reason: str
    code: Path | None

    def parity(self) -> ParityReport:
        return check_parity(
            self.artifact, self.compiled, self.signature, self.sample, clock=time.perf_counter
        )

    def onnx(self) -> OnnxEngine:
        return OnnxEngine(
            self.compiled.graph,
            signature=self.signature,
            feeds=self.compiled.feeds,
            outputs=self.compiled.outputs,
        )

    def original(self, directory: Path):
        """The engine of the original, loaded from a bundle's layout in `directory`."""
        for name, source in artifact_files(self.path, code=self.code).items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, directory / name)
        content = Content(
            format=self.artifact.format,
            artifact=artifact_path(self.path),
            served=Served.ORIGINAL,
            signature=self.signature,
            environment=EnvironmentLock(python="3.11", requirements=()),
            files=(),
            options=self.artifact.options,
        )
        return load_engine(directory, content)


@pytest.fixture(scope="session")
def prepare():
    def prepare(path: Path, sample: Any, **options: Any) -> Prepared:
        kind = detect(path)
        artifact = kind.open(path, options=options)
        assert artifact.format is kind.name
        inferred = infer_signature(artifact, None if sample is None else sample_of(sample))
        found = _prepared(path, kind, artifact, inferred, options.get("code"))
        if found.compiled is not None and inferred.tried and not found.parity().holds:
            found = _prepared(
                path, kind, artifact, inferred.refusing_tried_nulls(), options.get("code")
            )
        return found

    return prepare


def _prepared(path, kind, artifact, inferred, code) -> Prepared:
    compiled, reason = None, ""
    try:
        compiled = kind.to_onnx(artifact, inferred.signature, inferred.sample)
    except CannotCompile as exc:
        reason = str(exc)
    return Prepared(
        path=path,
        artifact=artifact,
        signature=inferred.signature,
        sample=inferred.sample,
        compiled=compiled,
        reason=reason,
        code=code,
    )
