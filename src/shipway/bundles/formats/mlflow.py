"""MLflow model directories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from shipway.bundles.documents import documents_of
from shipway.bundles.formats.lightgbm import LightgbmFormat
from shipway.bundles.formats.mlflow_schema import signature_of
from shipway.bundles.formats.onnx import OnnxFormat
from shipway.bundles.formats.packages import missing_package, needs
from shipway.bundles.formats.port import (
    ArtifactFormat,
    CannotCompile,
    CompiledOnnx,
    OpenArtifact,
    Sample,
)
from shipway.bundles.formats.sklearn import SklearnFormat
from shipway.bundles.formats.xgboost import XgboostFormat
from shipway.core.bundles import Format
from shipway.core.errors import InvalidArtifact, NotAModel
from shipway.core.signature import Signature
from shipway.engines.mlflow import MlflowEngine, load_pyfunc

_NATIVE: dict[str, tuple[ArtifactFormat, ...]] = {
    "sklearn": (SklearnFormat(),),
    "xgboost": (XgboostFormat(),),
    "lightgbm": (LightgbmFormat(),),
    "onnx": (OnnxFormat(),),
}
_FILE_KEYS = ("pickled_model", "data", "model_path")


class MlflowFormat:
    """What `mlflow.<flavour>.save_model` and `log_model` write.

    A model that lies inside as a scikit-learn, XGBoost, LightGBM or ONNX file is run by that
    format's own engine, without MLflow; all others through `mlflow.pyfunc`.
    """

    name = Format.MLFLOW

    def recognises(self, path: Path) -> bool:
        """Whether it is a directory with an `MLmodel` file that lists flavours."""
        return (path / "MLmodel").is_file() and "flavors" in _description(path, checked=False)

    def open(self, path: Path, *, options: dict[str, Any]) -> OpenArtifact:
        """Loads the model inside; MLflow's requirements and run id are kept."""
        about = _description(path, checked=True)
        opened = _open_native(path, about, options) or _open_pyfunc(path, about)
        return msgspec.structs.replace(
            opened,
            format=self.name,
            requirements=_requirements(path),
            run_id=about.get("run_id"),
        )

    def to_onnx(
        self, artifact: OpenArtifact, signature: Signature, sample: Sample | None
    ) -> CompiledOnnx:
        """The graph of the model inside, when that is of a format that compiles."""
        kind = artifact.options.get("inner_format")
        natives = (item for found in _NATIVE.values() for item in found)
        inner = next((item for item in natives if item.name == kind), None)
        if inner is None:
            raise CannotCompile("MLflow runs it through `pyfunc`, which has no graph.")
        return inner.to_onnx(artifact, signature, sample)


def _description(path: Path, *, checked: bool) -> dict[str, Any]:
    try:
        found = documents_of((path / "MLmodel").read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        if not checked:
            return {}
        raise NotAModel(
            f"`{path / 'MLmodel'}` cannot be read: {exc}", next_step="Save the model again."
        ) from exc
    return found[0] if found and isinstance(found[0], dict) else {}


def _requirements(path: Path) -> tuple[str, ...]:
    file = path / "requirements.txt"
    if not file.is_file():
        return ()
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith(("#", "-")))


def _inner_files(path: Path, about: dict[str, Any]) -> Iterator[tuple[ArtifactFormat, Path]]:
    """The files of flavours that Shipway runs by itself, with the format of each."""
    for flavour, formats in _NATIVE.items():
        known = about["flavors"].get(flavour) or {}
        for name in (str(known[key]) for key in _FILE_KEYS if known.get(key)):
            file = path / name
            for item in formats:
                if file.is_file() and item.recognises(file):
                    yield item, file


def _open_native(path: Path, about: dict[str, Any], options: dict[str, Any]) -> OpenArtifact | None:
    found = next(_inner_files(path, about), None)
    if found is None:
        return None
    inner, file = found
    code = _code(path, about)
    opened = inner.open(file, options=options if code is None else {**options, "code": code})
    kept = {**opened.options, "inner": file.relative_to(path).as_posix()}
    if code is not None:
        kept["code"] = code.relative_to(file.parent).as_posix()
    own = signature_of(about.get("signature"), with_outputs=False)
    return msgspec.structs.replace(
        opened,
        options={**kept, "inner_format": inner.name.value},
        signature=opened.signature or own,
    )


def _code(path: Path, about: dict[str, Any]) -> Path | None:
    name = (about["flavors"].get("python_function") or {}).get("code")
    return path / name if name and (path / name).is_dir() else None


def _open_pyfunc(path: Path, about: dict[str, Any]) -> OpenArtifact:
    if "python_function" not in about["flavors"]:
        raise InvalidArtifact(
            f"`{path}` has flavours {sorted(about['flavors'])}, and none that can be served.",
            next_step="Save it with a flavour that has `python_function`.",
        )
    needs(path, "mlflow")
    model = _loaded(path)
    signature = signature_of(about.get("signature"), with_outputs=True)
    return OpenArtifact(
        format=Format.MLFLOW,
        model=model,
        engine=MlflowEngine(model),
        signature=signature,
        modules=frozenset({"mlflow", "pandas", "numpy"}) | _loader_modules(about),
    )


def _loader_modules(about: dict[str, Any]) -> frozenset[str]:
    """The framework of the flavour beside `python_function`, such as `torch`."""
    names = {"pytorch": "torch", "tensorflow": "tensorflow", "statsmodels": "statsmodels"}
    return frozenset(names[flavour] for flavour in about["flavors"] if flavour in names)


def _loaded(path: Path) -> Any:
    try:
        return load_pyfunc(path)
    except ModuleNotFoundError as exc:
        absent = (exc.name or "?").partition(".")[0]
        raise missing_package(path, absent, name=exc.name or "?") from exc
    except Exception as exc:
        raise InvalidArtifact(
            f"MLflow cannot load `{path}`: {type(exc).__name__}: {exc}.",
            next_step="Check that `mlflow.pyfunc.load_model` loads it in this environment.",
        ) from exc
