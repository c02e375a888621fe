"""The manifest of a bundle: `shipway.json`.

`content` is what the bundle *is*; its canonical JSON is hashed into the bundle's digest, so the same
model packaged twice is the same bundle. `provenance` is how it came to be (who, when, measured
timings); it is kept beside the content and outside the digest.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

import msgspec

from shipway.core.signature import Signature

MANIFEST_NAME = "shipway.json"


class Format(StrEnum):
    """The formats that a trained artifact may have."""

    SKLEARN = "sklearn"
    XGBOOST = "xgboost"
    LIGHTGBM = "lightgbm"
    ONNX = "onnx"
    TORCHSCRIPT = "torchscript"
    TORCH_EXPORT = "torch_export"
    MLFLOW = "mlflow"
    PYTHON = "python"


class Served(StrEnum):
    """Which of a bundle's two forms answers requests."""

    ONNX = "onnx"
    ORIGINAL = "original"


class BundleFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a bundle. `path` is relative, with forward slashes."""

    path: str
    sha256: str
    size_bytes: int


class Feed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one ONNX graph input is filled from the signature's inputs.

    One column or tensor: it is passed on, a column as [rows, 1]. Several columns: they are stacked,
    in order, into one matrix [rows, len(columns)] of the graph input's dtype.
    """

    graph_input: str
    dtype: str
    columns: tuple[str, ...]


class OnnxForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ONNX form of a model.

    `path` is inside the bundle; `feeds` fill the graph's inputs; `outputs` maps each output name of
    the signature (before renaming by the config) to the graph's output name.
    """

    path: str
    feeds: tuple[Feed, ...]
    outputs: dict[str, str]


class EnvironmentLock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The exact packages that the model needs, as sorted `name==version` lines.

    `python` is the "major.minor" it was packaged with.
    """

    python: str
    requirements: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Hex SHA-256 over Python version and requirements: the name of the built environment."""
        text = "\n".join((self.python, *self.requirements))
        return sha256(text.encode()).hexdigest()


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person sets about a model without retraining it.

    `threshold`: for a binary classifier, the probability of the second class from which the label
    is the second class (0..1); None leaves the model's own rule. `output_names` renames outputs,
    from the engine's name to the callers' name.
    """

    threshold: float | None = None
    output_names: dict[str, str] = {}


class Content(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the bundle is; hashed into the digest.

    `artifact` is the path of the original model inside the bundle (a file or a directory).
    `options` are facts the format's engine needs to load it, e.g. `{"class": "model:Churn"}`.
    `classes` are the labels of a classifier in the order of its probabilities.
    `examples` and `profile` are paths of files inside the bundle, when there was a sample.
    """

    schema: int = 1
    format: Format
    artifact: str
    served: Served
    signature: Signature
    environment: EnvironmentLock
    files: tuple[BundleFile, ...]
    onnx: OnnxForm | None = None
    config: ModelConfig = ModelConfig()
    classes: tuple[str | int | float | bool, ...] | None = None
    options: dict[str, Any] = {}
    examples: str | None = None
    profile: str | None = None

    @property
    def digest(self) -> str:
        """`sha256:` and the hex hash of the canonical JSON (sorted keys) of this content."""
        # Read back first: an int where a float is declared must hash as it will when it is read.
        read_back = msgspec.json.decode(msgspec.json.encode(self), type=Content)
        canonical = msgspec.json.encode(read_back, order="deterministic")
        return f"sha256:{sha256(canonical).hexdigest()}"


class ParityReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the ONNX form compares with the original on the sample and on generated edge rows.

    `largest_difference` is the largest absolute difference of any numeric output, `tolerance` what
    was allowed. `speed_up` is original time / ONNX time for one row, None when not measured.
    `holds` decides which form is served; `reason` says why it does not hold, or why none was made.
    """

    holds: bool
    reason: str
    sample_rows: int = 0
    edge_rows: int = 0
    label_mismatches: int = 0
    largest_difference: float = 0.0
    tolerance: float = 0.0
    original_ms: float | None = None
    onnx_ms: float | None = None
    speed_up: float | None = None


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a bundle came from."""

    source: str
    source_sha256: str
    created_at: datetime
    created_by: str
    git_commit: str | None = None
    git_dirty: bool | None = None
    training_data: str | None = None
    training_data_sha256: str | None = None
    run_id: str | None = None


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """How the bundle came to be; kept beside the content, outside the digest."""

    lineage: Lineage
    parity: ParityReport | None = None
    metrics: dict[str, float] = {}
    notes: tuple[str, ...] = ()
    shipway_version: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of `shipway.json`."""

    digest: str
    content: Content
    provenance: Provenance
