"""The engine of MLflow's `pyfunc` models, for flavours that Shipway has no engine for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shipway.core.tensors import Array
from shipway.engines.answers import named
from shipway.engines.frames import frame_of


def load_pyfunc(path: Path) -> Any:
    """The `mlflow.pyfunc.PyFuncModel` in a model directory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

        return mlflow.pyfunc.load_model(str(path))


class MlflowEngine:
    """A pyfunc model. As thread-safe as the model inside it."""

    def __init__(self, model: Any) -> None:
        """Named columns go in as a frame; tensors go in as MLflow's own signature wants them."""
        self._model = model
        schema = model.metadata.get_input_schema()
        self._takes_tensors = schema is not None and schema.is_tensor_spec()
        self._is_named = self._takes_tensors and schema.has_input_names()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The returned entries by their keys; a bare array or list is `prediction`."""
        with warnings.catch_warnings():
            # MLflow warns of its own deprecations at every call.
            warnings.simplefilter("ignore")
            return named(self._model.predict(self._data(inputs)))

    def _data(self, inputs: Mapping[str, Array]) -> Any:
        if self._is_named:
            return dict(inputs)
        if len(inputs) == 1 and (self._takes_tensors or next(iter(inputs.values())).ndim > 1):
            return next(iter(inputs.values()))
        return frame_of(inputs, tuple(inputs), null=None)
