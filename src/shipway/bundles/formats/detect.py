"""Which format an artifact has, told from its content and never from its name."""

from __future__ import annotations

from pathlib import Path

from shipway.bundles.formats.archives import Archive, archive_in
from shipway.bundles.formats.lightgbm import LightgbmFormat
from shipway.bundles.formats.mlflow import MlflowFormat
from shipway.bundles.formats.onnx import OnnxFormat
from shipway.bundles.formats.port import ArtifactFormat
from shipway.bundles.formats.python import PythonFormat
from shipway.bundles.formats.sklearn import SklearnFormat
from shipway.bundles.formats.torch import TorchExportFormat, TorchscriptFormat
from shipway.bundles.formats.xgboost import XgboostFormat
from shipway.core.errors import NotAModel

FORMATS: tuple[ArtifactFormat, ...] = (
    MlflowFormat(),
    XgboostFormat(),
    LightgbmFormat(),
    SklearnFormat(),
    OnnxFormat(),
    TorchscriptFormat(),
    TorchExportFormat(),
    PythonFormat(),
)
"""Every format, in the order in which they are asked. Those of wrappers come before scikit-learn."""

_KNOWN = (
    "scikit-learn, XGBoost and LightGBM (joblib, pickle or their own files), ONNX, TorchScript,"
    " torch.export, MLflow directories, and Python code with a class that has `predict`"
)


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
    if archive_in(path) is Archive.WEIGHTS:
        return NotAModel(
            f"`{path}` is a `torch.save` file: weights or a pickled module, without its code.",
            next_step="Save the model with `torch.export.save` or `torch.jit.save`.",
            path=str(path),
        )
    what = "an unknown directory" if path.is_dir() else "an unknown file"
    if path.is_file() and path.stat().st_size == 0:
        what = "the file is empty"
    return NotAModel(
        f"`{path}` is no model that Shipway can package: {what}.",
        next_step=f"Known formats are {_KNOWN}.",
        path=str(path),
    )
