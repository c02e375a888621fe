"""Which format an artifact has, told from its content and never from its name."""

from __future__ import annotations

from pathlib import Path

from shipway.bundles.formats.port import ArtifactFormat
from shipway.bundles.formats.sklearn import SklearnFormat
from shipway.core.bundles import Format
from shipway.core.errors import NotAModel

FORMATS: tuple[ArtifactFormat, ...] = (SklearnFormat(),)
"""Every format, in the order in which they are asked. Those of wrappers come before scikit-learn."""

_KNOWN = (
    "scikit-learn, XGBoost and LightGBM (joblib, pickle or their own files), ONNX, TorchScript,"
    " torch.export, MLflow directories, and Python code with a class that has `predict`"
)


def format_of(kind: Format) -> ArtifactFormat:
    """The format of that name."""
    return next(item for item in FORMATS if item.name is kind)


def detect(path: Path) -> ArtifactFormat:
    """The format of the file or directory.

    Raises:
        NotAModel: it does not exist, is empty, or is of no format that Shipway knows.
    """
    if not path.exists():
        raise NotAModel(
            f"There is no file or directory `{path}`.", next_step="Check the path.", path=str(path)
        )
    found = next((item for item in FORMATS if item.recognises(path)), None)
    if found is None:
        raise _unknown(path)
    return found


def _unknown(path: Path) -> NotAModel:
    what = "directory" if path.is_dir() else "file"
    if path.is_file() and path.stat().st_size == 0:
        what = "empty file"
    return NotAModel(
        f"`{path}` is no model that Shipway can package: an unknown {what}.",
        next_step=f"Known formats are {_KNOWN}.",
        path=str(path),
    )
