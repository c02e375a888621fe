"""Models that are still in memory, saved as the file that their format is packaged from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shipway.core.errors import NotAModel


def describe(model: object) -> str:
    """What stands for the source path of an object: `sklearn.svm.SVC object`."""
    kind = type(model)
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__} object"


def save_object(model: object, directory: Path) -> Path:
    """The file in `directory` that now holds the model, in its framework's own format.

    Raises:
        NotAModel: it is no fitted estimator, booster, scripted or exported module, or ONNX graph.
    """
    framework, kind = type(model).__module__.partition(".")[0], type(model).__name__
    live: Any = model
    if kind == "Booster" and framework in {"xgboost", "lightgbm"}:
        path = directory / ("model.ubj" if framework == "xgboost" else "model.txt")
        live.save_model(str(path))
        return path
    if framework == "onnx" and hasattr(live, "SerializeToString"):
        path = directory / "model.onnx"
        path.write_bytes(live.SerializeToString(deterministic=True))
        return path
    if framework == "torch":
        return _save_torch(live, directory)
    return _save_pickled(live, directory)


def _save_torch(model: Any, directory: Path) -> Path:
    import torch

    if isinstance(model, torch.jit.ScriptModule):
        path = directory / "model.pt"
        model.save(str(path))
        return path
    if isinstance(model, torch.export.ExportedProgram):
        path = directory / "model.pt2"
        torch.export.save(model, path)
        return path
    raise NotAModel(
        f"A `{type(model).__name__}` cannot be packaged: its code is not part of it.",
        next_step="Package what `torch.jit.script`, `torch.jit.trace` or `torch.export.export` gives.",
    )


def _save_pickled(model: Any, directory: Path) -> Path:
    if isinstance(model, type) or not (hasattr(model, "predict") or hasattr(model, "transform")):
        raise NotAModel(
            f"A `{type(model).__name__}` is no model: it has neither `predict` nor `transform`.",
            next_step="Give a fitted model, or the path of a saved one.",
        )
    import joblib

    path = directory / "model.joblib"
    joblib.dump(model, path)
    return path
