"""The port behind which every artifact format lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from shipway.core.bundles import Feed, Format
from shipway.core.signature import Signature
from shipway.core.tensors import Array
from shipway.engines.port import Engine

Task = Literal["classification", "regression", "clustering", "transformation", "other"]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Example inputs of a model, read from a file or a frame.

    `inputs` are in order: columns as 1-D arrays [rows] when `is_table`, else named tensors whose
    first dimension counts rows. Nulls are NaN in float arrays and None in object arrays.
    `source` and `sha256` say where it came from (None for a frame in memory).
    """

    inputs: dict[str, Array]
    is_table: bool
    source: str | None = None
    sha256: str | None = None

    @property
    def rows(self) -> int:
        """How many rows the sample has."""
        return len(next(iter(self.inputs.values()), ()))


class OpenArtifact(msgspec.Struct, kw_only=True):
    """A trained artifact, loaded in this process, with what its format can tell.

    `engine` runs the original. `feature_names` are the columns it was trained on, when it knows
    them; `feature_count` the width of a bare matrix. `signature` is the format's own (ONNX graph,
    MLflow), None when it has none. `modules` are the top-level modules it imports when it loads.
    `requirements` are pinned by the artifact itself (MLflow). `options` go to the manifest.
    `batchable` is None when only running it can tell.
    """

    format: Format
    model: Any
    engine: Engine
    task: Task = "other"
    feature_names: tuple[str, ...] | None = None
    feature_count: int | None = None
    classes: tuple[str | int | float | bool, ...] | None = None
    signature: Signature | None = None
    modules: frozenset[str] = frozenset()
    requirements: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    batchable: bool | None = None
    run_id: str | None = None
    metrics: dict[str, float] = {}


class CompiledOnnx(msgspec.Struct, frozen=True, kw_only=True):
    """The ONNX form of an open artifact, before it is written into a bundle."""

    graph: bytes
    feeds: tuple[Feed, ...]
    outputs: dict[str, str]


class CannotCompile(Exception):
    """This model has no ONNX form; the message says why, for the parity report."""


class ArtifactFormat(Protocol):
    """One format of trained artifacts."""

    name: Format

    def recognises(self, path: Path) -> bool:
        """Whether the content of the file or directory is of this format; reads little of it."""
        ...

    def open(self, path: Path, *, options: dict[str, Any]) -> OpenArtifact:
        """Loads it. `options` are the person's own, such as `{"class": "model:Churn"}`.

        Raises:
            InvalidArtifact: which of its kinds, and what is missing or damaged.
        """
        ...

    def to_onnx(
        self, artifact: OpenArtifact, signature: Signature, sample: Sample | None
    ) -> CompiledOnnx:
        """The ONNX form. For an ONNX artifact, the artifact itself.

        Raises:
            CannotCompile: there is none, with the reason.
        """
        ...
