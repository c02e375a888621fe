"""The engine of an original artifact, by its format. Each framework is imported when it is needed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shipway.core.bundles import Format
from shipway.core.signature import Signature
from shipway.engines.port import Engine


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """An original artifact to load: where it is, and what its manifest says about it."""

    path: Path
    format: Format
    signature: Signature
    options: Mapping[str, Any] = {}
    threads: int = 1


def original_engine(original: Original) -> Engine:
    """The engine of the artifact; raises what the framework raises."""
    return _LOADERS[original.format](original)


def _pickled(original: Original) -> Any:
    from shipway.engines.sklearn import load_pickled

    code = original.options.get("code")
    if code is not None:
        # Pickles name classes by module, so the modules have to be importable by that name.
        sys.path.insert(0, str(original.path.parent / code))
    return load_pickled(original.path)


def _estimator(original: Original, model: Any) -> Engine:
    from shipway.engines.sklearn import SklearnEngine

    return SklearnEngine(model, categorical=frozenset(original.options.get("categorical", ())))


def _sklearn(original: Original) -> Engine:
    return _estimator(original, _pickled(original))


def _xgboost(original: Original) -> Engine:
    from shipway.engines.xgboost import XgboostEngine, load_booster

    pickled = original.options.get("pickled", False)
    model = _pickled(original) if pickled else load_booster(original.path)
    if hasattr(model, "get_booster"):
        return _estimator(original, model)
    return XgboostEngine(model, threads=original.threads)


def _lightgbm(original: Original) -> Engine:
    from shipway.engines.lightgbm import LightgbmEngine, load_booster

    pickled = original.options.get("pickled", False)
    model = _pickled(original) if pickled else load_booster(original.path)
    if hasattr(model, "booster_"):
        return _estimator(original, model)
    return LightgbmEngine(model, threads=original.threads)


def _onnx(original: Original) -> Engine:
    from shipway.engines.onnx import OnnxEngine

    return OnnxEngine(original.path, signature=original.signature, threads=original.threads)


def _torchscript(original: Original) -> Engine:
    from shipway.engines.torch import TorchEngine, load_script, use_threads

    use_threads(original.threads)
    return TorchEngine.of_script(load_script(original.path))


def _torch_export(original: Original) -> Engine:
    from shipway.engines.torch import TorchEngine, load_exported, use_threads

    use_threads(original.threads)
    return TorchEngine.of_program(load_exported(original.path))


def _python(original: Original) -> Engine:
    from shipway.engines.python import PythonEngine, create

    return PythonEngine(create(original.path, original.options["class"]))


def _mlflow(original: Original) -> Engine:
    inner = original.options.get("inner")
    if inner is not None:
        kind = Format(original.options["inner_format"])
        return original_engine(
            msgspec.structs.replace(original, path=original.path / inner, format=kind)
        )
    from shipway.engines.mlflow import MlflowEngine, load_pyfunc

    return MlflowEngine(load_pyfunc(original.path))


_LOADERS: dict[Format, Callable[[Original], Engine]] = {
    Format.SKLEARN: _sklearn,
    Format.XGBOOST: _xgboost,
    Format.LIGHTGBM: _lightgbm,
    Format.ONNX: _onnx,
    Format.TORCHSCRIPT: _torchscript,
    Format.TORCH_EXPORT: _torch_export,
    Format.MLFLOW: _mlflow,
    Format.PYTHON: _python,
}
